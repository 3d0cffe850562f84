#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Print the events of any number of machines, one line each, until interrupted.

A machine that is not there, or goes away, is tried again every second; it does not keep the others waiting.

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
    """Print an event with the time by the machine's clock."""
    when = "no time"
    if event.timestamp is not None:
        when = datetime.datetime.fromtimestamp(event.timestamp, datetime.UTC).isoformat(timespec="milliseconds")
    print(f"{address} {when} {event}", flush=True)


async def watch(address: str) -> None:
    """Print the events of one machine, again and again from its start to its end."""
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
    """Watch machines side by side."""
    async with asyncio.TaskGroup() as tasks:
        for address in addresses:
            tasks.create_task(watch(address))


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description="print the events of machines")
    parser.add_argument("address", nargs="+", help="path of a monitor's socket, or @name of an abstract one")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(watch_all(parser.parse_args().address))


if __name__ == "__main__":
    main()
