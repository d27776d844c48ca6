"""Stacks from disk, results to disk: RosettaSciIO for the field's formats, h5py for ours."""

from nion_distortion.files.read import read_frames
from nion_distortion.files.write import write_corrected

__all__ = ["read_frames", "write_corrected"]
