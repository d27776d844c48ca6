"""One session of an operator: opens, calibrates, corrects, changes settings and sample, closes.

Runs inside Nion Swift (see application.py). Writes what it saw to ``seen.json``, and pictures of
the screen, into the folder NION_DISTORTION_SEEN.
"""

import asyncio
import json
import os
import pathlib
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

from nion.instrumentation import HardwareSource
from nion.swift.model import PlugInManager
from nion.utils import Geometry

from nion_distortion.swift.panel import PANEL_ID
from simulator.nion_device import profile_parameters
from simulator.specimen import make_specimen

FOLDER = pathlib.Path(os.environ["NION_DISTORTION_SEEN"])
EXTENSION_ID = "nion_distortion.extension"
PATIENCE_S = 240.0
"""The first frame waits for kernels that are compiled."""


class Session:
    """What the script looks at."""

    def __init__(self, window: Any, control: Any) -> None:
        self.window, self.control = window, control
        self.seen: dict[str, Any] = {}
        self._changed = asyncio.Event()
        self._listener = control.changed_event.listen(self._changed.set)

    async def until(self, what: str, condition: Callable[[], bool]) -> None:
        """Wait until something is true; the panel's own event says when to look again."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()
        self.seen[what] = self.state()

    def state(self) -> dict[str, Any]:
        """Say what there is now."""
        live = self.control.last
        report = None if live is None else live.report
        known = None if report is None or report.corrected_pm is None else report
        return {
            "message": self.control.message,
            "reason": None if live is None else live.reason,
            "off_by_pm": None if known is None else known.off_by_pm.value,
            "corrected_pm": None if known is None else known.corrected_pm.value,
            "kind": None if known is None else known.field.kind,
            "calibration": None
            if live is None or live.calibration is None
            else live.calibration.calibration_id,
            "fov_nm": None if live is None else live.scan[0].settings.field_of_view_nm,
            "items": len(self.window.document_model.data_items),
        }

    async def picture(self, name: str) -> None:
        """Take a picture of the screen, after the window has drawn what is new."""
        await asyncio.sleep(1.5)  # not a wait for anything of ours: the host draws in ticks
        subprocess.run(["import", "-window", "root", FOLDER / f"{name}.png"], check=True)

    def write(self) -> None:
        """Write what was seen."""
        (FOLDER / "seen.json").write_text(json.dumps(self.seen, indent=1))


def corrected_once(session: Session, kind: str) -> Callable[[], bool]:
    """Return whether the newest frame was corrected by a kind of field."""

    def is_so() -> bool:
        live = session.control.last
        return bool(
            live
            and live.report
            and live.report.field is not None
            and live.report.field.kind == kind
        )

    return is_so


def of_field(session: Session, fov_nm: float) -> Callable[[], bool]:
    """Return whether the newest frame has a field of view."""
    return lambda: bool(
        session.control.last and session.control.last.scan[0].settings.field_of_view_nm == fov_nm
    )


def maximise() -> None:
    """Let the window fill the screen; without a window manager nobody else would."""
    found = subprocess.run(
        ["xdotool", "search", "--onlyvisible", "--name", "Nion Swift"],
        capture_output=True,
        text=True,
        check=False,
    )
    for number in found.stdout.split():
        place = ["windowmove", number, "0", "0", "windowsize", number, "1920", "1080"]
        subprocess.run(["xdotool", *place], check=False)


def scan_source() -> Any:
    """Return the simulated scan."""
    (scan,) = HardwareSource.HardwareSourceManager().hardware_sources
    return scan


async def opened(window: Any) -> Session:
    """Open the workspace; return what looks at it."""
    ours = [one for one in PlugInManager.extensions if one.extension_id == EXTENSION_ID]
    session = Session(window, ours[0].controls.of(window))
    await asyncio.sleep(1.5)  # the host's window appears in the first ticks
    maximise()
    await session.picture("opened")
    return session


def widgets(widget: Any) -> Iterator[Any]:
    """Yield a widget and all in it."""
    yield widget
    for inner in widget._contained_widgets:  # there is no public way
        yield from widgets(inner)


USED = ("ComboBoxWidget", "LineEditWidget", "PushButtonWidget", "CheckBoxWidget")


def key(name: str) -> None:
    """Press a key in the program's window; without a window manager it must be given the keys."""
    found = subprocess.run(
        ["xdotool", "search", "--onlyvisible", "--name", "Nion Swift"],
        capture_output=True,
        text=True,
        check=True,
    )
    for number in found.stdout.split():
        subprocess.run(["xdotool", "windowfocus", number], check=False)
    subprocess.run(["xdotool", "key", name], check=True)


def drawn_items(item: Any) -> Iterator[Any]:
    """Yield what is drawn in a panel, and all in it."""
    yield item
    for inner in getattr(item, "canvas_items", ()):
        yield from drawn_items(inner)


def click(thing: Any, size: Any) -> None:
    """Click into the middle of a widget, or of what is drawn."""
    place = thing.map_to_global(Geometry.IntPoint(y=size.height // 2, x=size.width // 2))
    moved = ["mousemove", str(place.x), str(place.y)]
    subprocess.run(["xdotool", *moved, "click", "1"], check=True)


async def clicked(session: Session, scan: Any) -> None:
    """Click twice, as README says: one click scans, one corrects."""
    panels = session.window.workspace.display_panels
    (start,) = [one for one in drawn_items(panels[0]) if getattr(one, "text", "") == "Scan"]
    click(start, start.canvas_size)
    async with asyncio.timeout(PATIENCE_S):
        while not scan.is_playing:
            await asyncio.sleep(0.1)
    panel = session.window.workspace_controller._find_dock_panel(PANEL_ID)
    buttons = [one for one in widgets(panel.widget) if type(one).__name__ == "PushButtonWidget"]
    (correct,) = [one for one in buttons if one.text == "Correct Live"]
    click(correct, correct.size)
    await session.until("clicked", corrected_once(session, "frame"))
    await session.picture("clicked")
    session.seen["child"] = session.control.running.session._stages.child.pid
    session.control.stop()
    scan.abort_playing(sync_timeout=10.0)
    session.control.choose(sample="unknown")


async def walked(session: Session) -> None:
    """Walk through the panel with the tab key, and note where it leads."""
    panel = session.window.workspace_controller._find_dock_panel(PANEL_ID)
    used = [one for one in widgets(panel.widget) if type(one).__name__ in USED]
    seen: list[int] = []
    session.control.choose(sample="cell")  # so that its edges are there
    used[0].focused = True
    for _ in range(2 * len(used)):
        await asyncio.sleep(0.1)  # keys come through the screen's server
        focused = [number for number, one in enumerate(used) if one.focused]
        seen += [number for number in focused if number not in seen]
        key("Tab")
    may = [one for one in used if one.enabled and one.visible]
    session.seen["walked"] = {"order": seen, "reachable": [used.index(one) for one in may]}
    session.control.choose(sample="unknown")


async def checked(session: Session, scan: Any) -> None:
    """See before anything is calibrated whether the microscope is set up well enough."""
    control = session.control
    scan.set_current_frame_parameters(profile_parameters((256, 256), 1.0, 8.0))
    scan.start_playing()
    control.choose(sample="SrTiO3 [001]")
    control.check_set_up(session.window)
    await session.until("checked", lambda: not control.is_checking)
    seen = control.set_up
    session.seen["set-up"] = None if seen is None or seen.hint is None else seen.hint.sentence
    await session.picture("set-up")
    control.choose(sample="unknown")


async def calibrated(session: Session) -> None:
    """Scan a crystal, calibrate on it, and correct it by its own lattice."""
    control = session.control
    control.start(session.window)
    await session.until("uncalibrated", lambda: control.last is not None)
    control.choose(sample="SrTiO3 [001]", frames=6, sample_name="simulated STO")
    control.calibrate(session.window)
    await session.until("calibrated", lambda: not control.is_calibrating)
    control.choose(applied="own lattice")
    await session.until("own lattice", corrected_once(session, "frame"))
    await session.picture("reference")


async def corrected(session: Session, scan: Any) -> None:
    """Change the sample, and then the settings there and back."""
    control = session.control
    scan.scan_device.specimen = make_specimen("pto_sto", rotation_rad=0.07)
    control.choose(sample="unknown", arrows=10)
    await session.until("other sample", corrected_once(session, "stationary"))
    await session.picture("sample")
    control.record()
    session.seen["recorded"] = session.state()
    scan.set_current_frame_parameters(profile_parameters((256, 256), 1.0, 12.0))
    await session.until("other settings", of_field(session, 12.0))
    scan.set_current_frame_parameters(profile_parameters((256, 256), 1.0, 8.0))
    await session.until("first settings", of_field(session, 8.0))


async def script(_application: Any, window: Any) -> None:
    """Work as an operator does."""
    scan, session = scan_source(), await opened(window)
    await clicked(session, scan)
    await walked(session)
    await checked(session, scan)
    await calibrated(session)
    await corrected(session, scan)
    session.control.stop()
    scan.abort_playing(sync_timeout=10.0)
    session.seen["stopped"] = session.state()
    session.write()
