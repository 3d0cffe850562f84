#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
r"""A node daemon in small: typed calls for its machines, served to several threads of clients.

$ node_daemon.py /run/node.sock web1=/run/web1.sock &
$ printf 'web1 status\nweb1 cpus\nweb9 status\n' | nc -NU /run/node.sock
running
2
error: no machine web9
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

QUESTIONS: dict[str, Callable[[QmpConnection], object]] = {
    "status": lambda monitor: monitor.execute(QueryStatus()).status,
    "cpus": lambda monitor: len(monitor.execute(QueryCpusFast())),
}


class Machine:
    """A machine whose monitor all threads share; connected when it is first asked, and again when it was lost."""

    def __init__(self, address: str) -> None:
        self.monitor = QmpConnection(address)
        self.connecting = threading.Lock()

    def answer(self, question: str) -> object:
        """Return the answer to a client's question."""
        if question not in QUESTIONS:
            return f"error: no question {question}"
        try:
            with self.connecting:
                if not self.monitor.is_connected:
                    self.monitor.connect()
            return QUESTIONS[question](self.monitor)
        except QmpError as error:
            return f"error: {error}"


class Client(socketserver.StreamRequestHandler):
    """Answers one client, in a thread of its own, a line for each line."""

    machines: dict[str, Machine] = {}  # noqa: RUF012 - one set of machines for all clients

    def handle(self) -> None:
        """Serve the client until it leaves."""
        for line in self.rfile:
            name, _, question = line.decode(errors="replace").strip().partition(" ")
            machine = self.machines.get(name)
            self.wfile.write(f"{machine.answer(question) if machine else f'error: no machine {name}'}\n".encode())


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description="serve typed calls for machines")
    parser.add_argument("socket", help="where to listen for clients")
    parser.add_argument("machine", nargs="+", help="NAME=PATH of a monitor's socket")
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
