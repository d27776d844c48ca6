"""A report as one HTML page: numbers with their units, pictures, and tables."""

import base64
import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["html_page"]

UNITS = {"pm": "pm", "nm": "nm", "px": "px", "s": "s", "ms": "ms", "us": "\u00b5s", "v": "V"}
UNITS |= {"rad": "rad", "percent": "%"}
"""How a unit at the end of a name is shown."""

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 70rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
figure { margin: 0; } img { width: 100%; height: auto; }
table { border-collapse: collapse; }
td, th { padding: .18rem 1.2rem .18rem 0; text-align: left; border-bottom: 1px solid #e4e4e4; }
div { overflow-x: auto; } th { font-weight: 600; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
"""


def html_page(
    title: str, paragraphs: Sequence[str], values: Mapping[str, Any], pictures: Mapping[str, bytes]
) -> str:
    """Lay out a report as one page that needs nothing beside it.

    Parameters
    ----------
    title : str
        Its heading.
    paragraphs : sequence of str
        What is to be said, above the numbers.
    values : Mapping
        Plain values by names that end in their unit; lists of mappings become tables.
    pictures : Mapping of str to bytes
        PNG files by their caption.

    Returns
    -------
    str
        HTML.
    """
    text = "\n".join(f"<p>{html.escape(paragraph)}</p>" for paragraph in paragraphs)
    single = "\n".join(
        f"<tr><td>{html.escape(name)}</td>{_cell(value)}<td>{unit}</td></tr>"
        for name, value, unit in _rows(values)
    )
    tables = "\n".join(
        f"<h2>{html.escape(name)}</h2>\n{_table(rows)}"
        for name, rows in values.items()
        if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows)
    )
    images = "\n".join(_picture(caption, content) for caption, content in pictures.items())
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body>\n<h1>{html.escape(title)}</h1>\n{text}\n<h2>numbers</h2>\n"
        f"<table>\n{single}\n</table>\n{images}\n{tables}\n</body>\n</html>\n"
    )


def _table(entries: Sequence[Mapping[str, Any]]) -> str:
    """Lay out one row for each entry, with a column for each name that any of them has."""
    walked = [{(name, unit): value for name, value, unit in _rows(entry)} for entry in entries]
    names = list(dict.fromkeys(key for row in walked for key in row))
    head = "".join(
        f"<th>{html.escape(name)}{f' ({unit})' if unit else ''}</th>" for name, unit in names
    )
    body = "\n".join(
        "<tr>" + "".join(_cell(row.get(name, "")) for name in names) + "</tr>" for row in walked
    )
    return f"<div><table>\n<tr>{head}</tr>\n{body}\n</table></div>"


def _picture(caption: str, content: bytes) -> str:
    encoded = base64.b64encode(content).decode("ascii")
    words = html.escape(caption, quote=True)
    return (
        f"<h2>{words}</h2>\n<figure>"
        f'<img alt="{words}" src="data:image/png;base64,{encoded}"></figure>'
    )


def _cell(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        words = {None: "not known", True: "yes", False: "no"}.get(value, str(value))
        return f"<td>{html.escape(words)}</td>"
    shown = str(value) if isinstance(value, int) else f"{value:.4g}"
    return f'<td class="number">{shown}</td>'


def _rows(
    values: Mapping[str, Any], above: str = "", unit: str = ""
) -> Iterator[tuple[str, Any, str]]:
    """Walk through the single values with their units; a part inherits the unit of the whole."""
    for key, value in values.items():
        words, own = _without_unit(key)
        if isinstance(value, Mapping):
            yield from _rows(value, f"{above}{words}: ", own or unit)
        elif not isinstance(value, list):
            yield above + words, value, own or unit


def _without_unit(key: str) -> tuple[str, str]:
    words, _, last = key.rpartition("_")
    if last in UNITS and words:
        return words.replace("_", " "), UNITS[last]
    return key.replace("_", " "), ""
