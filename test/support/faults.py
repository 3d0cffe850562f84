# SPDX-License-Identifier: BSD-2-Clause
"""Fault injection: make an operation fail, or its process crash, at a chosen step."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from hvkit.qmp import QmpConnection
from hvkit.qmp.base import Command


class Fault(Exception):
    """Raised instead of sending a command, or instead of returning its reply."""


def count_commands(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> int:
    """Return the number of QMP commands that an operation executes."""
    executed = []
    execute = QmpConnection.execute

    def counting(self: QmpConnection, *arguments: Any, **keywords: Any) -> Any:
        executed.append(arguments)
        return execute(self, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(QmpConnection, "execute", counting)
        act()
    return len(executed)


def fail_at(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], object], *, after: bool) -> None:
    """Run an operation with a fault at one QMP command: before it is sent, or after its execution without a reply."""
    execute = QmpConnection.execute
    left = number

    def failing(self: QmpConnection, command: Command[Any] | str, *arguments: Any, **keywords: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            if after:
                execute(self, command, *arguments, **keywords)
            self.close()
            raise Fault
        return execute(self, command, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(QmpConnection, "execute", failing)
        with pytest.raises(Fault):
            act()


#: Exit statuses of the child process.
_COMPLETED, _CRASHED = 6, 7
#: The functions of `os` that count as steps.
_FILE_FUNCTIONS = ("replace", "rename", "unlink")


def _run_and_crash(number: int, act: Callable[[], object]) -> NoReturn:
    """In a child process: run an operation and exit at once before the given step, or after the last one."""
    left = number

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **keywords: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os._exit(_CRASHED)
            return function(*arguments, **keywords)

        return step

    try:
        QmpConnection.execute = counted(QmpConnection.execute)  # type: ignore[method-assign]
        for name in _FILE_FUNCTIONS:
            setattr(os, name, counted(getattr(os, name)))
        act()
        os._exit(_COMPLETED)
    finally:
        os._exit(1)


def crash_at(number: int, act: Callable[[], object]) -> bool:
    """Run an operation in a child process that crashes before the given step. Return False if there are fewer steps.

    A step is a QMP command, or a call that renames or removes a file.
    """
    pid = os.fork()
    if pid == 0:
        _run_and_crash(number, act)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (_COMPLETED, _CRASHED)
    return code == _CRASHED
