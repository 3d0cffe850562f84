# SPDX-License-Identifier: BSD-2-Clause
"""What must not be shown, wherever messages are shown."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from hvkit.qmp import CommandError, QmpConnection, QmpMessage, schema
from hvkit.qmp.base import redact
from hvkit.qmp.converter import structure
from hvkit.testing import QmpStub

SECRET = "opensesame"

#: Commands with the secret in them, by wire name.
HIDDEN: list[tuple[str, dict[str, Any]]] = [
    ("set_password", {"protocol": "vnc", "password": SECRET}),
    ("change-vnc-password", {"password": SECRET}),
    ("guest-set-user-password", {"username": "u", "password": SECRET, "crypted": False}),
    ("object-add", {"qom-type": "secret", "id": "s", "data": SECRET}),
    ("qom-set", {"path": "/objects/s", "property": "data", "value": SECRET}),
    ("qom-set", {"path": "/objects/s", "property": "password", "value": SECRET}),
    ("sev-inject-launch-secret", {"packet-header": "x", "secret": SECRET}),
    ("blockdev-add", {"driver": "http", "node-name": "n", "url": "http://h", "cookie": SECRET}),
    ("blockdev-add", {"driver": "http", "node-name": "n", "url": f"http://u:{SECRET}@h/disk"}),
    ("blockdev-add", {"driver": "http", "node-name": "n", "url": f"http://:{SECRET}@@h"}),
    (
        "blockdev-add",
        {"driver": "iscsi", "transport": "tcp", "portal": "p", "target": "t", "user": "u", "password": SECRET},
    ),
    (
        "blockdev-snapshot-sync",
        {"device": "d", "snapshot-file": f'json:{{"driver": "http", "url": "http://h", "password": "{SECRET}"}}'},
    ),
    ("device_add", {"driver": "d", "id": "i", "extra": [f"nbd://u:{SECRET}@h"]}),
    ("migrate", {"uri": f"exec:ssh {SECRET}"}),
    ("migrate", {"uri": f"x://u:{SECRET}@h"}),
    (
        "migrate",
        {"channels": [{"channel-type": "main", "addr": {"transport": "exec", "args": ["/bin/sh", "-c", SECRET]}}]},
    ),
    ("human-monitor-command", {"command-line": f" set_password vnc {SECRET}"}),
    ("human-monitor-command", {"command-line": f"change vnc password {SECRET}"}),
    ("human-monitor-command", {"command-line": f"drive_add 0 file=http://u:{SECRET}@h/,if=none"}),
    ("guest-exec", {"path": "mysql", "arg": ["-p" + SECRET]}),
    ("guest-exec", {"path": "mysql", "env": ["PASSWORD=" + SECRET]}),
    ("guest-exec", {"path": "cat", "input-data": SECRET}),
]


@pytest.mark.parametrize(("command", "arguments"), HIDDEN)
def test_a_secret_is_shown_nowhere(
    command: str, arguments: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, transcript = tmp_path / "s", tmp_path / "transcript"
    refusal = {"error": {"class": "GenericError", "desc": "no"}}
    expected = {"execute": command, "arguments": arguments}
    typed = structure(arguments, schema.command(command))
    with (
        caplog.at_level(logging.DEBUG, "hvkit.qmp"),
        QmpStub(path, [(expected, refusal), (expected, refusal)]),
        QmpConnection(path, transcript=transcript) as connection,
    ):
        with pytest.raises(CommandError) as raw:
            connection.execute(command, arguments)
        with pytest.raises(CommandError):
            connection.execute(typed)
    for text in (
        caplog.text,
        transcript.read_text(),
        repr(QmpMessage(expected)),
        repr(typed),
        f"{raw.value} {raw.value!r}",
    ):
        assert SECRET not in text
    for text in (caplog.text, transcript.read_text(), repr(QmpMessage(expected)), repr(typed)):
        assert "hidden" in text


@pytest.mark.parametrize(
    "shown",
    [
        {"path": "/machine", "property": "cpu", "value": 3},
        {"property": ["odd"], "value": 3},
        {"command-line": "info status"},
        {"command-line": ""},
        {"command-line": None},
        {"uri": "tcp:[::1]:4444"},
        {"url": "ssh://user@h:22/a:b@c"},
        {"filename": 'json:{"driver": "qcow2", "encrypt.key-secret": "sec0"}'},
        {"password-secret": "sec0"},
        {"cookie": 17},
        {"transport": "socket", "args": ["x"]},
        {"qom-type": "memory-backend-ram", "data": "x"},
        ["a:b@c", None, 1.5],
    ],
)
def test_what_is_no_secret_is_shown(shown: Any) -> None:
    assert redact(shown) == shown


def test_who_asked_and_where_is_still_told() -> None:
    assert redact(f"rsync://me:{SECRET}@host:873/x and http://host") == "rsync://me:<hidden>@host:873/x and http://host"
