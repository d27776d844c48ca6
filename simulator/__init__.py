"""A microscope whose distortion is known, so that the product can be tried and tested."""
