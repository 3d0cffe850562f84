# SPDX-License-Identifier: BSD-2-Clause
"""The classes of errors, and their texts."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from hvkit.errors import HvkitError, HypervisorError, ProgrammerError
from hvkit.qmp import errors

ERRORS = [
    errors.QmpError("text"),
    errors.ConnectError("/run/x.sock", "there is no such socket"),
    errors.ConnectionLost("/run/x.sock", "the peer closed the connection", ("stop", "quit")),
    errors.CommandTimeout("stop", 5.0),
    errors.NotInThisQemu({"migrate/channels": "since 8.2"}, "7.2.0"),
    errors.AgentNotResponding("/run/agent.sock", "no answer"),
    errors.AgentProgramTimeout("guest-exec", 5.0, 42),
    errors.AgentFreezeExpired(5.0, "the limit passed"),
    errors.EventTimeout(("STOP",), 5.0),
    errors.JobTimeout("backup", ("JOB_STATUS_CHANGE",), 5.0),
    errors.JobError("backup", "No space left on device"),
    errors.JobCancelled("backup", "Operation canceled"),
    errors.ProtocolError("the peer sent something"),
    errors.DataError("query-block[3].inserted", "expected object, got str"),
    errors.CommandError("stop", "GenericError", "no"),
    errors.CommandNotFound("stop", "CommandNotFound", "no"),
    errors.AgentCommandDisabled("guest-exec", "CommandNotFound", "no"),
    errors.DeviceNotFound("stop", "DeviceNotFound", "no"),
    errors.DeviceNotActive("stop", "DeviceNotActive", "no"),
    errors.KvmMissingCapability("stop", "KVMMissingCap", "no"),
]


def test_errors_listed_here_are_complete() -> None:
    defined = {each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.QmpError)}
    assert {type(error) for error in ERRORS} == defined


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_are_hypervisor_errors_and_survive_pickling(error: errors.QmpError) -> None:
    assert isinstance(error, HypervisorError)
    assert isinstance(error, HvkitError)
    assert isinstance(error, ProgrammerError) is isinstance(error, errors.DataError)
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)


@pytest.mark.parametrize(
    ("error_class", "kind"),
    [
        ("GenericError", errors.CommandError),
        ("CommandNotFound", errors.CommandNotFound),
        ("DeviceNotFound", errors.DeviceNotFound),
        ("DeviceNotActive", errors.DeviceNotActive),
        ("KVMMissingCap", errors.KvmMissingCapability),
        ("NewerThanWe", errors.CommandError),
    ],
)
def test_command_error_class_follows_the_qapi_error_class(error_class: str, kind: type[Any]) -> None:
    error = errors.command_error("c", error_class, "d")
    assert type(error) is kind
    assert error.error_class == error_class


def test_command_error_for_disabled_agent_command_has_its_own_class() -> None:
    text = "Command guest-exec has been disabled: the command is not allowed"
    assert type(errors.command_error("guest-exec", "CommandNotFound", text)) is errors.AgentCommandDisabled
    assert type(errors.command_error("guest-ping", "CommandNotFound", text)) is errors.CommandNotFound


def test_command_error_classes_are_those_of_qapi(pytestconfig: pytest.Config) -> None:
    facts = json.loads((pytestconfig.rootpath / "tools/qapi/qapi-facts.json").read_text())
    assert set(errors.COMMAND_ERRORS) | {"GenericError"} == set(facts["qmp"]["QapiErrorClass"]["values"])


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_error_text_starts_with_the_monitor_once(error: errors.QmpError) -> None:
    named = copy.copy(error)
    named.set_monitor("/run/web1.sock")
    monitor = error.monitor or "/run/web1.sock"
    assert named.monitor == monitor
    assert str(named).startswith(f"{monitor}: ")
    assert str(named).count(monitor) == 1
    assert named.reason == error.reason
    assert named.reason in str(named)
    assert monitor not in named.reason
    twin = pickle.loads(pickle.dumps(named))  # noqa: S301
    assert (str(twin), twin.monitor) == (str(named), monitor)


def test_set_monitor_when_set_keeps_the_first() -> None:
    error = errors.CommandTimeout("stop", 5.0)
    error.set_monitor("a.sock")
    error.set_monitor("b.sock")
    assert str(error) == "a.sock: stop: no reply within 5 s; unknown whether it was executed"
