# SPDX-License-Identifier: BSD-2-Clause
"""Fixtures for tests of the guest agent's connection against a stub."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripted_agent import (
    Scripted,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent.sock"


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """An event that a script waits for; set at the end of the test, so that a failed test does not block the stub."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def scripted(path: Path) -> Iterator[Scripted]:
    with contextlib.ExitStack() as stack:
        yield Scripted(path, stack)
