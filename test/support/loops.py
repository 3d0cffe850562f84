# SPDX-License-Identifier: BSD-2-Clause
"""Helpers for tests that are coroutines."""

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
    """Run a test in an event loop in debug mode; fail if it leaves tasks or causes loop errors."""

    @functools.wraps(test)
    def run(*arguments: Any, **keywords: Any) -> None:
        async def main() -> None:
            loop_errors: list[Any] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: loop_errors.append(context))
            async with asyncio.timeout(60):
                await test(*arguments, **keywords)
            gc.collect()
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert loop_errors == []

        asyncio.run(main(), debug=True)

    return run


def descriptors() -> set[str]:
    """Return the open file descriptors of this process, each as its number and target."""
    found = set()
    for each in Path("/proc/self/fd").iterdir():
        try:
            found.add(f"{each.name} {os.readlink(each)}")
        except OSError:  # the descriptor of the listing itself
            continue
    return found


async def requests_of(stub: QmpStub, count: int) -> None:
    """Wait until a stub has received this many requests, without blocking the loop."""
    await asyncio.to_thread(stub.wait_for_requests, count)
