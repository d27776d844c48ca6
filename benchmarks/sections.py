"""The tables below the targets: what is left, and what is claimed, against one thing at a time.

The one list of their heads and rows, which the written results follow.
"""

from dataclasses import dataclass

__all__ = [
    "BEST",
    "CELLS_PX",
    "DOSES",
    "FRAMES",
    "JUDGED",
    "LAGS_NM",
    "RIVALS",
    "SAMPLED_COUNTS",
    "SECTIONS",
    "SIDES_PX",
    "VIEWS_NM",
    "Section",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One table.

    Parameters
    ----------
    case : str
        What measures it.
    title : str
        Unique.
    note : str
        What was simulated, and how to read it.
    head : tuple of str
        Names of the columns; the first is that of the rows' names.
    rows : tuple of str
        Names of the rows.
    """

    case: str
    title: str
    note: str
    head: tuple[str, ...]
    rows: tuple[str, ...]

    def key(self, row: str, column: str) -> str:
        """Name a cell.

        Parameters
        ----------
        row, column : str
            Where it stands.

        Returns
        -------
        str
            Unique among all cells and targets.
        """
        return f"{self.title}: {row}: {column}"

    @property
    def keys(self) -> tuple[tuple[str, ...], ...]:
        """The cells, by name, row by row."""
        return tuple(tuple(self.key(row, column) for column in self.head[1:]) for row in self.rows)


STO_NM, VIEW_NM, SIDE_PX = 0.3905, 16.0, 512

FRAMES = (1, 2, 5, 10, 20)
DOSES = (3, 5, 10, 20, 50, 100, 200, 500)
VIEWS_NM = (6, 8, 12, 16, 24, 32)
LAGS_NM = (-0.3, -0.15, -0.05, 0.0, 0.05, 0.1, 0.2, 0.3)
SIDES_PX = (256, 384, 512, 768, 1024)
CELLS_PX = tuple(f"{STO_NM / VIEW_NM * side:.1f}" for side in SIDES_PX)
SAMPLED_COUNTS = (2, 10, 50)
BEST = "best, within 10 %"

RIVALS = (
    "nothing",
    "mean of 4 other frames",
    "one squared exponential",
    "ours, one frame",
    "ours, 5 frames",
)
JUDGED = ("same frame", "other frame", "other sample", "its columns")

COLUMNS = (
    "left, pm (slow/fast)",
    "claimed, pm",
    "error over claim",
    "worst point, pm",
    "removed, %",
    "frames",
)

HOW = (
    "Stationary field of one frame: rms per axis over all pixels that the scan saw, the free affine"
    " map removed; the field's own standard deviation; the median of the worst points. SrTiO3"
    " [001], images, at first of 512 x 512 pixels and 16 nm with 50 electrons at a Sr peak; strong"
    " fly-back of either sign by turns, and a smooth field of 40 pm."
)


def _magnified(lag_nm: float) -> str:
    """Say how much wider the lattice looks at the line start."""
    return f"{lag_nm:g} ({1 / (1 - lag_nm / (0.03 * VIEW_NM)):.2f})"


SECTIONS: tuple[Section, ...] = (
    Section(
        case="frames",
        title="Error against the number of frames",
        note="Real-like scan: fly-back, steps, a walk of 10 pm, line jitter of 5 pm, drift; frames"
        " learnt one by one as live, amplitudes found again after the fifth. Stationary field, and"
        " the corrected picture of the newest frame, shifts of its lines taken out as well; rms per"
        " axis. Steps along x rise within four pixels: a live model has too few functions for them"
        " and leaves more than 2 pm, which it claims by their prior; `calibrate` has more.",
        head=(
            "frames",
            "left, pm (slow/fast)",
            "claimed, pm",
            "error over claim",
            "removed, %",
            "picture: left, pm",
            "picture: claimed, pm",
            "realisations",
        ),
        rows=tuple(f"{frames}" for frames in FRAMES),
    ),
    Section(
        case="dose",
        title="Error against the dose",
        note=HOW,
        head=("electrons at a Sr peak", *COLUMNS),
        rows=tuple(f"{counts}" for counts in DOSES),
    ),
    Section(
        case="view",
        title="Error against the field of view",
        note=HOW + " All distortion is a share of the field of view. Pixels grow with it, and with"
        " them the errors of the columns, but so does the square root of their number: what is left"
        " in pm stays.",
        head=("field of view, nm", *COLUMNS),
        rows=tuple(f"{view}" for view in VIEWS_NM),
    ),
    Section(
        case="strength",
        title="Error against the strength of the fly-back",
        note=HOW + " How far the beam lags at the line start, and how much wider the lattice"
        " looks there; negative: it overshoots.",
        head=("lag, nm (magnified)", *COLUMNS),
        rows=tuple(_magnified(lag) for lag in LAGS_NM),
    ),
    Section(
        case="sampling",
        title="Error against pixels per cell, and the best pixel size for a dose",
        note=HOW + " Frames of 256 to 1024 lines, the same 16 nm and in each cell the same"
        " electrons, those at a Sr peak for 12.5 pixels per cell. Left, in brackets claimed, number"
        " of frames. Against Poisson noise pixels make no difference until, of few electrons, the"
        " columns themselves are hardly found in small ones.",
        head=(
            "pixels per cell",
            *(f"{counts} electrons" for counts in SAMPLED_COUNTS),
        ),
        rows=(*CELLS_PX, BEST),
    ),
    *(
        Section(
            case="rivals",
            title=f"Ours beside the usual ways: {kind}",
            note=f"{what}; 8 nm, 256 x 256 pixels, images, four scans. All ways are given the"
            " columns found in the same frames of SrTiO3. Share removed, left in pm (slow/fast, rms"
            " over all pixels seen) and the worst point (median) by the beam's true path: in one"
            " learnt from, in another frame, and in one of PbTiO3/SrTiO3 under the same settings;"
            " last, columns found in the picture of that sample about their true places, with the"
            " error of their fits. What the beam did in the judged frame only is part of all; ours"
            " takes out of the frame learnt from what its lines show, as its report does. The mean"
            " is interpolated between columns; the squared exponential is a Gaussian process of the"
            " place on the sample, its length, amplitude and noise learnt.",
            head=("corrected by", *JUDGED),
            rows=RIVALS,
        )
        for kind, what in (
            ("strong fly-back", "Strong fly-back of either sign and a smooth field"),
            ("real-like", "Fly-back, steps, a walk of 10 pm, jitter of 5 pm, and drift"),
        )
    ),
)
