"""The real Nion Swift on a virtual screen, with the simulated microscope and a script."""

import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

__all__ = ["missing", "run_in_swift"]

HERE = pathlib.Path(__file__).resolve().parent
LAUNCHER = pathlib.Path(sys.prefix) / "bin" / "NionSwiftLauncher" / "NionSwiftLauncher"


def missing() -> str:
    """Say what Nion Swift cannot be started without here.

    Returns
    -------
    str
        Nothing where it can be.
    """
    if shutil.which("Xvfb") is None:
        return "there is no Xvfb here"
    return "" if LAUNCHER.exists() else "nionswift-tool is not installed here"


@contextmanager
def _screen() -> Iterator[str]:
    """Start a virtual screen; it chooses a number that is free."""
    reading, writing = os.pipe()
    told = ["-displayfd", str(writing), "-screen", "0", "1920x1080x24", "-nolisten", "tcp"]
    with subprocess.Popen(
        ["Xvfb", *told],
        pass_fds=[writing],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        os.close(writing)
        with os.fdopen(reading) as line:
            number = line.readline().strip()
        try:
            yield f":{number}"
        finally:
            server.terminate()


def run_in_swift(
    script: pathlib.Path,
    folder: pathlib.Path,
    *,
    timeout_s: float,
    settings: Mapping[str, str] | None = None,
) -> str:
    """Start Nion Swift with an empty project, run a script in its window, and close it.

    Parameters
    ----------
    script : path
        A file with ``async def script(application, window)``.
    folder : path
        Becomes the program's home, and NION_DISTORTION_SEEN of the script.
    timeout_s : float
        The program is ended after this.
    settings : Mapping of str to str, optional
        Environment variables of the script.

    Returns
    -------
    str
        What the program printed.

    Raises
    ------
    RuntimeError
        If the script raised something, with that, or the program did not end well.
    """
    home, trouble = folder / "home", folder / "trouble.txt"
    subprocess.run([sys.executable, str(HERE / "prepare.py"), str(home)], check=True)
    own = {
        "HOME": str(home),
        "XDG_DATA_HOME": str(home / ".local" / "share"),
        "QT_LOGGING_RULES": "*.debug=false",
        "LANGUAGE": "C",  # as `nion-distortion swift` starts it
        "NION_DISTORTION_SIMULATOR": "1",
        "NION_DISTORTION_SCRIPT": str(script),
        "NION_DISTORTION_SEEN": str(folder),
        "NION_DISTORTION_TROUBLE": str(trouble),
    }
    with _screen() as display:
        ended = subprocess.run(
            [str(LAUNCHER), sys.prefix, str(HERE / "application.py")],
            env=os.environ | own | {"DISPLAY": display} | dict(settings or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    if trouble.exists():
        raise RuntimeError(f"{trouble.read_text()}\n{ended.stdout}")
    if ended.returncode:
        raise RuntimeError(f"Nion Swift ended with exit code {ended.returncode}\n{ended.stdout}")
    return ended.stdout
