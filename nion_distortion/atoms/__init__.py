"""A frame's atomic columns: found, fitted, and each with the covariance of its position."""

from nion_distortion.atoms.columns import AtomColumns
from nion_distortion.atoms.find import find_columns
from nion_distortion.atoms.maxima import local_maxima
from nion_distortion.atoms.noise import Noise, estimate_noise
from nion_distortion.atoms.shape import ColumnShape

__all__ = ["AtomColumns", "ColumnShape", "Noise", "estimate_noise", "find_columns", "local_maxima"]
