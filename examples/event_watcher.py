#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Print the events of several virtual machines, one per line, until Ctrl-C.

After a failed or lost connection it reconnects every second. The connections are independent of each other.

    event_watcher.py /run/vm1.sock /run/vm2.sock
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime

from hvkit.qmp import Event, QmpError
from hvkit.qmp.aio import AsyncQmpConnection

RETRY_S = 1.0


def show(address: str, event: Event) -> None:
    """Print an event with its timestamp."""
    when = "(no timestamp)"
    if event.timestamp is not None:
        when = datetime.datetime.fromtimestamp(event.timestamp, datetime.UTC).isoformat(timespec="milliseconds")
    print(f"{address} {when} {event}", flush=True)


async def watch(address: str) -> None:
    """Print the events of one virtual machine, and reconnect whenever the connection ends."""
    while True:
        try:
            async with AsyncQmpConnection(address) as connection:
                with connection.subscribe() as events:
                    print(f"{address} connected: QEMU {connection.version}", flush=True)
                    async for event in events:
                        show(address, event)
        except QmpError as error:
            print(f"{address} {type(error).__name__}: {error}", flush=True)
        await asyncio.sleep(RETRY_S)


async def watch_all(addresses: list[str]) -> None:
    """Watch all virtual machines concurrently."""
    async with asyncio.TaskGroup() as tasks:
        for address in addresses:
            tasks.create_task(watch(address))


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description="print the events of virtual machines")
    parser.add_argument("address", nargs="+", help="QMP socket: a path, or @name for an abstract socket")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(watch_all(parser.parse_args().address))


if __name__ == "__main__":
    main()
