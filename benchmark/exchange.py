# SPDX-License-Identifier: BSD-2-Clause
"""One command and its reply, and the way to the first one: against the instant stub, and against QEMU."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmark.contestants import Contestant
from benchmark.harness import OURS, OURS_FAST, Effort, Figure, compare, cpus, pinned
from benchmark.servers import Servers


def _connected(contestants: Sequence[Contestant], paths: Sequence[Path]) -> contextlib.ExitStack:
    """Connect each contestant to a monitor of its own; the stack closes the connections."""
    with contextlib.ExitStack() as stack:
        for contestant, path in zip(contestants, paths, strict=True):
            contestant.connect(path)
            stack.callback(contestant.close)
        return stack.pop_all()


def query_status_stub(servers: Servers, contestants: Sequence[Contestant], effort: Effort) -> Figure:
    """Measure query-status against the instant stub."""
    with servers.stub() as path, pinned(cpus()[0]), _connected(contestants, [path] * len(contestants)):
        turns = {each.name: each.query_status_timed for each in contestants}
        return compare("query-status, instant stub", turns, effort.of(240, least=3), 200, {OURS: 1.7, OURS_FAST: 1.5})


def query_status_qemu(servers: Servers, contestants: Sequence[Contestant], effort: Effort, qemu: str) -> Figure:
    """Measure query-status against QEMU."""
    with servers.machine(qemu, len(contestants)) as paths, pinned(cpus()[0]), _connected(contestants, paths):
        turns = {each.name: each.query_status_timed for each in contestants}
        return compare("query-status, QEMU", turns, effort.of(240, least=3), 20, {OURS: 1.05, OURS_FAST: 1.05})


def blockdev_add(servers: Servers, contestants: Sequence[Contestant], effort: Effort, qemu: str) -> Figure:
    """Measure blockdev-add of a qcow2 image with cache options against QEMU; blockdev-del is not counted."""
    image = servers.directory / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "64M"], check=True)
    with servers.machine(qemu, len(contestants)) as paths, pinned(cpus()[0]), _connected(contestants, paths):
        turns = {each.name: partial(each.add_disk_timed, image) for each in contestants}
        return compare(
            "blockdev-add of a qcow2, QEMU", turns, effort.of(120, least=3), 4, {OURS: 1.05, OURS_FAST: 1.05}
        )


def connect(servers: Servers, contestants: Sequence[Contestant], effort: Effort) -> Figure:
    """Measure connecting and negotiating against the instant stub."""
    with servers.stub() as path, pinned(cpus()[0]):
        turns = {each.name: partial(each.connect_timed, path) for each in contestants}
        return compare(
            "connect and negotiate, instant stub", turns, effort.of(120, least=3), 20, {OURS: 1.6, OURS_FAST: 1.6}
        )
