"""Nion Swift with a script: the launcher starts this file in place of the host's own application.

``NionSwiftLauncher PREFIX application.py`` opens the project that was prepared and then runs
``async def script(application, window)`` of the file that NION_DISTORTION_SCRIPT names, on the
window's event loop. What the script raises goes into the file NION_DISTORTION_TROUBLE.
"""

import os
import pathlib
import runpy
import traceback
from typing import Any

from nion.swift import Application, Facade
from nion.ui import Application as UIApplication


class ScriptedApplication(Application.Application):
    """The host's application, and a script in its first window."""

    def start(self, **arguments: Any) -> bool:
        """Open the project's window, and begin the script in it."""
        started = bool(super().start(**arguments))
        window = self.document_controllers[0]
        window.event_loop.create_task(self._run(window))
        return started

    async def _run(self, window: Any) -> None:
        try:
            await runpy.run_path(os.environ["NION_DISTORTION_SCRIPT"])["script"](self, window)
        except BaseException:
            pathlib.Path(os.environ["NION_DISTORTION_TROUBLE"]).write_text(traceback.format_exc())
            raise
        finally:
            window.queue_request_close()  # a window cannot be closed from inside its own loop


def main(_arguments: Any, bootstrap_arguments: Any) -> Application.Application:
    """Make the application; the launcher calls this."""
    Facade.initialize()
    application = ScriptedApplication(UIApplication.make_ui(bootstrap_arguments))
    application.initialize(use_root_dir=False)
    return application
