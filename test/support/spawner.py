# SPDX-License-Identifier: BSD-2-Clause
"""Programs started by `spawn` for the duration of a test."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Final

from hvkit.hypervisor.kvm.host.process import ProcessIdentity, open_process
from hvkit.hypervisor.kvm.host.spawn import spawn

KILL: Final = ((signal.SIGKILL, 10.0),)


def python(program: str) -> list[str]:
    """Return the command line of a Python program."""
    return [sys.executable, "-I", "-c", program]


class Spawner:
    """Starts programs, and kills them after the test."""

    def __init__(self, directory: Path) -> None:
        self.log_file = directory / "log"
        self._started: list[ProcessIdentity] = []

    def __call__(self, *argv: str, pass_fds: tuple[int, ...] = ()) -> ProcessIdentity:
        with spawn(argv, log_file=self.log_file, pass_fds=pass_fds) as process:
            self._started.append(process.identity)
            return process.identity

    def finish(self, identity: ProcessIdentity) -> str:
        """Wait until a program has ended, and return its output."""
        process = open_process(identity)
        if process is not None:
            with process:
                assert process.wait(30)
        return self.log_file.read_text()

    def end_all(self) -> None:
        """Kill every program that still runs."""
        for identity in self._started:
            process = open_process(identity)
            if process is not None:
                with process:
                    assert process.end(KILL)
