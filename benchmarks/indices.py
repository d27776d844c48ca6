"""Wrong indices over random frames of all specimens."""

from collections.abc import Mapping

from benchmarks.indexing import wrong_indices
from benchmarks.results import Measured

__all__ = ["indices"]


def indices(*, quick: bool) -> Mapping[str, Measured]:
    """Index random frames and compare with the truth.

    Parameters
    ----------
    quick : bool
        18 frames, two of each specimen.

    Returns
    -------
    Mapping of str to Measured
        Wrong, false and refused.
    """
    total = wrong_indices(18 if quick else 200)
    refused = f"{total['refused_bright']} of {total['bright_frames']} frames"
    return {
        "indices wrong": Measured(
            value=float(total["wrong"]),
            beside=f"of {total['indexed']} indexed; {total['wrong_cells']} wrong cells",
        ),
        "indices false": Measured(value=total["false_share"], beside=f"{total['false']} columns"),
        "indices refused": Measured(
            value=100 * total["refused_bright_share"],
            beside=f"{refused}; {total['refused']} of all {total['frames']}",
        ),
    }
