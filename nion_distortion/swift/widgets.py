"""Widgets as the host's declarative user interface describes them: names of a handler are bound."""

from nion.ui import Declarative

__all__ = ["UI", "Description", "button", "check_box", "row", "text", "typed"]

UI = Declarative.DeclarativeUI
Description = Declarative.UIDescription

LINE = 15
"""Height of a line of text."""


def row(u: UI, *widgets: Description | str, visible: str | None = None) -> Description:
    """Describe what stands side by side, from the left.

    Parameters
    ----------
    u : DeclarativeUI
        Describes widgets.
    *widgets : dict or str
        Words are labels.
    visible : str, optional
        Name of what says whether it is seen.

    Returns
    -------
    dict
        The row.
    """
    described = [u.create_label(text=one) if isinstance(one, str) else one for one in widgets]
    return u.create_row(*described, u.create_stretch(), spacing=5, visible=_bound(visible))


def text(
    u: UI,
    name: str,
    width: int,
    *,
    lines: int = 1,
    color: str | None = None,
    visible: str | None = None,
) -> Description:
    """Describe a text with room for its longest form: the host cuts one that grows.

    Parameters
    ----------
    u : DeclarativeUI
        Describes widgets.
    name : str
        Name of the text.
    width : int
        Where it is wrapped.
    lines : int, default: 1
        Of its longest form.
    color : str, optional
        Of the letters.
    visible : str, optional
        Name of what says whether it is seen.

    Returns
    -------
    dict
        The label.
    """
    return u.create_label(
        text=_bound(name),
        word_wrap=True,
        width=width,
        min_height=lines * LINE,
        text_alignment_vertical="top",
        color=color,
        visible=_bound(visible),
    )


def typed(
    u: UI, name: str, tool_tip: str, *, width: int | None = None, enabled: str | None = None
) -> Description:
    """Describe a line to type in.

    Parameters
    ----------
    u : DeclarativeUI
        Describes widgets.
    name : str
        Name of what is typed.
    tool_tip : str
        What it is, with its unit.
    width : int, optional
        Of the line.
    enabled : str, optional
        Name of what says whether anything may be typed.

    Returns
    -------
    dict
        The line.
    """
    return u.create_line_edit(
        text=_bound(name), width=width, tool_tip=tool_tip, enabled=_bound(enabled)
    )


def button(
    u: UI,
    words: str,
    clicked: str,
    tool_tip: str,
    *,
    enabled: str | None = None,
    visible: str | None = None,
) -> Description:
    """Describe a button.

    Parameters
    ----------
    u : DeclarativeUI
        Describes widgets.
    words : str
        On it.
    clicked : str
        Name of what it does.
    tool_tip : str
        What it does, in words.
    enabled, visible : str, optional
        Names of what says whether it may be pressed, and is seen.

    Returns
    -------
    dict
        The button.
    """
    return u.create_push_button(
        text=words,
        on_clicked=clicked,
        tool_tip=tool_tip,
        enabled=_bound(enabled),
        visible=_bound(visible),
    )


def check_box(
    u: UI, words: str, checked: str, tool_tip: str, *, enabled: str | None = None
) -> Description:
    """Describe a box to be ticked.

    Parameters
    ----------
    u : DeclarativeUI
        Describes widgets.
    words : str
        Beside it.
    checked : str
        Name of what says whether it is ticked.
    tool_tip : str
        What that does, in words.
    enabled : str, optional
        Name of what says whether it may be.

    Returns
    -------
    dict
        The box.
    """
    return u.create_check_box(
        text=words, checked=_bound(checked), tool_tip=tool_tip, enabled=_bound(enabled)
    )


def _bound(name: str | None) -> str | None:
    return None if name is None else f"@binding({name})"
