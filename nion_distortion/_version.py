"""The version that is installed, for the command line and for what a result records."""

import functools
from importlib.metadata import PackageNotFoundError, version

__all__ = ["installed_version"]


@functools.cache
def installed_version() -> str:
    """Return the version of this package; looked up once, for every corrected frame names it.

    Returns
    -------
    str
        That of the installed distribution, or that there is none.
    """
    try:
        return version("nion-distortion")
    except PackageNotFoundError:
        return "not installed"
