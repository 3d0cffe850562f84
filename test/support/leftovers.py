# SPDX-License-Identifier: BSD-2-Clause
"""Detection of leftovers of tests: processes, sockets and network interfaces."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

_NET: Final = Path("/sys/class/net")
#: Names of taps that hvkit generates, and of taps and bridges that tests create.
_INTERFACE: Final = re.compile(r"hv[0-9a-f]{12}|hv[bt][0-9a-f]+")
_POLL_INTERVAL_S: Final = 0.05


@attrs.frozen
class Process:
    """A process that a test did not stop."""

    pid: int
    command_line: str

    def __str__(self) -> str:
        return f"process {self.pid} was left running by a test and is killed: {self.command_line}"


def processes_of(session_dir: Path) -> Iterator[Process]:
    """Find the processes of a test run: TMPDIR or the command line contains its directory."""
    name = bytes(session_dir)
    for directory in Path("/proc").glob("[0-9]*"):
        pid = int(directory.name)
        try:
            command_line = (directory / "cmdline").read_bytes()
            environment = (directory / "environ").read_bytes().split(b"\0")
        except OSError:  # the process exited, or belongs to another user
            continue
        if pid != os.getpid() and (b"TMPDIR=" + name in environment or name in command_line):
            yield Process(pid, command_line.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace"))


def sockets_below(directory: Path, *, only_mine: bool = False) -> list[str]:
    """Return the paths of all open unix sockets below a directory, sorted.

    Args:
        directory: an absolute path.
        only_mine: return only sockets that this process has open.

    Source: the kernel's Documentation/filesystems/proc.rst, /proc/net/unix.
    """
    mine = _open_sockets() if only_mine else frozenset()
    paths = set()
    for line in Path("/proc/net/unix").read_text(errors="replace").splitlines()[1:]:
        match line.split(maxsplit=7):
            case [*_, inode, path] if path.startswith(f"{directory}/") and (not only_mine or inode in mine):
                paths.add(path)
    return sorted(paths)


def _open_sockets() -> frozenset[str]:
    """Return the inodes of the sockets that this process has open."""
    inodes = set()
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the descriptor of the listing itself is closed
            inodes.add(os.readlink(path).removeprefix("socket:[").removesuffix("]"))
    return frozenset(inodes)


def interfaces() -> frozenset[str]:
    """Return the names of all network interfaces whose names match those of hvkit and its tests."""
    return frozenset(path.name for path in _NET.iterdir() if _INTERFACE.fullmatch(path.name))


def interfaces_left(before: frozenset[str], *, timeout_s: float) -> list[str]:
    """Return the interfaces that were created and not removed, sorted. Taps in use by another process do not count.

    Args:
        before: the interfaces at the start.
        timeout_s: maximum wait in seconds. The kernel removes a tap some time after its last user exits.
    """
    deadline = time.monotonic() + timeout_s
    while left := sorted(name for name in interfaces() - before if not is_held_by_another(name)):
        if time.monotonic() >= deadline:
            break
        time.sleep(_POLL_INTERVAL_S)
    return left


def is_held_by_another(tap: str) -> bool:
    """Whether another process has a tap open. At the end of a run, that is a process of another run."""
    for path in Path("/proc").glob("[0-9]*/fdinfo/*"):
        try:
            if int(path.parts[2]) != os.getpid() and f"\niff:\t{tap}\n" in path.read_text():
                return True
        except OSError:  # the process exited, or belongs to another user
            continue
    return False
