# SPDX-License-Identifier: BSD-2-Clause
"""Conversion of commands to plain data, and of replies to typed values.

Every command passes through these functions, so they are plain functions and return a plain tuple.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any

from hvkit.errors import ProgrammerError
from hvkit.qmp.base import Command
from hvkit.qmp.converter import structure, unstructure
from hvkit.qmp.message import QmpMessage
from hvkit.qmp.protocol import Exchange


def unstructure_command(command: Command[Any] | str, arguments: Mapping[str, Any] | None) -> tuple[str, Any, bool, Any]:
    """Return the wire name of a command, its arguments as plain data, whether it has a reply, and the reply type.

    Raises:
        ProgrammerError: `command` is not a command, a typed command comes with separate arguments, or an argument
            cannot be converted to plain data.
    """
    if isinstance(command, str):
        return command, unstructure(arguments) if arguments else None, True, Any
    try:
        if arguments is not None:
            raise ProgrammerError(f"{command.wire_name}: a typed command contains its arguments; pass no others")
        plain = unstructure(command) if command.__dict__ else None
        return command.wire_name, plain, command.has_reply, command.reply_type
    except AttributeError as error:
        if isinstance(command, Command):
            raise
        raise ProgrammerError(f"{type(command).__name__} is neither a command nor the name of a command") from error


def structure_reply(exchange: Exchange, reply_type: Any) -> Any:
    """Return the return value of a command, as a value of its type.

    Raises:
        QmpError: the command failed, there will be no reply, or the reply does not have the structure of its type.
    """
    reply = exchange.reply
    returned = reply["return"] if reply is not None and "return" in reply else exchange.result()
    if reply_type is NoneType:
        return None
    return returned if reply_type is Any else structure(returned, reply_type, where=exchange.command)


def raw_command_name(message: QmpMessage) -> str:
    """Return the wire name of the command in a raw message; empty if there is none.

    Raises:
        ProgrammerError: `message` is not a QmpMessage.
    """
    if not isinstance(message, QmpMessage):
        raise ProgrammerError(f"exchange() takes a QmpMessage, not {type(message).__name__}")
    return str(message["execute"] or message["exec-oob"] or "")


def raw_reply(exchange: Exchange, message: QmpMessage) -> QmpMessage:
    """Return the raw reply to a raw message, without the id if the message had none.

    Raises:
        QmpError: there will be no reply.
    """
    reply = exchange.raw_reply()
    if "id" not in message:
        reply.pop("id", None)
    return QmpMessage(reply)
