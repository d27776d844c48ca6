"""A report as one HTML page: numbers with their units, pictures, and tables."""

import base64
import html
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from nion_distortion.diagnostics import with_std

__all__ = ["html_page"]

UNITS = {"pm": "pm", "nm": "nm", "px": "px", "s": "s", "ms": "ms", "us": "\u00b5s", "v": "V"}
UNITS |= {"rad": "rad", "deg": "\u00b0", "percent": "%"}
"""How a unit at the end of a name is shown."""

UNNAMED = {"effective_counts": "electrons", "pixels_per_cell": "px"}
"""Units of names that do not end in theirs."""

LARGER, LARGE = {"V": "kV", "\u00b5s": "ms"}, 1e4
"""Units that take over from a thousand of the smaller one, for numbers this large."""

ESTIMATE = {"value", "std", "p95"}
"""The parts of an estimate."""

ABSENT = {"unusable": "no"}
"""What nothing means, where it does not mean that something is not known."""

WITHOUT_ERROR = (
    "+- is one standard deviation. For numbers without it none is given: they are counts and "
    "settings, or their uncertainty is not known."
)

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
    tables = "\n".join(
        _entries(name.replace("_", " "), rows)
        for name, rows in values.items()
        if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows)
    )
    images = "\n".join(_picture(caption, content) for caption, content in pictures.items())
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body>\n<h1>{html.escape(title)}</h1>\n{text}\n<h2>numbers</h2>\n"
        f"<p>{html.escape(WITHOUT_ERROR)}</p>\n"
        f"{_listed(values)}\n{images}\n{tables}\n</body>\n</html>\n"
    )


class _Value(NamedTuple):
    """What stands in a row: a name, words or a number with its deviation, and the unit."""

    name: str
    words: str
    unit: str = ""
    is_number: bool = False
    is_known: bool = True

    @property
    def cell(self) -> str:
        kind = ' class="number"' if self.is_number else ""
        return f"<td{kind}>{html.escape(self.words)}</td>"


def _listed(values: Mapping[str, Any]) -> str:
    """Lay out one row for each value: name, value, unit."""
    body = "\n".join(
        f"<tr><td>{html.escape(one.name)}</td>{one.cell}<td>{one.unit}</td></tr>"
        for one in _values(values)
    )
    return f"<table>\n{body}\n</table>"


def _entries(name: str, entries: Sequence[Mapping[str, Any]]) -> str:
    """Lay out a single entry as a list; of several a table, and all parts of the last one."""
    title = html.escape(name)
    if len(entries) == 1:
        return f"<h2>{title}</h2>\n{_listed(entries[0])}"
    whole = ""
    if any(isinstance(value, Mapping) for value in entries[-1].values()):
        whole = f"\n<h2>{title}: the last one</h2>\n{_listed(entries[-1])}"
    return f"<h2>{title}</h2>\n{_table(entries)}{whole}"


def _table(entries: Sequence[Mapping[str, Any]]) -> str:
    """Lay out one row for each entry, with a column for each number that any of them has."""
    walked = []
    for entry in entries:
        plain = {key: value for key, value in entry.items() if not isinstance(value, Mapping)}
        sizes = {
            key: {"value": value["value"], "std": value["std"]}
            for key, value in entry.items()
            if _is_estimate(value)
        }
        own = {key: (plain | sizes)[key] for key in entry if key in plain or key in sizes}
        walked.append({one.name: one for one in _values(own)})
    told = dict.fromkeys(name for row in walked for name in row)
    some = {
        name: next((row[name] for row in walked if name in row and row[name].is_known), None)
        for name in told
    }
    known = {name: one for name, one in some.items() if one is not None}
    head = "".join(
        f"<th>{html.escape(name)}{f' ({one.unit})' if one.unit else ''}</th>"
        for name, one in known.items()
    )
    body = "\n".join(
        "<tr>" + "".join(row.get(name, _Value(name, "")).cell for name in known) + "</tr>"
        for row in walked
    )
    return f"<div><table>\n<tr>{head}</tr>\n{body}\n</table></div>"


def _picture(caption: str, content: bytes) -> str:
    encoded = base64.b64encode(content).decode("ascii")
    words = html.escape(caption, quote=True)
    return (
        f"<h2>{words}</h2>\n<figure>"
        f'<img alt="{words}" src="data:image/png;base64,{encoded}"></figure>'
    )


def _is_estimate(value: Any) -> bool:
    return isinstance(value, Mapping) and ESTIMATE >= set(value) >= {"value", "std"}


def _is_vector(value: Any) -> bool:
    return isinstance(value, list) and [type(part) for part in value] == [float, float]


def _values(values: Mapping[str, Any], above: str = "", unit: str = "") -> Iterator[_Value]:
    """Walk through the single values; a part inherits the unit of the whole.

    A pair of numbers is a vector (y, x).
    """
    stds = {_std_of(key) for key in values} & set(values)
    for key, value in ((key, value) for key, value in values.items() if key not in stds):
        words, own = _without_unit(key)
        name, shown_unit = above + words, own or unit
        if _is_estimate(value):
            yield _value(name, key, value["value"], value["std"], shown_unit)
            if "p95" in value:
                words = f"{name}, 95th percentile"
                yield _value(words, key, value["p95"], None, shown_unit)
        elif isinstance(value, Mapping):
            yield from _values(value, f"{name}: ", shown_unit)
        elif _is_vector(value):
            parts = zip("yx", value, _errors(values, key), strict=True)
            yield from (
                _value(f"{name} {axis}", key, part, error, shown_unit)
                for axis, part, error in parts
            )
        elif not isinstance(value, list):
            yield _value(name, key, value, values.get(_std_of(key)), shown_unit)


def _errors(values: Mapping[str, Any], key: str) -> Sequence[float | None]:
    """Return the deviations of a vector, which may be one for both parts."""
    std: Any = values.get(_std_of(key))
    return std if isinstance(std, list) else (std, std)


def _value(name: str, key: str, value: Any, std: float | None, unit: str) -> _Value:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        known = ABSENT.get(key, "not known")
        words = {None: known, True: "yes", False: "no"}.get(value, str(value))
        return _Value(name, words, is_known=value is not None)
    if key == "time_s":
        when = datetime.fromtimestamp(value, UTC).isoformat(" ", "milliseconds")
        return _Value(name, when.replace("+00:00", " UTC"))
    if unit in LARGER and abs(value) >= LARGE:
        value, std, unit = value / 1e3, None if std is None else std / 1e3, LARGER[unit]
    if isinstance(value, int):
        words = str(value)
    elif std is not None and std > 0.0:
        words = with_std(value, std, "").strip()
    else:
        words = f"{value:.4g}" if abs(value) < LARGE else f"{value:.0f}"
    return _Value(name, words, unit, is_number=True)


def _std_of(key: str) -> str:
    """Say under which name the standard deviation of a number stands beside it."""
    words, _, last = key.rpartition("_")
    return f"{words}_std_{last}" if last in UNITS else f"{key}_std"


def _without_unit(key: str) -> tuple[str, str]:
    words, _, last = key.rpartition("_")
    if last in UNITS and words:
        return words.replace("_", " "), UNITS[last]
    return key.replace("_", " "), UNNAMED.get(key, "")
