# SPDX-License-Identifier: BSD-2-Clause
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from spawner import Spawner


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Spawner]:
    """Start programs that are killed after the test."""
    spawner = Spawner(tmp_path)
    yield spawner
    spawner.end_all()
