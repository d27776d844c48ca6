"""The version that is installed, for the command line and for what a result records."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["installed_version"]


def installed_version() -> str:
    """Return the version of this package.

    Returns
    -------
    str
        That of the installed distribution, or that there is none.
    """
    try:
        return version("nion-distortion")
    except PackageNotFoundError:
        return "not installed"
