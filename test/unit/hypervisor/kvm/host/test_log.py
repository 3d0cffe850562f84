# SPDX-License-Identifier: BSD-2-Clause
"""Tests of the log of a QEMU: its end, and its size."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvkit.hypervisor import StopCause
from hvkit.hypervisor.kvm.host.log import (
    KEPT_BYTES,
    MAX_BYTES,
    LogEnd,
    parse_log_end,
    read_log_tail,
    trim_log,
)


def test_read_log_tail_returns_whole_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"line {number}\n" for number in range(1000)))
    tail = read_log_tail(log, max_bytes=20)
    assert tail == "line 998\nline 999"
    log.write_text("short\n")
    assert read_log_tail(log) == "short"
    assert read_log_tail(tmp_path / "missing") == ""


@pytest.mark.parametrize(
    ("text", "cause", "message"),
    [
        ("", None, ""),
        ("qemu: could not\n", None, "qemu: could not"),
        ("qemu: hm\nqemu_system_shutdown_request reason=2\n", StopCause.REQUEST, "qemu: hm"),
        ("77@17.5:qemu_system_shutdown_request reason=6\n", StopCause.GUEST, ""),
        ("qemu_system_shutdown_request reason=6\nqemu_system_shutdown_request reason=2\n", StopCause.GUEST, ""),
        ("qemu: terminating on signal 15 from pid 1 (init)\n", StopCause.REQUEST, ""),
        ("qemu_system_shutdown_request reason=3\n", None, ""),
        ("qemu_system_shutdown_request reason=99\n", StopCause.QEMU, ""),
    ],
)
def test_parse_log_end_returns_cause_and_message(text: str, cause: StopCause | None, message: str) -> None:
    assert parse_log_end(text) == LogEnd(cause, message)


def test_trim_log_keeps_whole_lines_and_open_file(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("ab", buffering=0) as qemu:
        for number in range(MAX_BYTES // 16 + 1):
            qemu.write(b"%015d\n" % number)
        assert trim_log(log)
        qemu.write(b"the end\n")
    first, *middle, last = log.read_text().splitlines()
    assert first.endswith(" bytes were cut here)")
    assert (int(middle[-1]), last) == (MAX_BYTES // 16, "the end")
    assert all(len(line) == 15 for line in middle)
    assert log.stat().st_size <= KEPT_BYTES + 100
    assert not trim_log(log)


def test_trim_log_ignores_missing_log_and_symlink(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(b"x" * (MAX_BYTES + 1))
    (tmp_path / "log").symlink_to("long")
    assert not trim_log(tmp_path / "log")
    assert not trim_log(tmp_path / "none")
    assert (tmp_path / "long").stat().st_size == MAX_BYTES + 1
