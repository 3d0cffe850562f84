# SPDX-License-Identifier: BSD-2-Clause
"""What must not be shown, in logs, transcripts and representations."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

#: What is shown in the place of a secret.
HIDDEN: Final = "<hidden>"

#: Wire names of members whose values are never shown.
_SECRET_MEMBERS: Final = frozenset({"password", "passwd", "new-password", "secret"})
#: Properties of QOM objects whose values are never shown.
_SECRET_PROPERTIES: Final = _SECRET_MEMBERS | {"data"}
#: Commands that return, as text, whatever they are asked for; a secret's `data` too.
_READERS: Final = frozenset({"human-monitor-command", "qom-get"})
#: In a URL, what comes before a password and the password; one with a slash or a space in it is no URL. Compiled, which
#: costs 2 ms, when the first URL is shown.
_URL_PASSWORD: Final = r"(://[^/?#\s:@]*):[^/?#\s]*@"  # noqa: S105


def is_secret(name: str, siblings: Mapping[str, Any]) -> bool:
    """Whether the value of a member must not be shown.

    These are: passwords, cookies and launch secrets by their names; the `data` of a QOM object that is a secret, and a
    secret property that `qom-set` sets; what `guest-exec` gives a program; and what a migration executes.

    `redact` adds, in any text, the passwords of URLs, what comes after ``exec:``, and ``json:`` names of images with a
    password or a cookie in them; and all but the first word of a line for the monitor for people, where that is not
    ``info``. Logs and transcripts lack what `redact_reply` hides, too.

    Shown are: contents of files, what programs say (a guest agent's log and transcript have only the length of these),
    and QEMU's own descriptions of errors where an error's text repeats them. The ids of secrets are shown, but for the
    member `secret` of a LUKS keyslot.

    Args:
        name: the member's wire name.
        siblings: the members beside it, by wire name, itself among them.
    """
    if name in _SECRET_MEMBERS:
        return True
    decide = _PERHAPS_SECRET.get(name)
    return decide is not None and decide(siblings)


#: Whether a member is a secret, by its wire name, where those beside it decide.
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
    """Return a copy of plain data without what must not be shown; `is_secret` says what that is."""
    if isinstance(data, str):
        return _redact_text(data) if ":" in data else data
    if isinstance(data, Mapping):
        return {key: redact_member(key, data) for key in data}
    if isinstance(data, list):
        return [redact(value) for value in data]
    return data


def redact_member(name: str, siblings: Mapping[str, Any]) -> Any:
    """Return what is to be shown of a member's value.

    Args:
        name: the member's wire name.
        siblings: the members beside it, by wire name, itself among them.
    """
    value = siblings[name]
    if is_secret(name, siblings):
        return HIDDEN
    return _redact_line(value) if name == "command-line" and isinstance(value, str) else redact(value)


def redact_reply(command: str | None, reply: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a reply without the text that a command returns which may read a secret; other messages as they are.

    Args:
        command: wire name of the command; None where it is not known, for a reply that nobody waits for.
        reply: the whole message.
    """
    may_tell = command is None or command in _READERS
    return {**reply, "return": HIDDEN} if may_tell and isinstance(reply.get("return"), str) else reply


def _redact_line(line: str) -> str:
    """Hide the arguments of a command for people: what is a secret among them only QEMU's parser knows."""
    words = line.split(maxsplit=1)
    return line if len(words) < 2 or words[0] == "info" else f"{words[0]} {HIDDEN}"


def _redact_text(text: str) -> str:
    if text.startswith("exec:"):
        return f"exec:{HIDDEN}"
    if text.startswith("json:") and ('password"' in text or 'cookie"' in text):
        return f"json:{HIDDEN}"
    return re.sub(_URL_PASSWORD, rf"\1:{HIDDEN}@", text) if "://" in text else text
