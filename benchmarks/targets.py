"""What is measured and what it should be: the one list that the table of results follows."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["TARGETS", "Target"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One number that is measured.

    Parameters
    ----------
    name : str
        Unique; its first word is the case that measures it.
    what : str
        What is measured, for the table.
    direction : {"<=", ">="}
        Whether the number should be at most or at least the goal.
    goal : float
        In the unit.
    unit : str
        Of number and goal.
    source : str
        Where the goal comes from.
    shortfall : str, default: ""
        Why the goal is missed, as far as it is known; shown only where it is missed.
    """

    name: str
    what: str
    direction: Literal["<=", ">="]
    goal: float
    unit: str
    source: str
    shortfall: str = ""

    @property
    def case(self) -> str:
        """The case that measures it."""
        return self.name.split()[0]

    def is_met(self, value: float) -> bool:
        """Compare a number with the goal.

        Parameters
        ----------
        value : float
            In the unit.

        Returns
        -------
        bool
            Whether it is as good as the goal.
        """
        return value <= self.goal if self.direction == "<=" else value >= self.goal


JOB = "x one cubic map_coordinates"
AT_MOST: Literal["<="] = "<="
AT_LEAST: Literal[">="] = ">="
DESIGN, ISSUE = "goal of the whole project", "goal of the first release"

FRAME_SHORTFALL = (
    "at 512 x 512 columns take a third of it, most of that in kernels that fit and draw; index and"
    " model a third, the field a fifth, shifts of lines a tenth; a second thread saves a quarter at"
    " most, because much of it is NumPy calls of under 0.1 ms between which Python's lock changes"
    " hands; hosts differ and drift, also within minutes: by turns with the code before, a frame of"
    " 512 x 512 took 0.83 of its time (50 and 60 ms, least of 40), 1024 and 2048 about 0.8"
)

SWIFT_SHORTFALL = (
    "while nine panels are drawn the host holds Python's lock for two thirds of the time, and uses"
    " one of two cores; frames are processed by another process, which has the other"
)

EXACT_SHORTFALL = (
    "cosines reflect the smooth term at the ends of their interval, with 4 % of its variance at the"
    " rim, and a calibration has at most 20 of them along one axis, a live model 16"
)

STRAIN_STEP, POLAR_SHIFT = "strain step of PbTiO3/SrTiO3", "polar shift of BaTiO3"
IN_SCAN, IN_PICTURE = "columns found in the frame as scanned", "columns found in the picture"

POLAR_SHORTFALL = (
    "tails of bright neighbours draw the weak column: kinds have tails of their own height, and one"
    " for all is learnt"
)
INTERPOLATED_SHORTFALL = (
    "twenty frames tell it to 0.08: on forty others it is 1.05 +- 0.06, and 1.03 in the frames as"
    " scanned"
)

CALIBRATED_SHORTFALL = (
    "of 1.36 pm along x 1.22 are a function of y, as is the mean of 20 walks of 10 pm (2.2 pm),"
    " 0.49 are steps along x and 0.35 all the rest: an estimator that is told every amplitude,"
    " length and decay, beside the rms, is no better"
)

TARGETS: tuple[Target, ...] = (
    *(
        Target(
            name=f"frame {size}",
            what=f"live frame, complete to corrected, {size} x {size}",
            direction="<=",
            goal=goal,
            unit=JOB,
            source=DESIGN,
            shortfall=FRAME_SHORTFALL,
        )
        for size, goal in ((512, 2.1), (1024, 1.4), (2048, 0.8))
    ),
    Target(
        name="first 512",
        what="what a first frame costs beyond a live one (hyperparameters), 512 x 512",
        direction="<=",
        goal=500.0,
        unit="ms",
        source=DESIGN,
        shortfall="25 decays are tried in each of four to six passes, each followed by a search"
        " over ten numbers for each axis: 130 trials, with an inverse of 350 rows each, take a"
        " quarter of the time, decays a fifth; fewer passes cost accuracy at the line start",
    ),
    *(
        Target(
            name=f"apply {size}",
            what=f"known field applied, {size} x {size}",
            direction="<=",
            goal=goal,
            unit=JOB,
            source=DESIGN,
            shortfall="image, coefficients and field pass through memory once, and the two threads"
            " together wait for it; met by 4 % in another run of the same day",
        )
        for size, goal in ((512, 0.16), (1024, 0.085), (2048, 0.06))
    ),
    Target(
        name="interpolation position",
        what="position error of the interpolation, rms",
        direction="<=",
        goal=0.05,
        unit="pm",
        source=DESIGN,
    ),
    *(
        Target(
            name=f"flyback {sign} {name}",
            what=f"strong fly-back, the beam {does}: {what}",
            direction=direction,
            goal=goal,
            unit=unit,
            source=DESIGN,
        )
        for sign, does in (("lag", "lags"), ("overshoot", "overshoots"))
        for name, what, direction, goal, unit in (
            ("mean", "share removed, mean of four frames", AT_LEAST, 99.95, "%"),
            ("least", "share removed, least of four frames", AT_LEAST, 99.9, "%"),
            ("worst", "worst point that the scan saw, median of four frames", AT_MOST, 10.0, "pm"),
        )
    ),
    Target(
        name="calibrated share",
        what="20 real-like frames through calibrate: removed by its stationary field, six seeds",
        direction=AT_LEAST,
        goal=99.8,
        unit="%",
        source=DESIGN,
        shortfall=CALIBRATED_SHORTFALL,
    ),
    Target(
        name="calibrated rms",
        what="20 real-like frames through calibrate: left inside a margin of 6 %, rms, worse axis",
        direction=AT_MOST,
        goal=1.4,
        unit="pm",
        source=DESIGN,
        shortfall=CALIBRATED_SHORTFALL,
    ),
    Target(
        name="calibrated worst",
        what="20 real-like frames through calibrate: worst point seen, median of six seeds",
        direction=AT_MOST,
        goal=10.0,
        unit="pm",
        source=DESIGN,
        shortfall="the first and the last columns of a line, outside which nothing is seen",
    ),
    Target(
        name="calibrated z",
        what="20 real-like frames through calibrate: error over claim, rms, off 1 by",
        direction=AT_MOST,
        goal=0.1,
        unit="",
        source=DESIGN,
        shortfall="the smooth field is a few waves in this simulation, not a draw of the prior",
    ),
    Target(
        name="calibrated coverage",
        what="20 real-like frames through calibrate: errors within 95 % bands",
        direction=AT_LEAST,
        goal=93.0,
        unit="%",
        source=DESIGN,
        shortfall="the smooth field is a few waves in this simulation, not a draw of the prior",
    ),
    Target(
        name="calibrated time",
        what="calibrate, 20 frames of 512 x 512, columns and hyperparameters included",
        direction=AT_MOST,
        goal=10.0,
        unit="s",
        source=DESIGN,
        shortfall="columns take less than a fifth of it; the rest are five passes over all frames,"
        " in two of which amplitudes are learnt from the evidence of all of them; 8 to 9 s where"
        " the reference job takes 16 ms; where it takes 20, this code took 10.8 to 12.8 s in three"
        " runs, and the code before it, which took 8.3 elsewhere, 10.7 to 13.2",
    ),
    Target(
        name="calibrated update",
        what="a calibrated model learns from one more frame of 512 x 512, least of twelve",
        direction=AT_MOST,
        goal=8.0,
        unit="ms",
        source=DESIGN,
        shortfall="on two cores, of 17 ms 7 go into sums over 3200 columns and what they make of"
        " 500 to 600 functions, 3 to 4 into elimination and factorisation, 1.5 each into the"
        " places of the columns and the comparison with what was expected, 1 each into D at all"
        " pixels and the drift; 24 ms is that of a calibration with 614 functions on a slow host,"
        " on which the code before took 22 to 26: this one took 0.85 to 0.97 of it in six runs by"
        " turns",
    ),
    Target(
        name="calibrated field",
        what="stationary field with its standard deviation, 512 x 512, least of twelve",
        direction=AT_MOST,
        goal=12.0,
        unit="ms",
        source=DESIGN,
        shortfall="a calibration has some 250 cosines along x, a live model 90; 10.2 to 12.8 ms"
        " with 512 functions, 11.7 to 14.6 with 614, by the minute, on a host whose cubic"
        " map_coordinates takes 20 ms; the code before took 0.95 to 1.15 of it",
    ),
    Target(
        name="coils scale",
        what="known crystal, coils off by -3 %, 1.5 % and 0.02 rad, 1 nm/min at 4 us, walk of 5 pm,"
        " 4 frames: largest error of a scale",
        direction=AT_MOST,
        goal=0.05,
        unit="%",
        source=DESIGN,
    ),
    Target(
        name="coils skew",
        what="the same: largest error of the skew",
        direction=AT_MOST,
        goal=0.05,
        unit="deg",
        source=DESIGN,
    ),
    Target(
        name="coils z",
        what="the same, eight seeds: errors over their error bars, rms, off 1 by",
        direction=AT_MOST,
        goal=0.1,
        unit="",
        source=DESIGN,
        shortfall="bars come from each frame's own fit and from the scatter of the frames, of which"
        " there are four; eight seeds show z only to a fifth",
    ),
    *(
        Target(
            name=f"transfer {way} {name}{kind}",
            what=f"learnt on images of SrTiO3, {what}, turned otherwise, {where}: {how}",
            direction=AT_MOST,
            goal=goal,
            unit=unit,
            source=DESIGN,
            shortfall=POLAR_SHORTFALL if name == "shift" else "",
        )
        for way, name, what, where in (
            ("raw", "step", STRAIN_STEP, IN_SCAN),
            ("corrected", "step", STRAIN_STEP, IN_PICTURE),
            ("raw", "shift", POLAR_SHIFT, IN_SCAN),
            ("corrected", "shift", POLAR_SHIFT, IN_PICTURE),
            ("scan", "shift", POLAR_SHIFT, "less what the same columns show in a perfect scan"),
        )
        for kind, how, goal, unit in (
            ("", "mean error", 2.0, "pm"),
            ("-bias", "mean error over its standard error", 2.0, ""),
            ("-sd", "standard deviation", 3.0, "pm"),
        )
    ),
    *(
        Target(
            name=f"transfer {way} chi2",
            what="chi^2 of each point of the strain profile; errors of fits, of D by its weights'"
            f" covariance, and of the beam's own motion by its prior, {where}: from 1, off by",
            direction=AT_MOST,
            goal=0.2,
            unit="",
            source=DESIGN,
            shortfall=shortfall,
        )
        for way, where, shortfall in (
            ("raw", IN_SCAN, ""),
            ("corrected", IN_PICTURE, INTERPOLATED_SHORTFALL),
        )
    ),
    Target(
        name="transfer left",
        what="learnt on images of SrTiO3, BaTiO3 with a shift of 30 pm: left in its picture",
        direction=AT_MOST,
        goal=4.0,
        unit="pm",
        source=DESIGN,
    ),
    Target(
        name="transfer claim",
        what="the same: expected error of the picture against the true one: off by",
        direction=AT_MOST,
        goal=0.2,
        unit="of it",
        source=DESIGN,
    ),
    Target(
        name="transfer no-lattice",
        what="learnt on images of SrTiO3, scattered columns without a lattice: distance of their"
        " places from the true ones, rms per axis",
        direction=AT_MOST,
        goal=4.0,
        unit="pm",
        source=DESIGN,
    ),
    Target(
        name="transfer walk-claim",
        what="learnt on images of SrTiO3, BaTiO3 with a shift of 30 pm under a beam that walks by"
        " 10 pm: expected error of the picture against the true one: off by",
        direction=AT_MOST,
        goal=0.2,
        unit="of it",
        source=DESIGN,
        shortfall="of five frames some of their walks counts as D: on 48 frames a walk of 10 pm was"
        " learnt as 8.5, and what is claimed was 16 % too small",
    ),
    Target(
        name="localisation error",
        what="column positions, Sr and Ti-O, 10, 50, 500 counts: largest rms error",
        direction="<=",
        goal=1.1,
        unit="x Cramer-Rao",
        source=DESIGN,
    ),
    Target(
        name="localisation least-claim",
        what="claimed variance over squared error, least of the six",
        direction=">=",
        goal=0.9,
        unit="",
        source=DESIGN,
    ),
    Target(
        name="localisation largest-claim",
        what="claimed variance over squared error, largest of the six",
        direction="<=",
        goal=1.1,
        unit="",
        source=DESIGN,
    ),
    Target(
        name="localisation units-position",
        what="same image x 30 + 15 000, x 0.01 - 0.2: largest change of a position",
        direction="<=",
        goal=0.02,
        unit="sd",
        source=ISSUE,
    ),
    Target(
        name="localisation units-claim",
        what="same image x 30 + 15 000, x 0.01 - 0.2: largest change of a variance",
        direction="<=",
        goal=1.0,
        unit="%",
        source=ISSUE,
    ),
    Target(
        name="flyback claim",
        what="strong fly-back: error that the report expects over the true one, mean of eight",
        direction="<=",
        goal=1.2,
        unit="",
        source=DESIGN,
        shortfall="one frame hardly tells a calm beam from one that shakes by less than a column's"
        " error: where rows of columns lie along the lines, half a picometre stays in the claim",
    ),
    Target(
        name="null false",
        what="nothing wrong in the scan: false correction, rms per axis, 24 frames",
        direction="<=",
        goal=1.5,
        unit="pm",
        source=DESIGN,
    ),
    Target(
        name="null claimed",
        what="nothing wrong in the scan: claimed standard deviation, rms per axis",
        direction="<=",
        goal=2.5,
        unit="pm",
        source=DESIGN,
    ),
    Target(
        name="null z",
        what="nothing wrong in the scan: error over claimed standard deviation",
        direction="<=",
        goal=1.2,
        unit="",
        source=DESIGN,
    ),
    *(
        Target(
            name=f"claims {kind}",
            what=f"expected error of a corrected frame against the true one, {what}: off by",
            direction="<=",
            goal=0.2,
            unit="of it",
            source=DESIGN,
            shortfall=shortfall,
        )
        for kind, what, shortfall in (
            ("calm", "strong fly-back of either sign", ""),
            (
                "null",
                "nothing wrong",
                "the error is a fifth of a picometre, where two fifths are claimed: smooth part,"
                " fly-backs, steps, walk and jitter each claim what one frame cannot exclude;"
                " with an even chance that smooth part and fly-back are absent as well, both"
                " shrink alike (1.9 for 1.7)",
            ),
            ("jitter", "lines that jitter by 2, 5, 10 pm", ""),
            ("walk", "a beam that walks by 5, 10 pm", ""),
            ("real-like", "every error, moderate", ""),
        )
    ),
    *(
        Target(
            name=f"claims {frames}{part} {name}",
            what=f"{models}, {what}: {number}, off by",
            direction="<=",
            goal=goal,
            unit=unit,
            source=DESIGN,
            shortfall="no frame tells how a slow walk along y and the stationary part share it,"
            " and the simulated D has less that is a function of y alone than the prior thinks:"
            " z is 1.01 of calm frames, 0.92 of those that jitter, 1.00 of those that walk, 0.97"
            " of real-like ones, 0.64 where nothing is wrong"
            if part == "stationary"
            else "one frame tells the amplitude of its walk or jitter to a fifth, and the expected"
            " square of it is claimed",
        )
        for frames, models in (("", "all these single frames"), ("live ", "live, 7th frame"))
        for part, what in (("picture", "corrected frame"), ("stationary", "stationary field"))
        for name, number, goal, unit in (
            ("z", "error over claim, from 1", 0.1, ""),
            ("band", "share within the 95 % band, from 95 %", 2.0, "%"),
        )
    ),
    *(
        Target(
            name=f"exact {frame} {what}",
            what=f"{where}: finite basis against the exact posterior (GPyTorch), all terms,"
            f" 500 places, rim included: {meant}, rms",
            direction="<=",
            goal=goal,
            unit=unit,
            source=DESIGN,
            shortfall=EXACT_SHORTFALL,
        )
        for frame, where in (("flyback", "strong fly-back"), ("sto", "real STO frame"))
        for what, meant, goal, unit in (
            ("mean", "difference of means", 0.1, "sd"),
            ("sd", "difference of standard deviations", 10.0, "%"),
        )
    ),
    *(
        Target(
            name=f"withheld {which} {number}",
            what=f"{who} withheld from the fit, 48 simulated frames: {what}",
            direction="<=",
            goal=goal,
            unit=unit,
            source=DESIGN,
        )
        for which, who in (("columns", "a fifth of the columns"), ("rows", "every fifth row"))
        for number, what, goal, unit in (
            ("z", "residual over claimed deviation, distance of its rms from 1", 0.1, ""),
            ("coverage", "distance of the 95 % band's coverage from 95 %", 2.0, "%"),
        )
    ),
    Target(
        name="indices wrong",
        what="wrong indices in 200 random frames of all specimens",
        direction="<=",
        goal=0.0,
        unit="columns",
        source=DESIGN,
        shortfall="columns of another grain or merged pairs that look like the lattice's own",
    ),
    Target(
        name="indices false",
        what="indexed columns that are none",
        direction="<=",
        goal=1e-4,
        unit="of the indexed",
        source=DESIGN,
        shortfall="noise beside columns at 4 to 7 counts; a higher confidence would cost more"
        " columns than it is worth",
    ),
    Target(
        name="indices refused",
        what="frames refused, of those above 10 counts",
        direction="<=",
        goal=5.0,
        unit="%",
        source=DESIGN,
    ),
    Target(
        name="sto slow",
        what="real STO frame, columns erased before the fit, mean of ten draws, slow axis",
        direction="<=",
        goal=4.4,
        unit="pm",
        source=DESIGN,
    ),
    Target(
        name="sto fast",
        what="real STO frame, columns erased before the fit, mean of ten draws, fast axis",
        direction="<=",
        goal=2.8,
        unit="pm",
        source=DESIGN,
    ),
    Target(
        name="sto found",
        what="real STO frame, erased columns found again, least of ten draws",
        direction=">=",
        goal=90.0,
        unit="%",
        source=ISSUE,
    ),
    Target(
        name="stale false-alarms",
        what="unchanged scans, claimed errors up to 20 % off: staleness alarms per frame",
        direction="<=",
        goal=1e-3,
        unit="",
        source=DESIGN,
    ),
    Target(
        name="stale flagged",
        what="D changed by three standard deviations of its error: flagged within five frames",
        direction=">=",
        goal=95.0,
        unit="%",
        source=DESIGN,
    ),
    Target(
        name="stale cost",
        what="comparison of a live frame with the model, 512 x 512",
        direction="<=",
        goal=2.0,
        unit="ms",
        source=DESIGN,
    ),
    Target(
        name="start import",
        what="import nion_distortion",
        direction="<=",
        goal=0.3,
        unit="s",
        source=DESIGN,
    ),
    Target(
        name="start swift",
        what="start of Nion Swift: what importing the two plug-ins adds",
        direction="<=",
        goal=0.3,
        unit="s",
        source=DESIGN,
    ),
    Target(
        name="demo time",
        what="nion-distortion demo, kernels compiled before",
        direction="<=",
        goal=60.0,
        unit="s",
        source=ISSUE,
        shortfall="the simulated scan itself takes a third of it",
    ),
    Target(
        name="demo first",
        what="nion-distortion demo for the first time, nothing compiled, in a fresh process",
        direction="<=",
        goal=180.0,
        unit="s",
        source=DESIGN,
        shortfall="a minute and a half of it is compiling, on one core",
    ),
    Target(
        name="memory 2048",
        what="headless live session, 2048 x 2048: largest resident size of its process",
        direction="<=",
        goal=1.5,
        unit="GiB",
        source=DESIGN,
    ),
    Target(
        name="swift 512-rate",
        what="in Nion Swift with everything on, 512 x 512 at 4 frames/s: scan rate lost",
        direction="<=",
        goal=2.0,
        unit="%",
        source=DESIGN,
        shortfall="one frame of eighty; -1 % an hour before",
    ),
    Target(
        name="swift 512-ticks",
        what="in Nion Swift with everything on, 512 x 512 at 4 frames/s: ticks of the window",
        direction=">=",
        goal=15.0,
        unit="ticks/s",
        source=DESIGN,
    ),
    Target(
        name="swift 512-dropped",
        what="in Nion Swift with everything on, 512 x 512 at 4 frames/s: frames not processed",
        direction="<=",
        goal=0.0,
        unit="frames",
        source=DESIGN,
        shortfall=SWIFT_SHORTFALL,
    ),
    Target(
        name="swift 1024-rate",
        what="in Nion Swift with everything on, 1024 x 1024 at 1 frame/s: scan rate lost",
        direction="<=",
        goal=2.0,
        unit="%",
        source=DESIGN,
    ),
    Target(
        name="swift 1024-ticks",
        what="in Nion Swift with everything on, 1024 x 1024 at 1 frame/s: ticks of the window",
        direction=">=",
        goal=15.0,
        unit="ticks/s",
        source=DESIGN,
    ),
    Target(
        name="swift 1024-dropped",
        what="in Nion Swift with everything on, 1024 x 1024 at 1 frame/s: frames not processed",
        direction="<=",
        goal=0.0,
        unit="frames",
        source=DESIGN,
        shortfall=SWIFT_SHORTFALL,
    ),
    Target(
        name="soak memory",
        what="in Nion Swift, 10 000 frames at the host's 20 frames/s: resident size, growth",
        direction="<=",
        goal=3.0,
        unit="%",
        source=DESIGN,
        shortfall="of this and of the process that computes; what malloc has handed out grows by"
        " 4 to 6 MiB, and giving back its free lists changes nothing; 1.4 and 4.9 % in two runs"
        " that ended at 815 and 813 MiB: it is the beginning that differs",
    ),
    Target(
        name="soak threads",
        what="in Nion Swift, 10 000 frames: more threads",
        direction="<=",
        goal=0.0,
        unit="threads",
        source=DESIGN,
    ),
    Target(
        name="soak listeners",
        what="in Nion Swift, 10 000 frames: more listeners of the scan",
        direction="<=",
        goal=0.0,
        unit="listeners",
        source=DESIGN,
    ),
    Target(
        name="soak failed",
        what="in Nion Swift, 10 000 frames: frames that ended in an exception",
        direction="<=",
        goal=0.0,
        unit="frames",
        source=DESIGN,
    ),
    Target(
        name="ticks rate",
        what="main thread due every 25 ms beside 512 x 512 at 4/s",
        direction=">=",
        goal=35.0,
        unit="ticks/s",
        source=DESIGN,
    ),
    Target(
        name="ticks gap",
        what="main thread due every 25 ms beside 512 x 512 at 4/s: longest gap",
        direction="<=",
        goal=50.0,
        unit="ms",
        source=DESIGN,
        shortfall="the first frames compile nothing but fit longest, and small NumPy calls hold the"
        " interpreter; 95 % of the gaps are within 40 ms",
    ),
    Target(
        name="rivals ours",
        what="ours, 5 frames, beside nothing, mean displacement, one squared exponential: what it"
        " leaves over what the best of them leaves, largest of six",
        direction=AT_MOST,
        goal=1.0,
        unit="",
        source=DESIGN,
    ),
)
