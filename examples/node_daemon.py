#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
r"""A small node daemon: serves queries about virtual machines to several clients, one thread per client.

$ node_daemon.py /run/node.sock web1=/run/web1.sock &
$ printf 'web1 status\nweb1 cpus\nweb9 status\n' | nc -NU /run/node.sock
running
2
error: unknown machine web9
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socketserver
import threading
from collections.abc import Callable

from hvkit.qmp import QmpConnection, QmpError
from hvkit.qmp.schema import QueryCpusFast, QueryStatus

QUERIES: dict[str, Callable[[QmpConnection], object]] = {
    "status": lambda monitor: monitor.execute(QueryStatus()).status,
    "cpus": lambda monitor: len(monitor.execute(QueryCpusFast())),
}


class Machine:
    """A virtual machine. All threads share its monitor, which connects at the first query and reconnects if needed."""

    def __init__(self, address: str) -> None:
        self.monitor = QmpConnection(address)
        self.connecting = threading.Lock()

    def answer(self, query: str) -> object:
        """Return the result of a query, or an error message."""
        if query not in QUERIES:
            return f"error: unknown query {query}"
        try:
            with self.connecting:
                if not self.monitor.is_connected:
                    self.monitor.connect()
            return QUERIES[query](self.monitor)
        except QmpError as error:
            return f"error: {error}"


class Client(socketserver.StreamRequestHandler):
    """Serves one client in its own thread: one line per query, one line per answer."""

    machines: dict[str, Machine] = {}  # noqa: RUF012 - shared by all clients

    def handle(self) -> None:
        """Serve the client until it disconnects."""
        for line in self.rfile:
            name, _, query = line.decode(errors="replace").strip().partition(" ")
            machine = self.machines.get(name)
            self.wfile.write(f"{machine.answer(query) if machine else f'error: unknown machine {name}'}\n".encode())


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description="serve queries about virtual machines")
    parser.add_argument("socket", help="unix socket to listen on for clients")
    parser.add_argument("machine", nargs="+", help="name and QMP socket of a virtual machine, as NAME=PATH")
    options = parser.parse_args()
    Client.machines = {name: Machine(path) for name, path in (each.split("=", 1) for each in options.machine)}
    with socketserver.ThreadingUnixStreamServer(options.socket, Client) as server, contextlib.ExitStack() as stack:
        stack.callback(os.unlink, options.socket)
        for machine in Client.machines.values():
            stack.callback(machine.monitor.close)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    main()
