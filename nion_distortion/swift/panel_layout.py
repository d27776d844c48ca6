"""Which widgets the panel has, and where: the order in which the tab key reaches them."""

import gettext

from nion_distortion.swift.choices import SAMPLES
from nion_distortion.swift.widgets import UI, Description, button, check_box, row, text, typed
from nion_distortion.swift.words import sample_names

__all__ = ["layout"]

_ = gettext.gettext

WIDTH, INNER, HEIGHT, COMBO = 280, 262, 260, 190

TROUBLE = "#C00000"


def layout() -> Description:
    """Describe the panel from top to bottom.

    Returns
    -------
    dict
        For the host's declarative user interface; the bindings are names of the handler.
    """
    u = UI()
    parts = (
        _scan_rows(u),
        _sample_rows(u),
        _live_row(u),
        _numbers(u),
        _calibrate_rows(u),
        _view_rows(u),
        _record_rows(u),
    )
    content = u.create_column(*parts, u.create_stretch(), spacing=8, margin=8)
    # the host's dock makes room for what is asked for here, and the rest is scrolled to
    return u.create_scroll_area(content, min_width=WIDTH + 30, min_height=HEIGHT)


def _scan_rows(u: UI) -> Description:
    scan = u.create_combo_box(
        items_ref="@binding(scan_names)",
        current_index="@binding(scan_index)",
        tool_tip=_("The scan that is corrected; remembered"),
    )
    channel = u.create_combo_box(
        items_ref="@binding(channels)",
        current_index="@binding(channel_index)",
        tool_tip=_("The channel in which columns are found; where it is off, the first one"),
    )
    path = check_box(
        u,
        _("Line by line, whatever the device says"),
        "is_raster",
        _("Declare a raster where the device reports another path; otherwise it is refused"),
    )
    rows = (row(u, _("Scan"), scan), row(u, _("Channel"), channel), row(u, path))
    return u.create_column(*rows, spacing=4)


def _sample_rows(u: UI) -> Description:
    sample = u.create_combo_box(
        items=sample_names(SAMPLES),
        current_index="@binding(sample_index)",
        width=COMBO,
        tool_tip=_("A reference's lattice counts as undistorted; an unknown sample's is data"),
    )
    a = typed(u, "a_nm", _("First edge of the projected cell, nm"), width=52)
    b = typed(u, "b_nm", _("Second edge of the projected cell, nm"), width=52)
    gamma = typed(u, "gamma_deg", _("Angle between them, degrees"), width=44)
    angle = _("\N{GREEK SMALL LETTER GAMMA} (\N{DEGREE SIGN})")
    apply = u.create_combo_box(
        items=[_("this frame's own lattice"), _("the stored calibration")],
        current_index="@binding(applied_index)",
        width=COMBO,
        enabled="@binding(is_reference)",
        tool_tip=_("What corrects the picture of a reference crystal"),
    )
    cell = (_("a (nm)"), a, _("b (nm)"), b, angle, gamma)
    return u.create_column(
        row(u, _("The sample is"), sample),
        row(u, *cell, visible="is_cell"),
        row(u, _("Apply"), apply),
        spacing=4,
    )


def _live_row(u: UI) -> Description:
    shown = _("Show the corrected picture of each live frame")
    held = _("Freeze the correction: nothing more is learnt")
    together = _("Show raw and corrected frame with all diagnostics")
    return row(
        u,
        button(u, "@binding(correct_text)", "correct_clicked", shown),
        check_box(u, _("Hold"), "is_held", held),
        button(u, _("Workspace"), "workspace_clicked", together),
    )


def _numbers(u: UI) -> Description:
    off_by, corrected = (
        u.create_label(text=f"@binding({name})", font="bold") for name in ("off_by", "corrected")
    )
    what = u.create_column(
        text(u, "meaning", WIDTH, lines=5),
        text(u, "applied", WIDTH, lines=3),
        u.create_label(text=_("Calibration in use")),
        text(u, "in_use", WIDTH, lines=5),
        text(u, "counts", WIDTH, lines=2),
        spacing=4,
        visible="@binding(is_correcting)",
    )
    return u.create_column(
        row(u, _("Off by now:"), off_by),
        row(u, _("corrected:"), corrected),
        what,
        text(u, "trouble", WIDTH, lines=12, color=TROUBLE, visible="has_trouble"),
        spacing=4,
    )


def _calibrate_rows(u: UI) -> Description:
    frames = typed(u, "frames", _("Frames of a calibration, 1 to 200"), width=40)
    good_enough = _("Predicted error that is good enough, pm; empty: read all frames")
    stop = typed(u, "stop_pm", good_enough, width=40)
    sample = typed(u, "sample_name", _("What the calibration is made on"), width=160)
    content = u.create_column(
        text(u, "hint", INNER, lines=7, visible="has_hint"),
        text(u, "advice", INNER, lines=5, visible="has_advice"),
        row(u, _("Until"), frames, _("frames, or below"), stop, _("pm")),
        row(u, _("Sample"), sample),
        *_calibrate_buttons(u),
        u.create_progress_bar(
            value="@binding(calibration_percent)",
            minimum=0,
            maximum=100,
            visible="@binding(has_progress)",
            width=INNER,
        ),
        text(u, "calibration_words", INNER, lines=6, visible="has_progress"),
        spacing=4,
    )
    return u.create_group(content, title=_("Calibrate"), margin=6)


def _calibrate_buttons(u: UI) -> tuple[Description, Description]:
    look = _("See by one frame whether dose, pixels and tilt are good enough; nothing is kept")
    learn = _("Learn the distortion of these scan settings, and keep it")
    end = _("End the calibration; nothing is kept of it")
    manage = _("List, name, note, delete, export and import stored calibrations")
    unsaved = _("The calibration was made but could not be saved")
    return (
        row(
            u,
            button(u, _("Check Set-up"), "check_clicked", look, enabled="can_calibrate"),
            button(u, _("Calibrate"), "calibrate_clicked", learn, enabled="can_calibrate"),
        ),
        row(
            u,
            button(u, _("Cancel"), "cancel_clicked", end, enabled="is_calibrating"),
            button(u, _("Manage..."), "manage_clicked", manage),
            button(u, _("Save Again"), "save_clicked", unsaved, visible="is_unsaved"),
        ),
    )


def _view_rows(u: UI) -> Description:
    view = u.create_combo_box(
        items=[_("corrected"), _("as scanned"), _("one after the other")],
        current_index="@binding(view_index)",
        enabled="@binding(is_correcting)",
        tool_tip=_("What the corrected picture shows: compare it with the scan in one place"),
    )
    marks = _("Found columns, their sites, and the displacements between them")
    overlay = check_box(u, _("Columns and arrows on the scan"), "is_overlaid", marks)
    gain = typed(u, "arrows", _("By what arrows are longer than displacements; 0: none"), width=36)
    average = typed(
        u,
        "averaged",
        _("Aligned by the drift, beside the corrected picture; its deviation in the data panel"),
        width=36,
    )
    return u.create_column(
        row(u, _("Show"), view),
        row(u, overlay),
        row(u, _("Arrows longer than displacements by"), gain),
        row(u, _("Average the last"), average, _("frames")),
        spacing=4,
    )


def _record_rows(u: UI) -> Description:
    keep = _("Keep the newest scan and its correction, every channel")
    log = _("Write time, settings, calibration, errors and reason of each frame")
    methods = _("Copy a paragraph for a methods section, with the numbers of the log")
    drift = _("At most 0.05 nm for each frame; ends by itself where drift is ambiguous")
    return u.create_column(
        row(
            u,
            button(u, _("Record"), "record_clicked", keep, enabled="is_correcting"),
            button(u, "@binding(log_text)", "log_clicked", log),
            button(u, _("Copy Methods"), "methods_clicked", methods, enabled="is_logging"),
        ),
        text(u, "said", WIDTH, lines=3, visible="has_said"),
        check_box(
            u,
            _("Feed drift back to the scan's centre"),
            "is_fed_back",
            drift,
            enabled="is_correcting",
        ),
        spacing=4,
    )
