# SPDX-License-Identifier: BSD-2-Clause
"""What tests left behind: processes, sockets, network interfaces."""

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
#: What the taps of NICs are called that ask for no name; and the taps and bridges that tests make themselves.
_INTERFACE: Final = re.compile(r"hv[0-9a-f]{12}|hv[bt][0-9a-f]+")
_LOOK_AGAIN_S: Final = 0.05


@attrs.frozen
class Process:
    """A process that a test started and did not end."""

    pid: int
    command_line: str

    def __str__(self) -> str:
        return f"process {self.pid} was left running by a test and is ended: {self.command_line}"


def processes_of(session_dir: Path) -> Iterator[Process]:
    """Find the processes of a run: those that name its directory in their environment or on their command line."""
    name = bytes(session_dir)
    for directory in Path("/proc").glob("[0-9]*"):
        pid = int(directory.name)
        try:
            command_line = (directory / "cmdline").read_bytes()
            environment = (directory / "environ").read_bytes().split(b"\0")
        except OSError:  # it ended meanwhile, or is somebody else's
            continue
        if pid != os.getpid() and (b"TMPDIR=" + name in environment or name in command_line):
            yield Process(pid, command_line.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace"))


def sockets_below(directory: Path, *, only_mine: bool = False) -> list[str]:
    """Return the paths of all unix sockets below a directory that somebody has open, sorted.

    Args:
        directory: absolute.
        only_mine: leave out those that this process does not have open.

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
    """Return the inodes of all sockets that this process has open."""
    inodes = set()
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one through which the directory is read is closed again
            inodes.add(os.readlink(path).removeprefix("socket:[").removesuffix("]"))
    return frozenset(inodes)


def interfaces() -> frozenset[str]:
    """Return the names of all network interfaces of this machine that are called as ours are."""
    return frozenset(path.name for path in _NET.iterdir() if _INTERFACE.fullmatch(path.name))


def interfaces_left(before: frozenset[str], *, timeout_s: float) -> list[str]:
    """Return the interfaces that came and did not go, sorted; a tap that another run on this machine has is not ours.

    Args:
        before: those that were there in the beginning.
        timeout_s: seconds to wait for them to go: the kernel removes a tap some time after its last user.
    """
    deadline = time.monotonic() + timeout_s
    while left := sorted(name for name in interfaces() - before if not is_held_by_another(name)):
        if time.monotonic() >= deadline:
            break
        time.sleep(_LOOK_AGAIN_S)
    return left


def is_held_by_another(tap: str) -> bool:
    """Whether another process has a tap open. When a run is over, and its processes, that is none of its own."""
    for path in Path("/proc").glob("[0-9]*/fdinfo/*"):
        try:
            if int(path.parts[2]) != os.getpid() and f"\niff:\t{tap}\n" in path.read_text():
                return True
        except OSError:  # it ended or was closed meanwhile, or is somebody else's
            continue
    return False
