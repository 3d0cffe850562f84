# SPDX-License-Identifier: BSD-2-Clause
"""`run_program`: no process is left, even after an interrupt."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from hvkit.qmp.program import run_program

#: A script with a child process. Like QEMU, it keeps running when its monitor is closed.
STUBBORN = """#!/bin/sh
sleep 60 &
sleep 60
"""


@pytest.fixture
def stubborn(tmp_path: Path) -> str:
    path = tmp_path / "qemu"
    path.write_text(STUBBORN)
    path.chmod(0o755)
    return str(path)


def test_run_program_interrupted_before_popen_returns_kills_the_program(
    stubborn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def interrupted(*arguments: Any, **options: Any) -> None:
        started.append(popen(*arguments, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    with tempfile.TemporaryFile() as stderr, pytest.raises(KeyboardInterrupt), run_program(stubborn, stderr):
        pass
    (process,) = started
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
    process.wait(timeout=5)
