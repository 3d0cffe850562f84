# SPDX-License-Identifier: BSD-2-Clause
"""Redaction of secrets in logs, transcripts, errors and representations."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from hvkit.qmp import CommandError, QmpConnection, QmpMessage, schema
from hvkit.qmp.converter import structure
from hvkit.qmp.redaction import redact
from hvkit.testing import QmpStub
from paused_machine import paused_machine

SECRET = "opensesame"

#: Arguments that contain the secret, by wire name of the command.
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
    ("human-monitor-command", {"command-line": f"object_add secret,id=s,data={SECRET}"}),
    ("human-monitor-command", {"command-line": f"drive_add 0 driver=luks,key={SECRET}"}),
    ("human-monitor-command", {"command-line": f"newer_than_we\t{SECRET}"}),
    ("human-monitor-command", {"command-line": f"change vnc password {SECRET}"}),
    ("human-monitor-command", {"command-line": f"drive_add 0 file=http://u:{SECRET}@h/,if=none"}),
    ("guest-exec", {"path": "mysql", "arg": ["-p" + SECRET]}),
    ("guest-exec", {"path": "mysql", "env": ["PASSWORD=" + SECRET]}),
    ("guest-exec", {"path": "cat", "input-data": SECRET}),
]


@pytest.mark.parametrize(("command", "arguments"), HIDDEN)
def test_secrets_are_redacted_everywhere(
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
def test_other_members_are_shown(shown: Any) -> None:
    assert redact(shown) == shown


@pytest.mark.parametrize("name", ["qom-get", "human-monitor-command"])
def test_secret_read_by_a_command_is_returned_and_redacted(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, transcript = tmp_path / "s", tmp_path / "transcript"
    late = b'{"return": "%s", "id": 77}\n' % SECRET.encode()
    script = [(None, {"return": SECRET}), (None, [late, {"return": SECRET}]), (None, {"return": {"shown": "yes"}})]
    with (
        caplog.at_level(logging.DEBUG, "hvkit.qmp"),
        QmpStub(path, script),
        QmpConnection(path, transcript=transcript) as connection,
    ):
        assert connection.execute(name) == SECRET
        assert connection.exchange(QmpMessage({"execute": name})) == {"return": SECRET}
        connection.execute(name)
    for text in (caplog.text, transcript.read_text()):
        assert SECRET not in text
        assert "shown" in text


def test_hmp_command_line_shows_only_the_first_word() -> None:
    command = schema.HumanMonitorCommand(command_line=f"change vnc password {SECRET}")
    assert repr(command) == "HumanMonitorCommand(command_line='change <hidden>')"
    assert redact({"command-line": f"  object_add {SECRET}"}) == {"command-line": "object_add <hidden>"}


@pytest.mark.qemu
def test_secret_of_real_qemu_is_redacted_everywhere(
    qemu_binary: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    transcript = tmp_path / "transcript"
    with (
        caplog.at_level(logging.DEBUG, "hvkit.qmp"),
        paused_machine(qemu_binary, tmp_path / "s") as machine,
        QmpConnection(machine.path, transcript=transcript) as connection,
    ):
        connection.execute("object-add", {"qom-type": "secret", "id": "s", "data": SECRET})
        assert connection.execute(schema.QomGet(path="/objects/s", property="data")) == SECRET
        line = f"object_add secret,id=t,data={SECRET}"
        assert connection.execute(schema.HumanMonitorCommand(command_line=line)) == ""
        line = "qom-get /objects/t data"
        assert SECRET in connection.execute(schema.HumanMonitorCommand(command_line=line))
        wrong = schema.HumanMonitorCommand(command_line=f"set_password nonsense {SECRET}")
        texts = [repr(wrong), connection.execute(wrong)]
        with pytest.raises(CommandError) as refused:
            connection.execute("set_password", {"protocol": "vnc", "password": SECRET})
        texts += [str(refused.value), repr(refused.value)]
    for text in (caplog.text, transcript.read_text(), *texts):
        assert SECRET not in text
    assert "object_add <hidden>" in caplog.text


def test_url_password_is_redacted_and_host_is_shown() -> None:
    assert redact(f"rsync://me:{SECRET}@host:873/x and http://host") == "rsync://me:<hidden>@host:873/x and http://host"
