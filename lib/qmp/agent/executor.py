# SPDX-License-Identifier: BSD-2-Clause
"""Interface of a connection for operations that take several agent commands, and base64 conversion."""

from __future__ import annotations

import base64
import binascii
import typing
from typing import TypeVar

from hvkit.qmp.base import Command
from hvkit.qmp.errors import DataError

R = TypeVar("R")


class Executor(typing.Protocol):
    """A connection that executes typed guest agent commands."""

    def execute(self, command: Command[R], /, *, timeout: float | None = None) -> R:
        """Execute a command and return its reply."""


class ReconnectingExecutor(Executor, typing.Protocol):
    """An executor that can connect again."""

    @property
    def address(self) -> str:
        """The address of the agent's socket, as text."""

    def reconnect(self, *, timeout: float) -> None:
        """Connect again if the connection was closed or lost."""


def to_base64(data: bytes) -> str:
    """Return data as base64 text, the form in which the agent takes it."""
    return base64.b64encode(data).decode("ascii")


def from_base64(text: str, path: str) -> bytes:
    """Return the data of a base64 text that the agent sent.

    Args:
        text: the base64 text.
        path: the place of the text in the reply, in wire names.

    Raises:
        DataError: the text is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(path, f"not base64: {error}") from None
