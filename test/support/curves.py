# SPDX-License-Identifier: BSD-2-Clause
"""Progress curves of real migrations: recording and reading. Tests replay them to convergence policies."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Final

from hvkit.hypervisor import MigrationStatus
from hvkit.hypervisor.convergence import Sample

_FILE: Final = Path(__file__).parent / "data" / "curves.json"
_RECORDING: Final = os.environ.get("HVKIT_RECORD") == "1"


class Curve:
    """The progress of a migration over time, starting when the object is created."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._samples: list[tuple[float, int, int | None]] = []

    def add_sample(self, status: MigrationStatus) -> None:
        """Add a sample of the migration's status."""
        at_s = round(time.monotonic() - self._began_s, 3)
        self._samples.append((at_s, status.transferred_bytes or 0, status.remaining_bytes))

    def record(self, name: str) -> None:
        """Save the curve under a name if HVKIT_RECORD=1 is set."""
        if _RECORDING:
            curves = json.loads(_FILE.read_text()) if _FILE.exists() else {}
            curves[name] = self._samples
            lines = [f' "{each}": {json.dumps(curves[each])}' for each in sorted(curves)]
            _FILE.parent.mkdir(exist_ok=True)
            _FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def read_curve(name: str) -> list[Sample]:
    """Return a recorded curve."""
    return [
        Sample(at_s=at_s, transferred_bytes=sent, remaining_bytes=left)
        for at_s, sent, left in json.loads(_FILE.read_text())[name]
    ]
