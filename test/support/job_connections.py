# SPDX-License-Identifier: BSD-2-Clause
"""Jobs and commands over a blocking and over an asyncio connection, with one interface."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hvkit.qmp import (
    QmpConnection,
    jobs,
)
from hvkit.qmp.aio import AsyncQmpConnection


class Blocking:
    """Jobs and commands over a blocking connection."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.connection = QmpConnection(path, **options)
        self.connection.connect()
        self.start: Callable[..., Any] = lambda command: jobs.Job.start(self.connection, command)
        self.find: Callable[..., Any] = lambda job_id: jobs.Job.find(self.connection, job_id)
        self.run_job: Callable[..., Any] = lambda command, **options: jobs.run_job(self.connection, command, **options)
        self.execute: Callable[..., Any] = self.connection.execute

    def close(self) -> None:
        self.connection.close()


class LoopAdapter:
    """Makes the coroutine methods of an object callable like blocking ones."""

    def __init__(self, runner: asyncio.Runner, target: Any) -> None:
        self._runner = runner
        self._target = target

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if inspect.iscoroutinefunction(found):
            return lambda *arguments, **keywords: self._runner.run(found(*arguments, **keywords))
        if inspect.isasyncgenfunction(found):
            return lambda *arguments, **keywords: self._iterate(found(*arguments, **keywords))
        return found

    def __enter__(self) -> LoopAdapter:
        return self

    def __exit__(self, *_: object) -> None:
        self._target.close()

    def _iterate(self, values: Any) -> Iterator[Any]:
        end = object()

        async def step() -> Any:
            return await anext(values, end)

        while (value := self._runner.run(step())) is not end:
            yield value


class Tasks:
    """Jobs and commands over an asyncio connection, one call at a time."""

    def __init__(self, path: Path, **options: Any) -> None:
        self._runner = runner = asyncio.Runner(debug=True)
        connection = AsyncQmpConnection(path, **options)
        runner.run(connection.connect())
        adapted = LoopAdapter(runner, connection)
        self.execute: Callable[..., Any] = adapted.execute
        self.close_connection: Callable[..., Any] = adapted.close
        self.start: Callable[..., Any] = lambda command: LoopAdapter(
            runner, runner.run(jobs.AsyncJob.start(connection, command))
        )
        self.find: Callable[..., Any] = lambda job_id: LoopAdapter(
            runner, runner.run(jobs.AsyncJob.find(connection, job_id))
        )
        self.run_job: Callable[..., Any] = lambda command, **options: runner.run(
            jobs.run_async_job(connection, command, **options)
        )

    def close(self) -> None:
        self.close_connection()
        self._runner.close()


KINDS = [pytest.param(Blocking, id="blocking"), pytest.param(Tasks, id="asyncio")]
