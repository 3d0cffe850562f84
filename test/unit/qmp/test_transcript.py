# SPDX-License-Identifier: BSD-2-Clause
"""`Transcript`: failures to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvkit.qmp.transcript import Transcript


@pytest.mark.parametrize("name", ["missing/transcript", "with\0null"])
def test_add_to_unwritable_file_logs_a_warning(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    Transcript(tmp_path / name).add("->", {"execute": "stop"})
    (warning,) = caplog.records
    assert warning.levelname == "WARNING"
    assert "transcript" in warning.getMessage()
