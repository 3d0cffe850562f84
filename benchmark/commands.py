# SPDX-License-Identifier: BSD-2-Clause
"""Measurements of one command and of connecting, with the stub server and with QEMU."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmark.clients import Client
from benchmark.figure import OURS, OURS_FAST, Figure
from benchmark.harness import Effort, compare, pinned
from benchmark.servers import Servers


def _connected(clients: Sequence[Client], paths: Sequence[Path]) -> contextlib.ExitStack:
    """Connect each client to its own monitor; leaving the stack closes the connections."""
    with contextlib.ExitStack() as stack:
        for client, path in zip(clients, paths, strict=True):
            client.connect(path)
            stack.callback(client.close)
        return stack.pop_all()


def round_trip(servers: Servers, clients: Sequence[Client], effort: Effort) -> Figure:
    """Measure `query-status` with the stub server."""
    with pinned(), servers.stub() as path, _connected(clients, [path] * len(clients)):
        return compare(
            "`query-status`, stub server",
            "One command and its reply on an open connection.",
            {each.name: each.query_status_turn for each in clients},
            rounds=effort.of(240, least=3),
            calls=100,
            aims={OURS: 1.45, OURS_FAST: 1.45},
        )


def connect(servers: Servers, clients: Sequence[Client], effort: Effort) -> Figure:
    """Measure connecting and negotiating with the stub server."""
    with pinned(), servers.stub() as path:
        return compare(
            "Connecting, stub server",
            "Connecting, the greeting and the negotiation. Closing the connection is not measured.",
            {each.name: partial(each.connect_turn, path) for each in clients},
            rounds=effort.of(240, least=3),
            calls=20,
            aims={OURS: 1.5, OURS_FAST: 1.5},
        )


def round_trip_qemu(servers: Servers, clients: Sequence[Client], effort: Effort) -> Figure:
    """Measure `query-status` with QEMU."""
    with pinned(), servers.machine(len(clients)) as paths, _connected(clients, paths):
        return compare(
            "`query-status`, QEMU",
            "One command and its reply on an open connection. QEMU reads its monitor byte by byte, which takes most of "
            "the time.",
            {each.name: each.query_status_turn for each in clients},
            rounds=effort.of(240, least=3),
            calls=20,
            aims={OURS: 1.12, OURS_FAST: 1.12},
        )


def blockdev_add_qemu(servers: Servers, clients: Sequence[Client], effort: Effort) -> Figure:
    """Measure `blockdev-add` of a qcow2 image with cache options with QEMU."""
    image = servers.directory / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "64M"], check=True)
    with pinned(), servers.machine(len(clients)) as paths, _connected(clients, paths):
        return compare(
            "`blockdev-add`, QEMU",
            "Adding a qcow2 image with cache options. `blockdev-del` is not measured.",
            {each.name: partial(each.add_disk_turn, image) for each in clients},
            rounds=effort.of(120, least=3),
            calls=4,
            aims={OURS: 1.05, OURS_FAST: 1.05},
        )
