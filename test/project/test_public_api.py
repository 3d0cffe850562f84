# SPDX-License-Identifier: BSD-2-Clause
"""The public names of `hvkit.qmp`."""

from __future__ import annotations

import importlib
from types import FunctionType

import pytest

import hvkit.qmp

#: Public names of `hvkit.qmp`.
PUBLIC = {
    *("QmpConnection", "QmpMessage", "QemuVersion", "Subscription"),
    *("Command", "Event", "GenericEvent", "NULL"),
    *("QmpError", "ConnectError", "ConnectionLost", "CommandTimeout", "EventTimeout", "ProtocolError", "DataError"),
    "NotInThisQemu",
    *("CommandError", "CommandNotFound", "DeviceNotFound", "DeviceNotActive", "KvmMissingCapability"),
}

#: Public names by module: `__all__`, or the classes and functions that the module defines.
ELSEWHERE = {
    "agent": {
        *("AgentConnection", "Freeze", "ProgramResult"),
        *("AgentCommandDisabled", "AgentFreezeExpired", "AgentNotResponding", "AgentProgramTimeout"),
    },
    "aio": {"AsyncQmpConnection", "AsyncQmpListener", "AsyncSubscription"},
    "deadlines": {"Deadline", "TimeoutClass", "check_timeout", "timeout_class_of", "to_poll_ms"},
    "descriptors": {"fdset", "passed"},
    "fleet": {"Fleet", "Outcome", "ask"},
    "introspection": {"Introspection", "Member", "Missing", "introspect", "introspect_program"},
    "jobs": {"AsyncJob", "Job", "JobCancelled", "JobError", "JobProgress", "JobTimeout", "run_async_job", "run_job"},
    "listener": {"QmpListener"},
}


def test_qmp_exports_exactly_the_public_names() -> None:
    assert set(hvkit.qmp.__all__) == PUBLIC
    assert all(hasattr(hvkit.qmp, name) for name in PUBLIC)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_module_exports_exactly_the_public_names(name: str) -> None:
    module = importlib.import_module(f"hvkit.qmp.{name}")
    defined = {
        each.__name__
        for each in vars(module).values()
        if isinstance(each, type | FunctionType) and each.__module__ == module.__name__ and each.__name__[0] != "_"
    }
    assert set(getattr(module, "__all__", defined)) == ELSEWHERE[name]
    assert all(hasattr(module, each) for each in ELSEWHERE[name])
