# SPDX-License-Identifier: BSD-2-Clause
"""What the things that take several commands need of a connection, and no more."""

from __future__ import annotations

import base64
import binascii
import typing
from typing import TypeVar

from hvkit.qmp.base import Command
from hvkit.qmp.errors import DataError

R = TypeVar("R")


class Executor(typing.Protocol):
    """Executes typed commands in a guest."""

    def execute(self, command: Command[R], /, *, timeout: float | None = None) -> R:
        """Execute a command and return what it returns."""


def to_base64(data: bytes) -> str:
    """Return bytes as the agent wants them."""
    return base64.b64encode(data).decode("ascii")


def from_base64(text: str, path: str) -> bytes:
    """Return the bytes that an agent sent.

    Args:
        text: what it sent.
        path: where, in wire names.

    Raises:
        DataError: this is no base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(path, f"not base64: {error}") from None
