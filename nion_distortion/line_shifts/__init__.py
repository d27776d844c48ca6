"""Image and columns -> how far each line of the scan is shifted, and bent."""

from nion_distortion.line_shifts.shifts import BeamMotion, LineShifts, find_line_shifts

__all__ = ["BeamMotion", "LineShifts", "find_line_shifts"]
