# SPDX-License-Identifier: BSD-2-Clause
"""Redaction of secrets in logs, transcripts and representations."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

#: The text that replaces a secret.
HIDDEN: Final = "<hidden>"

#: Wire names of members that are secrets.
_SECRET_MEMBERS: Final = frozenset({"password", "passwd", "new-password", "secret"})
#: Properties of QOM objects that are secrets.
_SECRET_PROPERTIES: Final = _SECRET_MEMBERS | {"data"}
#: Commands that can return the value of any property as text, including the `data` of a secret.
_READERS: Final = frozenset({"human-monitor-command", "qom-get"})
#: The part of a URL before the password, and the password, which contains no slash and no space.
_URL_PASSWORD: Final = r"(://[^/?#\s:@]*):[^/?#\s]*@"  # noqa: S105


def is_secret(name: str, siblings: Mapping[str, Any]) -> bool:
    """Return whether a member is a secret.

    Secrets are: passwords, cookies and launch secrets, by name; the `data` of a QOM object that is a secret, and a
    secret property in `qom-set`; the arguments, environment and input of a program in `guest-exec`; and the command
    that a migration executes.

    In any text, `redact` also hides passwords in URLs, the text after ``exec:``, ``json:`` file names with a password
    or a cookie, and the arguments of HMP commands other than ``info``. `redact_reply` hides the replies of commands
    that can read secrets.

    Not hidden are: contents of files and output of programs (the log and the transcript of a guest agent show only
    their length), and error descriptions from QEMU. The ids of secrets are shown, except the member `secret` of a LUKS
    keyslot.

    Args:
        name: wire name of the member.
        siblings: all members of the object by wire name, including this one.
    """
    if name in _SECRET_MEMBERS:
        return True
    decide = _PERHAPS_SECRET.get(name)
    return decide is not None and decide(siblings)


#: Decides, by wire name, whether a member is a secret, if that depends on the other members.
_PERHAPS_SECRET: Final[Mapping[str, Callable[[Mapping[str, Any]], bool]]] = {
    "arg": lambda siblings: "path" in siblings,
    "args": lambda siblings: siblings.get("transport") == "exec",
    "cookie": lambda siblings: isinstance(siblings["cookie"], str),  # elsewhere it is a number
    "data": lambda siblings: str(siblings.get("qom-type")).startswith("secret"),
    "env": lambda siblings: "path" in siblings,
    "input-data": lambda siblings: "path" in siblings,
    "value": lambda siblings: str(siblings.get("property")) in _SECRET_PROPERTIES,
}


def redact(data: Any) -> Any:
    """Return a copy of plain data with secrets replaced; see `is_secret`."""
    if isinstance(data, str):
        return _redact_text(data) if ":" in data else data
    if isinstance(data, Mapping):
        return {key: redact_member(key, data) for key in data}
    if isinstance(data, list):
        return [redact(value) for value in data]
    return data


def redact_member(name: str, siblings: Mapping[str, Any]) -> Any:
    """Return the value of a member with secrets replaced.

    Args:
        name: wire name of the member.
        siblings: all members of the object by wire name, including this one.
    """
    value = siblings[name]
    if is_secret(name, siblings):
        return HIDDEN
    return _redact_line(value) if name == "command-line" and isinstance(value, str) else redact(value)


def redact_reply(command: str | None, reply: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a message without the return value, if that is text of a command that can read a secret.

    Args:
        command: wire name of the command; None if unknown.
        reply: the whole message.
    """
    can_be_secret = command is None or command in _READERS
    return {**reply, "return": HIDDEN} if can_be_secret and isinstance(reply.get("return"), str) else reply


def _redact_line(line: str) -> str:
    """Hide the arguments of an HMP command: only the parser of QEMU knows which of them are secrets."""
    words = line.split(maxsplit=1)
    return line if len(words) < 2 or words[0] == "info" else f"{words[0]} {HIDDEN}"


def _redact_text(text: str) -> str:
    if text.startswith("exec:"):
        return f"exec:{HIDDEN}"
    if text.startswith("json:") and ('password"' in text or 'cookie"' in text):
        return f"json:{HIDDEN}"
    return re.sub(_URL_PASSWORD, rf"\1:{HIDDEN}@", text) if "://" in text else text
