"""A live session as rows of a CSV file, and as a paragraph for a methods section."""

from nion_distortion.session_log.methods import methods_paragraph
from nion_distortion.session_log.rows import LogRow, log_row
from nion_distortion.session_log.writing import SessionLog, read_log

__all__ = ["LogRow", "SessionLog", "log_row", "methods_paragraph", "read_log"]
