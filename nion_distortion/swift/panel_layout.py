"""Which widgets the panel has, and where."""

import gettext

from nion.ui import Declarative

from nion_distortion.swift import words
from nion_distortion.swift.choices import SAMPLES

__all__ = ["layout"]

_ = gettext.gettext

Description = Declarative.UIDescription

WIDTH, HEIGHT, LINE, COMBO = 280, 400, 15, 190


def layout() -> Description:
    """Describe the panel from top to bottom.

    Returns
    -------
    dict
        For the host's declarative user interface; the bindings are names of the handler.
    """
    u = Declarative.DeclarativeUI()
    parts = (
        _scan_row(u),
        _sample_rows(u),
        _live_rows(u),
        _numbers(u),
        _calibrate_rows(u),
        _view_rows(u),
        _record_row(u),
    )
    content = u.create_column(*parts, u.create_stretch(), spacing=8, margin=8)
    # the host's dock makes room for what is asked for here, and the rest is scrolled to
    return u.create_scroll_area(content, min_width=WIDTH + 30, min_height=HEIGHT)


def _label(
    u: Declarative.DeclarativeUI, name: str, lines: int, *, color: str | None = None
) -> Description:
    """Describe a text with room for its longest form: the host cuts one that grows."""
    return u.create_label(
        text=f"@binding({name})",
        word_wrap=True,
        width=WIDTH,
        min_height=lines * LINE,
        text_alignment_vertical="top",
        color=color,
    )


def _field(
    u: Declarative.DeclarativeUI, label: str, name: str, width: int, tool_tip: str
) -> list[Description]:
    return [
        u.create_label(text=label),
        u.create_line_edit(text=f"@binding({name})", width=width, tool_tip=tool_tip),
    ]


def _scan_row(u: Declarative.DeclarativeUI) -> Description:
    return u.create_row(
        u.create_label(text=_("Scan")),
        u.create_combo_box(
            items_ref="@binding(scan_names)",
            current_index="@binding(scan_index)",
            tool_tip=_("The scan that is corrected; remembered"),
        ),
        *_field(u, _("Channel"), "channel", 64, _("The channel in which columns are found")),
        u.create_stretch(),
        spacing=6,
    )


def _sample_rows(u: Declarative.DeclarativeUI) -> Description:
    sample = u.create_combo_box(
        items=words.sample_names(SAMPLES),
        current_index="@binding(sample_index)",
        width=COMBO,
        tool_tip=_("A reference's lattice counts as undistorted; an unknown sample's is data"),
    )
    cell = [
        *_field(u, _("a (nm)"), "a_nm", 56, _("First edge of the projected cell")),
        *_field(u, _("b (nm)"), "b_nm", 56, _("Second edge of the projected cell")),
        *_field(
            u,
            _("\N{GREEK SMALL LETTER GAMMA} (\N{DEGREE SIGN})"),
            "gamma_deg",
            48,
            _("Angle between them"),
        ),
    ]
    apply = u.create_combo_box(
        items=[_("this frame's own lattice"), _("the stored calibration")],
        current_index="@binding(applied_index)",
        width=COMBO,
        enabled="@binding(is_reference)",
        tool_tip=_("What corrects the picture of a reference crystal"),
    )
    return u.create_column(
        u.create_row(
            u.create_label(text=_("The sample is")), sample, u.create_stretch(), spacing=6
        ),
        u.create_row(*cell, u.create_stretch(), spacing=4, visible="@binding(is_cell)"),
        u.create_row(u.create_label(text=_("Apply")), apply, u.create_stretch(), spacing=6),
        spacing=4,
    )


def _live_rows(u: Declarative.DeclarativeUI) -> Description:
    return u.create_row(
        u.create_push_button(
            text="@binding(correct_text)",
            on_clicked="correct_clicked",
            tool_tip=_("Show the corrected picture of each live frame"),
        ),
        u.create_check_box(
            text=_("Hold"),
            checked="@binding(is_held)",
            tool_tip=_("Freeze the correction: nothing more is learnt"),
        ),
        u.create_push_button(
            text=_("Workspace"),
            on_clicked="workspace_clicked",
            tool_tip=_("Show raw and corrected frame with all diagnostics"),
        ),
        u.create_stretch(),
        spacing=8,
    )


def _view_rows(u: Declarative.DeclarativeUI) -> Description:
    view = u.create_combo_box(
        items=[_("corrected"), _("as scanned"), _("one after the other")],
        current_index="@binding(view_index)",
        enabled="@binding(is_correcting)",
        tool_tip=_("What the corrected picture shows: compare it with the scan in one place"),
    )
    overlay = u.create_check_box(
        text=_("Columns and arrows on the scan,"),
        checked="@binding(is_overlaid)",
        tool_tip=_("Found columns, their sites, and the displacements between them"),
    )
    gain = _field(u, _("longer by"), "arrows", 36, _("Arrows are longer than displacements by"))
    average = _field(
        u, _("Average the last"), "averaged", 36, _("Aligned by the measured drift; 0: none")
    )
    return u.create_column(
        u.create_row(u.create_label(text=_("Show")), view, u.create_stretch(), spacing=6),
        u.create_row(overlay, *gain, u.create_stretch(), spacing=4),
        u.create_row(*average, u.create_label(text=_("frames")), u.create_stretch(), spacing=4),
        spacing=4,
    )


def _numbers(u: Declarative.DeclarativeUI) -> Description:
    off_by = u.create_row(
        u.create_label(text=_("Off by now:")),
        u.create_label(text="@binding(off_by)", font="bold"),
        u.create_stretch(),
        spacing=6,
    )
    corrected = u.create_row(
        u.create_label(text=_("corrected:")),
        u.create_label(text="@binding(corrected)", font="bold"),
        u.create_stretch(),
        spacing=6,
    )
    return u.create_column(
        off_by,
        corrected,
        _label(u, "meaning", 3),
        _label(u, "applied", 3),
        u.create_label(text=_("Calibration in use")),
        _label(u, "in_use", 5),
        _label(u, "counts", 2),
        _label(u, "trouble", 4, color="#C00000"),
        spacing=4,
    )


def _calibrate_buttons(u: Declarative.DeclarativeUI) -> Description:
    return u.create_row(
        u.create_push_button(
            text=_("Calibrate"),
            on_clicked="calibrate_clicked",
            enabled="@binding(can_calibrate)",
            tool_tip=_("Learn the distortion of these scan settings, and keep it"),
        ),
        u.create_push_button(
            text=_("Cancel"), on_clicked="cancel_clicked", enabled="@binding(is_calibrating)"
        ),
        u.create_push_button(
            text=_("Manage..."),
            on_clicked="manage_clicked",
            tool_tip=_("List, name, note, delete, export and import stored calibrations"),
        ),
        u.create_push_button(
            text=_("Save Again"),
            on_clicked="save_clicked",
            visible="@binding(is_unsaved)",
            tool_tip=_("The calibration was made but could not be saved"),
        ),
        u.create_stretch(),
        spacing=8,
    )


def _calibrate_rows(u: Declarative.DeclarativeUI) -> Description:
    wanted = u.create_row(
        *_field(u, _("Until"), "frames", 40, _("Frames of a calibration, 1 to 200")),
        *_field(
            u,
            _("frames, or below"),
            "stop_pm",
            40,
            _("Predicted error that is good enough; empty: read all frames"),
        ),
        u.create_label(text=_("pm")),
        u.create_stretch(),
        spacing=4,
    )
    named = u.create_row(
        *_field(u, _("Sample"), "sample_name", 160, _("What the calibration is made on")),
        u.create_stretch(),
        spacing=4,
    )
    return u.create_group(
        u.create_column(
            _label(u, "hint", 3),
            _label(u, "advice", 4),
            wanted,
            named,
            _calibrate_buttons(u),
            u.create_progress_bar(value="@binding(calibration_percent)", minimum=0, maximum=100),
            _label(u, "calibration_words", 3),
            spacing=4,
        ),
        title=_("Calibrate"),
        margin=6,
    )


def _record_row(u: Declarative.DeclarativeUI) -> Description:
    return u.create_column(
        u.create_row(
            u.create_push_button(
                text=_("Record"),
                on_clicked="record_clicked",
                enabled="@binding(is_correcting)",
                tool_tip=_("Keep the newest scan and its correction, every channel"),
            ),
            u.create_push_button(
                text="@binding(log_text)",
                on_clicked="log_clicked",
                tool_tip=_("Write time, settings, calibration, errors and reason of each frame"),
            ),
            u.create_push_button(
                text=_("Copy Methods"),
                on_clicked="methods_clicked",
                enabled="@binding(is_logging)",
                tool_tip=_("A paragraph for a methods section, with the numbers of the log"),
            ),
            u.create_stretch(),
            spacing=8,
        ),
        u.create_check_box(
            text=_("Feed drift back to the scan's centre"),
            checked="@binding(is_fed_back)",
            enabled="@binding(is_correcting)",
            tool_tip=_("At most 0.05 nm for each frame; ends by itself where drift is ambiguous"),
        ),
        spacing=4,
    )
