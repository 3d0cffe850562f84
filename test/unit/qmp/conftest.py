# SPDX-License-Identifier: BSD-2-Clause
from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a monitor's socket."""
    return tmp_path / "qmp.sock"


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """An event for a script to wait for; set at the end, so that a failing test does not block the stub."""
    event = threading.Event()
    yield event
    event.set()
