# SPDX-License-Identifier: BSD-2-Clause
"""The end of a log."""

from __future__ import annotations

from pathlib import Path

from hvkit.hypervisor.kvm.host.log import read_log_tail


def test_read_log_tail_returns_whole_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"line {number}\n" for number in range(1000)))
    tail = read_log_tail(log, max_bytes=20)
    assert tail == "line 998\nline 999"
    log.write_text("short\n")
    assert read_log_tail(log) == "short"
    assert read_log_tail(tmp_path / "missing") == ""
