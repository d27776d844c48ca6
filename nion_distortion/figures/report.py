"""The report of a run: an HTML page with its pictures inside, every number as JSON, and PNGs."""

import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from nion_distortion._plain import as_plain
from nion_distortion.figures.page import html_page

__all__ = ["write_report"]


def write_report(
    folder: str | os.PathLike[str],
    numbers: Mapping[str, Any],
    figures: Mapping[str, Figure],
    *,
    title: str,
    paragraphs: Sequence[str] = (),
    files: Sequence[str] = (),
) -> Path:
    """Write ``report.html`` with its pictures inside, ``report.json`` and a PNG of each picture.

    Parameters
    ----------
    folder : str or path
        Made where it does not exist; an earlier report in it is replaced.
    numbers : Mapping
        Every number that is shown, by names that end in their unit; nested mappings, sequences
        and arrays are allowed, and what is not finite is written as null.
    figures : Mapping of str to Figure
        Pictures by their caption; it gives the file its name.
    title : str
        Heading of the report.
    paragraphs : sequence of str
        What is to be said, above the numbers.
    files : sequence of str
        Names of what else was written to the folder; with those of the report they are listed in
        ``report.json``, under ``files``.

    Returns
    -------
    path
        The HTML file.

    Raises
    ------
    ValueError
        If the folder cannot be written to.
    """
    target = Path(folder)
    values = as_plain(numbers)
    pictures = {caption: _png(figure) for caption, figure in figures.items()}
    page = html_page(title, paragraphs, values, pictures)
    shown = {f"{_slug(caption)}.png": content for caption, content in pictures.items()}
    listed = dict.fromkeys([*files, *shown, "report.html", "report.json"])
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, content in shown.items():
            (target / name).write_bytes(content)
        (target / "report.html").write_text(page, encoding="utf-8")
        told = values | {"files": list(listed)}
        written = json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False)
        # the last one: what is younger was changed by somebody else
        (target / "report.json").write_text(written + "\n", encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{target} cannot be written to: {error.strerror}") from error
    return target / "report.html"


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _slug(caption: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", caption.lower()).strip("_")
