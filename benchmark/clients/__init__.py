# SPDX-License-Identifier: BSD-2-Clause
"""The measured clients: those of hvkit, those of other projects, and minimal clients on a socket."""

from __future__ import annotations

from typing import Final

from benchmark.clients.base import Client, EventClient
from benchmark.clients.ours import Hvkit, HvkitAsync, HvkitFast
from benchmark.clients.peers import Ganeti, QemuQmp, QmpPackage
from benchmark.clients.sockets import BareSocket, JsonSocket, OrjsonSocket

__all__ = ["Client", "EventClient", "find_clients"]

_CLIENTS: Final[tuple[type[Client], ...]] = (
    BareSocket,
    JsonSocket,
    OrjsonSocket,
    Hvkit,
    HvkitFast,
    QmpPackage,
    Ganeti,
    HvkitAsync,
    QemuQmp,
)


def find_clients() -> tuple[list[Client], list[str]]:
    """Return the clients that are installed, and the names of the others."""
    found: list[Client] = []
    missing: list[str] = []
    for each in _CLIENTS:
        try:
            found.append(each())
        except ImportError:
            missing.append(each.name)
    return found, missing
