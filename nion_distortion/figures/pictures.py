"""Reports -> pictures, drawn by Matplotlib without any state of its own."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from nion_distortion._validation import as_array

if TYPE_CHECKING:
    from nion_distortion.correction import CorrectedFrame
    from nion_distortion.distortion import DistortionField
    from nion_distortion.frame import Frame, ScanSettings
    from nion_distortion.principal_components import PrincipalComponents

__all__ = [
    "components_figure",
    "difference_figure",
    "displacement_figure",
    "drift_figure",
    "history_figure",
    "pair_figure",
    "residual_figure",
    "uncertainty_figure",
]

SLOW, FAST, GREY = "#009E73", "#CC6699", "#666666"
"""Colours of the slow axis (y), the fast axis (x) and of what is neither."""

SERIES = ("#D55E00", "#0072B2", "#E69F00", "#56B4E9")
"""Colours of curves: raw first, corrected second."""

NOT_VALID = "#F0E442"
"""Colour of the pixels that are not valid."""

VECTORS, LENGTHS, TIME = "RdBu_r", "PuBuGn", "viridis"
"""Colour maps of what has a sign, of what has none, and of the order in time."""

AXIS_NAMES = ("slow scan axis (y)", "fast scan axis (x)")

DPI = 110

Array = npt.NDArray[np.floating[Any]]
MaskedArray = np.ma.MaskedArray[Any, np.dtype[np.floating[Any]]]


def pair_figure(frame: "Frame", corrected: "CorrectedFrame") -> Figure:
    """Draw a frame and its correction side by side, and the starts of some lines enlarged.

    Parameters
    ----------
    frame : Frame, image of shape (ny, nx)
        The frame as scanned.
    corrected : CorrectedFrame, image of shape (ny, nx)
        The same after correction; pixels that are not valid are yellow.

    Returns
    -------
    Figure
        Axes in nm, one grey scale for all.
    """
    ny, nx = frame.settings.shape_px
    side = max(min(ny, nx) // 4, 1)
    top = (ny - side) // 2
    parts = {
        "": (slice(0, ny), slice(0, nx)),
        ", starts of the lines": (slice(top, top + side), slice(0, side)),
    }
    figure = _figure(10.0, 10.4)
    grid = figure.subplots(2, 2)
    raw = np.ma.masked_invalid(frame.image)
    pictures = {"as scanned": raw, "corrected": _masked(corrected.image, corrected.valid)}
    low, high = np.percentile(raw.compressed(), (0.5, 99.8)) if raw.count() else (0.0, 1.0)
    for axes, (where, part) in zip(grid, parts.items(), strict=True):
        for axis, (name, picture) in zip(axes, pictures.items(), strict=True):
            extent = _extent_nm(frame.settings, *part)
            axis.imshow(picture[part], cmap=_colours("gray"), vmin=low, vmax=high, extent=extent)
            _in_nm(axis, name + where)
    return figure


def displacement_figure(field: "DistortionField") -> Figure:
    """Draw the displacement that is taken out, one map for each axis.

    Parameters
    ----------
    field : DistortionField, shape (2, ny, nx)
        What is drawn.

    Returns
    -------
    Figure
        Axes in nm, one colour scale in pm, symmetric about zero.
    """
    pm = _masked(field.displacement_px * (1e3 * field.settings.pixel_size_nm), field.valid)
    limit = _limit(pm)
    return _two_maps(pm, field.settings, (VECTORS, -limit, limit), "observed - ideal (pm)")


def difference_figure(
    field: "DistortionField",
    reference: "DistortionField",
    names: tuple[str, str] = ("field", "reference"),
) -> Figure:
    """Draw two fields of one geometry and their difference, for example of two fly-back times.

    Parameters
    ----------
    field : DistortionField, shape (2, ny, nx)
        The one.
    reference : DistortionField, shape (2, ny, nx)
        The other, which is subtracted.
    names : tuple of str
        What they are called.

    Returns
    -------
    Figure
        A row for each axis: both and the difference, in nm, one colour scale in pm, symmetric about
        zero; pixels that either did not see are yellow.

    Raises
    ------
    ValueError
        If a field is one frame's own, or they differ in shape or field of view, naming which.
    """
    differing = field.settings.differences(reference.settings)
    names_differing = [one for one in ("shape_px", "field_of_view_nm") if one in differing]
    if names_differing:
        raise ValueError(f"the fields differ in {', '.join(names_differing)}")
    if "frame" in (field.kind, reference.kind):
        raise ValueError('both fields must be "stationary", not that of one frame')
    valid = field.valid & reference.valid
    pm = 1e3 * field.settings.pixel_size_nm
    both = [_masked(one.displacement_px * pm, valid) for one in (field, reference)]
    maps = [*both, both[0] - both[1]]
    limit = max(_limit(one) for one in maps)
    figure = _figure(13.0, 8.4)
    axes = figure.subplots(2, 3)
    titles = (*names, f"{names[0]} - {names[1]}")
    for column, title, one in zip(axes.T, titles, maps, strict=True):
        for axis, axis_name, component in zip(column, AXIS_NAMES, one, strict=True):
            extent, colours = _extent_nm(field.settings), _colours(VECTORS)
            drawn = axis.imshow(component, cmap=colours, vmin=-limit, vmax=limit, extent=extent)
            _in_nm(axis, f"{title}, {axis_name}")
            axis.label_outer()
    _colour_bar(figure, drawn, list(axes.ravel()), "observed - ideal (pm)")
    return figure


def uncertainty_figure(corrected: "CorrectedFrame") -> Figure:
    """Draw how well the place that each pixel shows is known, one map for each axis.

    Parameters
    ----------
    corrected : CorrectedFrame
        A corrected frame with its standard deviations.

    Returns
    -------
    Figure
        Axes in nm, one colour scale in pm.
    """
    pm = _masked(corrected.std_px * (1e3 * corrected.pixel_size_nm), corrected.valid)
    high = _limit(pm)
    # An even map stays even: differences of a tenth do not fill the whole scale.
    low = min(0.7 * high, float(np.percentile(pm.compressed(), 0.5))) if pm.count() else 0.0
    return _two_maps(pm, corrected.settings, (LENGTHS, low, high), "standard deviation (pm)")


def _two_maps(
    maps_pm: MaskedArray, settings: "ScanSettings", colours: tuple[str, float, float], label: str
) -> Figure:
    name, low, high = colours
    figure = _figure(11.0, 5.0)
    axes = figure.subplots(1, 2)
    for axis, title, one in zip(axes, AXIS_NAMES, maps_pm, strict=True):
        extent = _extent_nm(settings)
        drawn = axis.imshow(one, cmap=_colours(name), vmin=low, vmax=high, extent=extent)
        _in_nm(axis, title)
    _colour_bar(figure, drawn, list(axes), label)
    return figure


def drift_figure(
    drift_nm: npt.ArrayLike,
    times_s: npt.ArrayLike | None = None,
    *,
    std_nm: npt.ArrayLike | None = None,
) -> Figure:
    """Draw the way of the sample, as a path and against time.

    Parameters
    ----------
    drift_nm : array_like, shape (t, 2)
        Where the sample was (y, x), one row for each frame.
    times_s : array_like, shape (t,), optional
        When; None draws against the frame's number.
    std_nm : array_like, shape (t, 2), optional
        Standard deviations, drawn as error bars; None where they are not known.

    Returns
    -------
    Figure
        The path with axes in nm, and both components.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    way = as_array("drift_nm", drift_nm, (None, 2))
    numbers = np.arange(len(way), dtype=np.float64)
    when = numbers if times_s is None else as_array("times_s", times_s, (len(way),))
    stds = None if std_nm is None else as_array("std_nm", std_nm, way.shape)
    label = "frame" if times_s is None else "time (s)"
    figure = _figure(11.0, 4.4)
    path, course = figure.subplots(1, 2)
    path.plot(way[:, 1], way[:, 0], color=GREY, linewidth=0.8, zorder=1)
    dots = path.scatter(way[:, 1], way[:, 0], c=when, cmap=TIME, s=26, zorder=2)
    path.set_aspect("equal", adjustable="datalim")
    path.invert_yaxis()
    _in_nm(path, "path of the sample")
    _colour_bar(figure, dots, [path], label)
    for axis, (name, colour) in enumerate(zip(AXIS_NAMES, (SLOW, FAST), strict=True)):
        error = None if stds is None else stds[:, axis]
        course.errorbar(when, way[:, axis], error, fmt="o-", color=colour, label=name, ms=3.5)
    known = "error not known" if stds is None else "bars: one standard deviation"
    _labelled(course, label, "drift (nm)", f"motion of the sample in the image ({known})")
    course.xaxis.set_major_locator(MaxNLocator(integer=times_s is None))
    return figure


def components_figure(
    components: "Sequence[PrincipalComponents]",
    grid: tuple[int, int],
    settings: "ScanSettings",
    *,
    shown: int = 6,
) -> Figure:
    """Draw scree, eigenmodes and loading maps of a stack of distortion fields.

    Parameters
    ----------
    components : sequence of PrincipalComponents, length 2
        Those of the slow and of the fast axis; loading maps of shape (k, 1, n), in px.
    grid : tuple of int
        Rows and columns that the n places form.
    settings : ScanSettings
        The scan, for the axes in nm.
    shown : int, default: 6
        How many loading maps at most.

    Returns
    -------
    Figure
        Scree and eigenmodes above, one row of loading maps in pm for each axis below.
    """
    count = max(1, min(shown, *(len(one) for one in components)))
    figure = _figure(2.3 * max(count, 4) + 1.0, 9.4)
    above, *below = np.ravel(np.asarray(figure.subfigures(3, 1, height_ratios=[1.2, 1.0, 1.0])))
    scree, *courses = above.subplots(1, 3)
    _draw_scree(scree, components)
    for axis, name, one in zip(courses, AXIS_NAMES, components, strict=True):
        for number, mode in enumerate(one.eigenmodes[:3]):
            axis.plot(mode, "o-", color=SERIES[number], label=f"{number + 1}", markersize=2.5)
        _labelled(axis, "frame", "eigenmode", name)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    for part, name, one in zip(below, AXIS_NAMES, components, strict=True):
        part.suptitle(f"loading maps of the {name}", fontsize=10)
        maps_px = one.loading_maps[:count, 0].reshape(-1, *grid)
        _draw_loadings(part, maps_px, one.explained_variance_ratio, settings)
    return figure


def _draw_loadings(
    part: SubFigure, maps_px: Array, shares: Array, settings: "ScanSettings"
) -> None:
    axes = np.atleast_1d(part.subplots(1, len(maps_px)))
    for number, (axis, loading) in enumerate(zip(axes, maps_px, strict=True)):
        pm = loading * (1e3 * settings.pixel_size_nm)
        limit = _limit(pm)
        extent = _extent_nm(settings)
        drawn = axis.imshow(pm, cmap=VECTORS, vmin=-limit, vmax=limit, extent=extent)
        _in_nm(axis, f"{number + 1}: {100 * shares[number]:.3g} %")
        axis.label_outer()
        _colour_bar(part, drawn, [axis], "pm", location="bottom")


def _draw_scree(axis: Axes, components: "Sequence[PrincipalComponents]") -> None:
    for name, colour, one in zip(AXIS_NAMES, (SLOW, FAST), components, strict=True):
        share = one.explained_variance_ratio
        axis.semilogy(
            np.arange(1, len(share) + 1), share, "o-", color=colour, label=name, markersize=4
        )
    _labelled(axis, "component", "share of the power", "scree")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def residual_figure(
    series_pm: Mapping[str, npt.ArrayLike], *, ylabel: str = "distortion (pm, rms)"
) -> Figure:
    """Draw what is wrong with each frame, before and after.

    Parameters
    ----------
    series_pm : Mapping of str to array_like, shape (t,)
        Curves by name, in pm; what is not finite leaves a gap. The first is drawn as raw, the
        second as corrected.
    ylabel : str
        What the numbers are.

    Returns
    -------
    Figure
        A logarithmic scale in pm against the frame's number.
    """
    figure = _figure(8.5, 4.0)
    axis = figure.subplots()
    for number, (name, values) in enumerate(series_pm.items()):
        course = np.asarray(values, dtype=np.float64)
        colour = SERIES[number % len(SERIES)]
        style = "o-" if number < 2 else "--"
        axis.plot(np.arange(len(course)), course, style, color=colour, label=name, markersize=4)
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_locator(NullLocator())
    axis.margins(y=0.12)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    _labelled(axis, "frame", ylabel, "")
    return figure


def history_figure(hours: npt.ArrayLike, change_pm: npt.ArrayLike, std_pm: npt.ArrayLike) -> Figure:
    """Draw how the stationary distortion changed from calibration to calibration.

    Parameters
    ----------
    hours : array_like, shape (n,)
        Time since the first calibration.
    change_pm : array_like, shape (n,)
        Difference from it, rms.
    std_pm : array_like, shape (n,)
        What the errors of both explain of that, rms.

    Returns
    -------
    Figure
        A difference that is no larger than its error bar is no change.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    when = as_array("hours", hours, (None,))
    change = as_array("change_pm", change_pm, (len(when),))
    std = as_array("std_pm", std_pm, (len(when),))
    figure = _figure(8.5, 4.0)
    axis = figure.subplots()
    axis.errorbar(when, change, std, fmt="o-", color=SERIES[0], capsize=3, label="difference")
    axis.plot(when, std, "--", color=GREY, label="what the errors of both explain")
    axis.set_ylim(bottom=0.0)
    _labelled(axis, "hours since the first calibration", "change (pm, rms)", "")
    return figure


def _figure(width: float, height: float) -> Figure:
    room = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    return Figure(figsize=(width, height), dpi=DPI, layout=room)


def _colours(name: str) -> Colormap:
    """Return a colour map in which what is not valid stands out."""
    return colormaps[name].with_extremes(bad=NOT_VALID)


def _masked(values: Array, valid: npt.NDArray[np.bool_]) -> MaskedArray:
    """Hide what is not valid in each of the maps."""
    return np.ma.masked_array(values, np.broadcast_to(~valid, values.shape))


def _extent_nm(
    settings: "ScanSettings", rows: slice = slice(None), columns: slice = slice(None)
) -> tuple[float, float, float, float]:
    """Return left, right, bottom and top; the first pixel's corner is the origin."""
    ny, nx = settings.shape_px
    top, bottom, _ = rows.indices(ny)
    left, right, _ = columns.indices(nx)
    size = settings.pixel_size_nm
    return left * size, right * size, bottom * size, top * size


def _limit(values: Array | MaskedArray) -> float:
    """Return the largest magnitude but for the last 0.5 %, so that one edge does not pale all."""
    seen = np.abs(np.ma.compressed(values))
    return float(np.percentile(seen, 99.5)) or 1.0 if seen.size else 1.0


def _in_nm(axis: Axes, title: str) -> None:
    axis.set_xlabel("x (nm)")
    axis.set_ylabel("y (nm)")
    axis.set_title(title, fontsize=10)


def _labelled(axis: Axes, x: str, y: str, title: str) -> None:
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.set_title(title, fontsize=10)
    axis.grid(visible=True, color="#DDDDDD", linewidth=0.6)
    axis.legend(frameon=False, fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def _colour_bar(
    figure: Figure | SubFigure, drawn: ScalarMappable, axes: list[Axes], label: str, **how: Any
) -> None:
    bar = figure.colorbar(drawn, ax=axes, shrink=0.86, **how)
    bar.set_label(label)
    bar.ax.tick_params(labelsize=8)
