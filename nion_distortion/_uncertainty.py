"""Numbers with their uncertainty in words; light, because the window of the host uses it too."""

import math

__all__ = ["with_std"]


def with_std(value: float, std: float | None, unit: str) -> str:
    """Write a number with its uncertainty and its unit.

    Parameters
    ----------
    value : float
        The number.
    std : float or None
        Its standard deviation; None where it is not known.
    unit : str
        Of both.

    Returns
    -------
    str
        The deviation to two digits, the number to the same place: ``"36.3 +- 1.2 pm"``; without a
        deviation, three digits of the number.
    """
    if std is None or not std > 0.0:
        return f"{value:.3g} {unit}"
    digits = max(0, 1 - math.floor(math.log10(std)))
    return f"{value:.{digits}f} +- {std:.{digits}f} {unit}"
