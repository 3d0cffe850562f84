# SPDX-License-Identifier: BSD-2-Clause
"""What is public, on purpose; and the errors' promises."""

from __future__ import annotations

import copy
import importlib
import json
import pickle
from types import FunctionType
from typing import Any

import pytest

import hvkit.qmp
from hvkit.errors import HvkitError, HypervisorError, ProgrammerError
from hvkit.qmp import deadlines, errors, schema

PUBLIC = {
    *("QmpConnection", "QmpMessage", "QemuVersion", "Subscription"),
    *("Command", "Event", "GenericEvent", "NULL"),
    *("QmpError", "ConnectError", "ConnectionLost", "CommandTimeout", "EventTimeout", "ProtocolError", "DataError"),
    "NotInThisQemu",
    *("CommandError", "CommandNotFound", "DeviceNotFound", "DeviceNotActive", "KvmMissingCapability"),
}

#: What else there is to import, by module; where a module has no `__all__`, the classes and functions it defines.
ELSEWHERE = {
    "agent": {
        *("AgentConnection", "Freeze", "ProgramResult"),
        *("AgentCommandDisabled", "AgentFreezeExpired", "AgentNotResponding", "AgentProgramTimeout"),
    },
    "aio": {"AsyncQmpConnection", "AsyncQmpListener", "AsyncSubscription"},
    "deadlines": {"Deadline", "TimeoutClass", "check_timeout", "timeout_class_of"},
    "descriptors": {"fdset", "passed"},
    "fleet": {"Fleet", "Outcome", "ask"},
    "introspection": {"Introspection", "Member", "Missing", "introspect", "introspect_program"},
    "jobs": {"AsyncJob", "Job", "JobCancelled", "JobError", "JobProgress", "JobTimeout", "run_async_job", "run_job"},
    "listener": {"QmpListener"},
}

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


def test_the_public_names_are_these() -> None:
    assert set(hvkit.qmp.__all__) == PUBLIC
    assert all(hasattr(hvkit.qmp, name) for name in PUBLIC)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_the_public_names_of_a_module_are_these(name: str) -> None:
    module = importlib.import_module(f"hvkit.qmp.{name}")
    defined = {
        each.__name__
        for each in vars(module).values()
        if isinstance(each, type | FunctionType) and each.__module__ == module.__name__ and each.__name__[0] != "_"
    }
    assert set(getattr(module, "__all__", defined)) == ELSEWHERE[name]
    assert all(hasattr(module, each) for each in ELSEWHERE[name])


def test_every_error_of_the_module_is_listed_here() -> None:
    defined = {each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.QmpError)}
    assert {type(error) for error in ERRORS} == defined


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_are_of_the_worlds_family_and_survive_pickling(error: errors.QmpError) -> None:
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
def test_the_qapi_error_class_picks_the_class(error_class: str, kind: type[Any]) -> None:
    error = errors.command_error("c", error_class, "d")
    assert type(error) is kind
    assert error.error_class == error_class


def test_a_command_that_an_agent_has_disabled_has_a_class_of_its_own() -> None:
    text = "Command guest-exec has been disabled: the command is not allowed"
    assert type(errors.command_error("guest-exec", "CommandNotFound", text)) is errors.AgentCommandDisabled
    assert type(errors.command_error("guest-ping", "CommandNotFound", text)) is errors.CommandNotFound


def test_the_classes_of_errors_are_those_of_qapi(pytestconfig: pytest.Config) -> None:
    facts = json.loads((pytestconfig.rootpath / "tools/qapi/qapi-facts.json").read_text())
    assert set(errors.COMMAND_ERRORS) | {"GenericError"} == set(facts["qmp"]["QapiErrorClass"]["values"])


def test_paces_name_commands_that_exist() -> None:
    assert set(deadlines.TIMEOUT_CLASSES) <= {*schema.commands(), *schema.agent_commands()}
    assert deadlines.timeout_class_of("guest-ping") is deadlines.QUICK
    assert deadlines.timeout_class_of("guest-exec") is deadlines.BLOCK
    assert deadlines.timeout_class_of("guest-fstrim") is deadlines.HEAVY
    assert deadlines.timeout_class_of("query-status") is deadlines.QUICK
    assert deadlines.timeout_class_of("blockdev-add") is deadlines.BLOCK
    assert deadlines.timeout_class_of("dump-guest-memory") is deadlines.UNLIMITED
    assert deadlines.timeout_class_of("newer-than-we") is deadlines.QUICK
