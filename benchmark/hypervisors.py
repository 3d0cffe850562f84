# SPDX-License-Identifier: BSD-2-Clause
"""Helpers for the figures of the KVM plugin: its monitors, its command lines, the commands that it sends."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hvkit.hypervisor.kvm.host.paths import RunDirectory


def control_monitor(run_dir: Path, name: str) -> Path:
    """Return the path of an instance's control monitor."""
    return RunDirectory(run_dir).instance(name).control_socket


def shared_monitor(run_dir: Path, name: str) -> Path:
    """Return the path of the monitor that an instance has for queries and short operations."""
    return RunDirectory(run_dir).instance(name).shared_socket


def command_line(pid: int) -> list[str]:
    """Return the command line of a running process."""
    return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").rstrip("\0").split("\0")


@contextlib.contextmanager
def recorded_commands() -> Iterator[list[dict[str, Any]]]:
    """Yield a list to which every command that hvkit sends inside a `with` block is added, without its id."""
    commands: list[dict[str, Any]] = []

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            arguments = record.args if isinstance(record.args, tuple) else (record.args,)
            for each in arguments:
                if isinstance(each, Mapping) and "execute" in each:
                    commands.append({name: value for name, value in each.items() if name != "id"})

    logger, recorder = logging.getLogger("hvkit.qmp"), Recorder()
    level, propagates = logger.level, logger.propagate
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(recorder)
    try:
        yield commands
    finally:
        logger.removeHandler(recorder)
        logger.setLevel(level)
        logger.propagate = propagates
