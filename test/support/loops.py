# SPDX-License-Identifier: BSD-2-Clause
"""Tests that are coroutines."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from hvkit.testing import QmpStub


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test in an event loop in debug mode; nothing may be left of it, and nobody may complain."""

    @functools.wraps(test)
    def run(*arguments: Any, **keywords: Any) -> None:
        async def main() -> None:
            complaints: list[Any] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
            async with asyncio.timeout(60):
                await test(*arguments, **keywords)
            gc.collect()
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert complaints == []

        asyncio.run(main(), debug=True)

    return run


def descriptors() -> set[str]:
    """What this process has open, by number and what it is."""
    found = set()
    for each in Path("/proc/self/fd").iterdir():
        try:
            found.add(f"{each.name} {os.readlink(each)}")
        except OSError:  # the listing's own
            continue
    return found


async def requests_of(stub: QmpStub, count: int) -> None:
    """Wait, without stopping the loop, until a stub was asked this many things."""
    await asyncio.to_thread(stub.wait_for_requests, count)
