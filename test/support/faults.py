# SPDX-License-Identifier: BSD-2-Clause
"""Acts on a machine that fail, or whose process dies, at a command of the test's choice."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from hvkit.qmp import QmpConnection
from hvkit.qmp.base import Command


class Fault(Exception):
    """Raised in the place of a command's reply, or of the command."""


def count_commands(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> int:
    """Return how many commands an act executes."""
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
    """Have one command of an act fail: before it is sent, or executed, and the connection lost with the reply."""
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


_DONE, _DIED = 6, 7
#: How runtime files are replaced, and others come and go.
_OF_FILES = ("replace", "rename", "unlink")


def _act_and_die(number: int, act: Callable[[], object]) -> NoReturn:
    """End this process, a child, without a word before one step of an act, or when the act is done."""
    left = number

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **keywords: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os._exit(_DIED)
            return function(*arguments, **keywords)

        return step

    try:
        QmpConnection.execute = counted(QmpConnection.execute)  # type: ignore[method-assign]
        for name in _OF_FILES:
            setattr(os, name, counted(getattr(os, name)))
        act()
        os._exit(_DONE)
    finally:
        os._exit(1)


def die_at(number: int, act: Callable[[], object]) -> bool:
    """Have a process of its own do something and die before one step of that; tell whether it came to that.

    A step is a command to QEMU, or a change to the name of a file.
    """
    pid = os.fork()
    if pid == 0:
        _act_and_die(number, act)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (_DONE, _DIED)
    return code == _DIED
