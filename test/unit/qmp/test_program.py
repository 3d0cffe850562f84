# SPDX-License-Identifier: BSD-2-Clause
"""A program that was run to be questioned is gone afterwards, whatever happens."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from hvkit.qmp.program import run_program

#: It stays when its monitor is closed, as QEMU does, and is a script that runs something else.
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


def test_program_is_killed_when_an_interrupt_hides_its_number(stubborn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def interrupted(*arguments: Any, **options: Any) -> None:
        started.append(popen(*arguments, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    with tempfile.TemporaryFile() as said, pytest.raises(KeyboardInterrupt), run_program(stubborn, said):
        pass
    (process,) = started
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
    process.wait(timeout=5)
