"""All frames of a calibration together: linearised, fitted and tested until nothing moves."""

import functools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve

from nion_distortion._chunks import for_chunks
from nion_distortion.distortion import DistortionSamples
from nion_distortion.frame import UnusableFrameError
from nion_distortion.gaussian_process.ageing import Ageing, affine_variances, widened
from nion_distortion.gaussian_process.basis import Basis
from nion_distortion.gaussian_process.broadening import Widths, information_of_widths
from nion_distortion.gaussian_process.coils import CoilErrors
from nion_distortion.gaussian_process.drift import Drift, between, follow_drift
from nion_distortion.gaussian_process.epochs import ages_of, brought_forward, known_at_each
from nion_distortion.gaussian_process.fitting import (
    fit_frame,
    frame_evidence,
    stationary_posterior,
    stationary_variances,
    walk_precision,
)
from nion_distortion.gaussian_process.frame_fit import FrameFit
from nion_distortion.gaussian_process.hyperparameters import Hyperparameters, suited
from nion_distortion.gaussian_process.learning import learn_amplitudes, weigh_calm
from nion_distortion.gaussian_process.linearisation import precision_of
from nion_distortion.gaussian_process.model import DistortionModel, Flagged, first_model
from nion_distortion.gaussian_process.origins import origin_of
from nion_distortion.gaussian_process.posterior import Posterior, marginal
from nion_distortion.gaussian_process.settling import (
    Settling,
    clock_of,
    find_settling,
    settled_information,
)
from nion_distortion.gaussian_process.shape_search import learn_shapes
from nion_distortion.gaussian_process.shapes import shapes_of_frame
from nion_distortion.gaussian_process.watch import Watch
from nion_distortion.gaussian_process.weights import Information, less
from nion_distortion.lattice import Lattice

__all__ = ["CalibrationFrame", "calibrated"]

Array = npt.NDArray[np.float64]

MOST_PASSES, STANDS_STILL_PX = 6, 0.003
"""Passes over all frames, and the change of D (0.1 pm of a usual pixel) that ends them."""

LEARNING_PASSES = 2
"""Passes before which the amplitudes are learnt."""

LINEARISED = 1
"""How often a frame is linearised in a pass: about D, then about D and its own W_k."""

LEARNT_FIRST = 20
"""Frames, spread over all, from which amplitudes are learnt in the first pass: the last one then
begins near its end, and learns from all of them."""

MOST_KEPT = 200
"""Frames whose samples a calibration keeps."""

DISAGREES, UNLIKE = 2.0, 3.0
"""A frame disagrees where its chi^2 for each degree of freedom is above both the first and the
second times the median of all frames: claims may be wrong by a fifth, but for all frames alike."""

CONTRADICTS = 20.0
"""Where most frames disagree by more than this, what they were fitted with came from a stranger."""

SEEN = 0.1
"""Information, for weights in units of what is not known of them, above which a frame says much."""

SEEDS = 3
"""Frames around which groups are looked for: the first, one in the middle, and the last."""

FEWEST_TO_TEST = 3
"""Of two frames that disagree nobody knows which one is wrong."""


class CalibrationFrame(NamedTuple):
    """A frame's columns with their places in the lattice."""

    samples: DistortionSamples
    lattice: Lattice
    """In the same cell for all frames."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _State:
    """What all frames say so far."""

    basis: Basis
    hyperparameters: Hyperparameters
    parts: tuple[Information, ...]
    """What each frame says about the weights of D."""
    used: tuple[int, ...]
    stationary: Posterior
    distortion_px: npt.NDArray[np.float32]
    ages_h: tuple[float, ...]
    """Of each frame, see `ages_of`."""
    ageing: Ageing
    """How fast D changes."""
    settling: Settling | None = None
    """How D changed while the first frames were taken, where that is seen."""
    clock: tuple[float, ...] = ()
    """Of each frame, see `clock_of`."""
    widths: Mapping[float, Information] = field(default_factory=dict)
    """What the widths of all columns of one age say beside that; nothing before the first pass."""

    @property
    def known(self) -> Information:
        """What all used frames and all widths say about D at the newest of them.

        Nothing before the first pass.
        """
        ages = sorted({self.ages_h[n] for n in self.used}, reverse=True)
        own = {age: self._own(age) for age in ages}
        if self.settling is not None and self.parts:
            own[ages[0]] = own[ages[0]] + self._lost(self.settling, ages[0])
        return brought_forward(own, self._widened)

    def known_at_each(self) -> dict[float, Information]:
        """Combine what all of them say about D at each age of a frame."""
        return known_at_each({age: self._own(age) for age in set(self.ages_h)}, self._widened)

    def beside(self, number: int, known: Mapping[float, Information]) -> Information:
        """Leave a frame, where it was used, out of what is known at its age."""
        there = known[self.ages_h[number]]
        is_among = number in self.used and bool(self.parts)
        return less(there, self.parts[number]) if is_among else there

    def _own(self, age: float) -> Information:
        """Add up what the frames of one age say."""
        size = self.basis.stationary_size
        nothing = Information(blocks=np.zeros((2, size, size)), vector=np.zeros((2, size)))
        used = [n for n in self.used if self.ages_h[n] == age] if self.parts else []
        widths = [self.widths[age]] if age in self.widths else []
        return functools.reduce(operator.add, (*(self.parts[n] for n in used), *widths), nothing)

    def _lost(self, settling: Settling, age: float) -> Information:
        """Say how much less the frames of the oldest epoch say where they still settle."""
        used = [n for n in self.used if self.ages_h[n] == age]
        parts = [self.parts[n] for n in used]
        variances = stationary_variances(self.basis, self.hyperparameters)
        clock = np.array([self.clock[n] for n in used])
        left = settled_information(parts, clock, settling, variances)
        return less(left, functools.reduce(operator.add, parts))

    def _widened(self, known: Information, hours: float) -> Information:
        variances = stationary_variances(self.basis, self.hyperparameters)
        return widened(known, self.ageing.noise(hours, variances))


def calibrated(
    model: DistortionModel,
    frames: Sequence[CalibrationFrame],
    *,
    told: Callable[[int], None] = lambda _: None,
) -> DistortionModel:
    """Fit all frames together.

    Parameters
    ----------
    model : DistortionModel
        What the same frames taught one by one; terms, reference and cell are taken from it.
    frames : sequence of CalibrationFrame
        The usable frames, oldest first.
    told : callable, optional
        Told before each pass how many are done; what it raises ends the calibration.

    Returns
    -------
    DistortionModel
        Its hyperparameters are learnt from all frames, its samples are theirs, and frames that
        disagree with the others stand in ``flagged``.

    Notes
    -----
    Each pass linearises every frame about D, its own W_k and lattice, weighs columns anew and adds
    up what the frames say; shapes are learnt from one frame and amplitudes from all used ones in
    the first passes. Before and after, each frame is compared with what all others say, and left
    out where it disagrees; then first frames are left out until no change from frame to frame is
    seen, and what may be left of it is integrated out (`find_settling`). Where the frames span more
    than ten minutes, what others say is brought to the time of the frame, and at last to that of
    the newest one, by D's process noise.
    """
    state, chi2 = _started(model, frames)
    state, flagged = _without_strangers(state, frames, chi2)  # before they could teach anything
    state, fits = _settled(_with_shapes(state, frames), frames, told, learning=True)
    state, more = _without_strangers(state, frames, _disagreements(state))
    state, early = _without_settling(state, frames)
    if more or early:  # amplitudes that were learnt from a change are too large
        state, fits = _settled(state, frames, told, learning=bool(early))
    return _finished(model, state, frames, fits, (*flagged, *more, *early))


def _started(model: DistortionModel, frames: Sequence[CalibrationFrame]) -> tuple[_State, Array]:
    """Fit all frames with what one of them teaches alone: one that is like most others.

    The second result says how far each of them disagrees with all others.
    """
    for one in _taught_alone(frames, model.basis.terms):
        basis = replace(one.basis.refined(), expected=model.basis.expected)
        state = _State(
            basis=basis,
            hyperparameters=one.hyperparameters,
            parts=(),
            used=tuple(range(len(frames))),
            stationary=one.stationary,
            distortion_px=one.distortion_px,
            ages_h=ages_of([frame.samples.time_s for frame in frames]),
            ageing=model.ageing,
            clock=tuple(clock_of([frame.samples.time_s for frame in frames])),
        )
        state, _ = _one_pass(state, frames)
        chi2 = _disagreements(state)
        if np.median(chi2) < CONTRADICTS:
            break
    return state, chi2


def _taught_alone(
    frames: Sequence[CalibrationFrame], terms: frozenset[Any]
) -> Iterator[DistortionModel]:
    """Yield models of single frames, without those of frames that no distortion explains."""
    refused, made = None, 0
    for number in (len(frames) // 2, len(frames) - 1, 0):
        try:
            one = first_model(*frames[number], terms)
        except UnusableFrameError as error:
            refused = error
            continue
        made += 1
        yield one
    if not made and refused is not None:
        raise refused


def _without_strangers(
    state: _State, frames: Sequence[CalibrationFrame], chi2: Array
) -> tuple[_State, tuple[Flagged, ...]]:
    """Leave out the frame that disagrees most with all others, until none does.

    Where all of them disagree still, the largest group that agrees with each other stays.
    """
    flagged: list[Flagged] = []
    while True:
        worst = _worst(state, frames, chi2)
        strangers = _outside_the_largest_group(state, frames, chi2) if worst is None else (worst,)
        if not strangers:
            return state, tuple(flagged)
        flagged += strangers
        left_out = {one.index for one in strangers}
        state = _with_parts(state, tuple(n for n in state.used if n not in left_out), state.parts)
        chi2 = _disagreements(state)


def _without_settling(
    state: _State, frames: Sequence[CalibrationFrame]
) -> tuple[_State, tuple[Flagged, ...]]:
    """Leave out first frames until those that stay show no change from one to the next.

    Amplitudes are known by then: with those of one frame alone unchanged scans seem to change.
    """
    settling = find_settling(
        [state.parts[n] for n in state.used],
        state.stationary,
        stationary_variances(state.basis, state.hyperparameters),
        np.array([state.clock[n] for n in state.used]),
        suspected=state.used[0] > 0,
    )
    if settling is None:
        return state, ()
    early, later = state.used[: settling.left_out], state.used[settling.left_out :]
    widths = {} if early else state.widths  # they are all frames' together
    state = _with_parts(replace(state, settling=settling, widths=widths), later, state.parts)
    known = state.known_at_each()
    return state, tuple(
        Flagged(
            frame_id=frames[number].samples.frame_id,
            index=number,
            chi2=(chi2 := _disagreement_of(state, known[state.ages_h[number]], number)),
            reason=f"{_name(number, len(frames))} was taken before the scan had settled (it "
            f"differs from the {len(later)} used ones by {chi2:.1f} times the variance that noise "
            "allows), so it was left out",
        )
        for number in early
    )


def _settled(
    state: _State,
    frames: Sequence[CalibrationFrame],
    told: Callable[[int], None],
    *,
    learning: bool,
) -> tuple[_State, tuple[FrameFit, ...]]:
    """Repeat passes until D stands still; then once more, beside what widths say.

    Widths need places and slopes that stand still, and change neither by much.
    """
    for number in range(MOST_PASSES):
        told(number + 1)
        before = state.distortion_px
        if learning and number < LEARNING_PASSES:
            is_last = number == LEARNING_PASSES - 1
            state = _learning_pass(state, frames, len(frames) if is_last else LEARNT_FIRST)
            continue
        state, fits = _one_pass(state, frames)
        moved = np.abs(state.distortion_px - before).max()
        if moved < STANDS_STILL_PX:
            break
    informed = _with_widths(state, frames, fits)
    if informed is state:
        return state, fits
    told(number + 2)
    return _one_pass(informed, frames)


def _one_pass(
    state: _State, frames: Sequence[CalibrationFrame]
) -> tuple[_State, tuple[FrameFit, ...]]:
    """Linearise and fit every frame, each beside what all others say."""
    known = state.known_at_each()
    fits = tuple(
        fit_frame(
            frame.samples,
            state.basis,
            state.hyperparameters,
            known=state.beside(n, known),
            moving_px=state.distortion_px,
            passes=LINEARISED,
        )
        for n, frame in enumerate(frames)
    )
    return _with_parts(state, state.used, tuple(fit.known for fit in fits)), fits


def _with_widths(
    state: _State, frames: Sequence[CalibrationFrame], fits: Sequence[FrameFit]
) -> _State:
    """Ask the widths of the used frames' columns as well, where they say something."""
    asked: dict[float, list[Widths]] = {}
    for n in state.used:
        broadening = frames[n].samples.broadening
        if broadening is not None:
            one = Widths(fits[n].predicted_px, broadening, fits[n].robust)
            asked.setdefault(state.ages_h[n], []).append(one)
    if not asked or "fast_axis" not in state.basis.terms:
        return state
    mean = state.stationary.mean
    widths = {age: information_of_widths(state.basis, mean, some) for age, some in asked.items()}
    return _with_parts(replace(state, widths=widths), state.used, state.parts)


def _with_parts(state: _State, used: tuple[int, ...], parts: tuple[Information, ...]) -> _State:
    state = replace(state, used=used, parts=parts)
    stationary = stationary_posterior(state.basis, state.hyperparameters, state.known)
    moving = state.basis.on_pixels(stationary.mean)
    return replace(state, stationary=stationary, distortion_px=moving)


def _with_shapes(state: _State, frames: Sequence[CalibrationFrame]) -> _State:
    """Learn the shapes from one frame in the middle; what frames said in the old ones is void."""
    middle = frames[state.used[len(state.used) // 2]].samples
    basis, hyperparameters = learn_shapes(
        middle, state.basis, state.hyperparameters, moving_px=state.distortion_px
    )
    basis = suited(basis, hyperparameters, precision_of(middle, hyperparameters))
    return replace(state, basis=basis, hyperparameters=hyperparameters, parts=(), widths={})


def _learning_pass(state: _State, frames: Sequence[CalibrationFrame], most: int) -> _State:
    """Learn the amplitudes of D against those of W_k from some frames, then D from all of them."""
    basis, learnt, moving = state.basis, state.hyperparameters, state.distortion_px
    some = {state.used[n] for n in _spread(len(state.used), most)}
    given = {n: frame_evidence(frames[n].samples, basis, learnt, moving) for n in sorted(some)}
    pixel_size_nm = frames[0].samples.settings.pixel_size_nm
    for improve in (learn_amplitudes, weigh_calm):
        learnt = improve(list(given.values()), basis, learnt, pixel_size_nm)
    precision, known = walk_precision(basis, learnt), state.known_at_each()
    parts = tuple(
        marginal(given[n].information, basis.stationary_size, precision)
        if n in given
        else fit_frame(
            one.samples, basis, learnt, known=known[state.ages_h[n]], moving_px=moving
        ).known
        for n, one in enumerate(frames)
    )
    return _with_parts(replace(state, hyperparameters=learnt), state.used, parts)


def _spread(count: int, most: int) -> list[int]:
    return sorted({int(n) for n in np.linspace(0, count - 1, min(count, most))})


def _worst(state: _State, frames: Sequence[CalibrationFrame], chi2: Array) -> Flagged | None:
    """Find the frame that disagrees most with all others, if one does."""
    if len(state.used) < FEWEST_TO_TEST:
        return None
    place = int(np.argmax(chi2))
    if chi2[place] < max(DISAGREES, UNLIKE * float(np.median(chi2))):
        return None
    number = state.used[place]
    return Flagged(
        frame_id=frames[number].samples.frame_id,
        index=number,
        chi2=float(chi2[place]),
        reason=f"{_name(number, len(frames))} differs from the {len(state.used) - 1} others by "
        f"{chi2[place]:.1f} times the variance that noise allows, so it was left out",
    )


def _outside_the_largest_group(
    state: _State, frames: Sequence[CalibrationFrame], chi2: Array
) -> tuple[Flagged, ...]:
    """Find the frames that are unlike most, where none stands out: half of them may be strangers.

    Groups are made of the frames that agree with one of them about as well as the best does.
    """
    if len(state.used) < FEWEST_TO_TEST or np.median(chi2) < DISAGREES:
        return ()
    seeds = [state.used[n] for n in _spread(len(state.used), SEEDS)]
    from_each = [_disagreements_with(state, seed) for seed in seeds]
    limits = [max(DISAGREES, UNLIKE * np.sort(away)[1]) for away in from_each]
    sizes = [int((away < most).sum()) for away, most in zip(from_each, limits, strict=True)]
    best = int(np.argmax(sizes))
    if not 1 < sizes[best] < len(state.used):
        return ()
    return tuple(
        Flagged(
            frame_id=frames[number].samples.frame_id,
            index=number,
            chi2=float(away),
            reason=f"{_name(number, len(frames))} differs from {sizes[best]} others that agree by "
            f"{away:.1f} times the variance that noise allows, so it was left out",
        )
        for number, away in zip(state.used, from_each[best], strict=True)
        if away >= limits[best]
    )


def _disagreements_with(state: _State, seed: int) -> Array:
    """Compare each used frame with what one of them says alone; that one with itself: zero."""
    before = stationary_posterior(state.basis, state.hyperparameters, state.parts[seed])
    away = [0.0 if n == seed else _disagreement(state.parts[n], before) for n in state.used]
    return np.array(away)


def _disagreements(state: _State) -> Array:
    """Compare each used frame with what all others say."""
    known, used = state.known_at_each(), state.used

    def _some(start: int, stop: int) -> list[float]:
        return [_disagreement_of(state, state.beside(n, known), n) for n in used[start:stop]]

    return np.concatenate(for_chunks(_some, len(used)))


def _name(number: int, count: int) -> str:
    return "the first frame" if number == 0 else f"frame {number + 1} of {count}"


def _disagreement_of(state: _State, others: Information, number: int) -> float:
    before = stationary_posterior(state.basis, state.hyperparameters, others)
    return _disagreement(state.parts[number], before)


def _disagreement(part: Information, before: Posterior) -> float:
    """Squared difference of a frame from what others say, for each degree of freedom.

    With the frame's information M and v, and mean w and covariance S of the others' posterior,
    ``r = v - M w`` has the covariance ``M + M S M``; of that each axis is weighed by itself.
    """
    total, freedom = 0.0, 0.0
    slopes = part.slope(before.mean)
    for block, covariance, slope in zip(part.blocks, before.covariance, slopes, strict=True):
        scale = 1.0 / np.sqrt(np.diag(covariance))  # weights in units of what is not known of them
        gram, off = block / np.outer(scale, scale), slope / scale
        spread = covariance * np.outer(scale, scale)
        values, vectors = np.linalg.eigh(gram)
        seen = values > SEEN
        values, vectors = values[seen], vectors[:, seen]
        inner = np.diag(values) + (values[:, None] * (vectors.T @ spread @ vectors)) * values
        along = vectors.T @ off
        total += float(along @ cho_solve(cho_factor(inner), along))
        freedom += float(seen.sum())
    return total / max(freedom, 1.0)


def _finished(
    model: DistortionModel,
    state: _State,
    frames: Sequence[CalibrationFrame],
    fits: Sequence[FrameFit],
    flagged: tuple[Flagged, ...],
) -> DistortionModel:
    drifts = _drifts(frames, fits)
    kept = state.used[-MOST_KEPT:]
    variances = stationary_variances(state.basis, state.hyperparameters)
    return replace(
        model,
        **_coils(model, state, frames, fits, drifts),
        basis=state.basis,
        hyperparameters=state.hyperparameters,
        known=state.known,
        stationary=state.stationary,
        distortion_px=state.distortion_px,
        frames=len(state.used),
        samples=tuple(frames[n].samples for n in kept),
        last=fits[kept[-1]],
        lattice=frames[kept[-1]].lattice,
        drift=drifts[kept[-1]],
        ageing=replace(
            model.ageing,
            time_s=frames[kept[-1]].samples.time_s,
            calibrated_px=None,
            now_px=None,
        ),
        watch=Watch.of(fits[kept[-1]].known, variances),
        shape_watch=None,
        flagged=flagged,
        unsettled=_unsettled(state),
    )


def _unsettled(state: _State) -> str | None:
    """Say that frames until the last show a change, which the claim allows for."""
    if state.settling is None or not state.settling.goes_on:
        return None
    return (
        "the distortion still changed at the end of the calibration, so that it rests on "
        f"{len(state.used)} frames only and its predicted error holds what further settling may "
        "bring; let the scan run on and calibrate again"
    )


def _drifts(frames: Sequence[CalibrationFrame], fits: Sequence[FrameFit]) -> list[Drift]:
    drifts: list[Drift] = []
    for frame, fit in zip(frames, fits, strict=True):
        settings = frame.samples.settings
        centre = 0.5 * (np.array(settings.shape_px) - 1.0)
        before = drifts[-1] if drifts else None
        origin = origin_of(fit, frame.samples, centre)
        drifts.append(follow_drift(before, fit.lattice_px, centre, frame.samples.time_s, origin))
    return drifts


def _coils(
    model: DistortionModel,
    state: _State,
    frames: Sequence[CalibrationFrame],
    fits: Sequence[FrameFit],
    drifts: Sequence[Drift],
) -> dict[str, Any]:
    """Scale and skew from all frames, each one's drift from the steps before and after it."""
    if model.cell is None:
        return {}
    variances = stationary_variances(state.basis, state.hyperparameters)
    affine = affine_variances(state.basis, variances)
    coils: CoilErrors | None = None
    shapes, age_h = None, state.ages_h[state.used[0]]
    for number in state.used:
        passed, age_h = age_h - state.ages_h[number], state.ages_h[number]
        if coils is not None and passed > 0.0:
            coils = coils.aged(state.ageing.share(passed), affine)
        after = drifts[number + 1] if number + 1 < len(drifts) else None
        drift = between(drifts[number], after)
        shapes = shapes_of_frame(fits[number], frames[number].samples, model.cell, drift, coils)
        coils = shapes.coils
    return {} if shapes is None else {"coils": coils, "frame_shape": shapes.frame}
