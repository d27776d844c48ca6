"""Stacks from disk, results to disk: RosettaSciIO for the field's formats, h5py for ours."""

from nion_distortion.files.read import read_frames
from nion_distortion.files.spectra import SpectrumImage, open_spectrum_image
from nion_distortion.files.write import write_corrected, write_corrected_blocks, write_field

__all__ = [
    "SpectrumImage",
    "open_spectrum_image",
    "read_frames",
    "write_corrected",
    "write_corrected_blocks",
    "write_field",
]
