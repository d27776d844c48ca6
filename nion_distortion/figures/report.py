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
    try:
        target.mkdir(parents=True, exist_ok=True)
        for caption, content in pictures.items():
            (target / f"{_slug(caption)}.png").write_bytes(content)
        written = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
        (target / "report.json").write_text(written + "\n", encoding="utf-8")
        (target / "report.html").write_text(page, encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{target} cannot be written to: {error.strerror}") from error
    return target / "report.html"


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _slug(caption: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", caption.lower()).strip("_")
