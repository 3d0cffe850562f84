# SPDX-License-Identifier: BSD-2-Clause
"""Translation of errors during hotplug."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hvkit.hypervisor import HotplugCause, HotplugError, Instance, InstanceStateError, ParameterError
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.devices.session import (
    HotplugSession,
    hotplug_session,
    is_outcome_unknown,
    translate_hotplug_errors,
)
from hvkit.hypervisor.kvm.host.network import NetworkError
from hvkit.hypervisor.kvm.host.paths import RunDirectory
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.qmp import CommandError, CommandTimeout, ConnectError, ConnectionLost

MakeInstance = Callable[..., Instance]

REFUSALS = [
    CommandError("device_add", "GenericError", "no such bus"),
    NetworkError("br0", "no such bridge"),
    OSError("no space"),
]
LOSSES = [ConnectionLost("/run/web1.m", "closed"), ConnectError("/run/web1.m", "refused"), CommandTimeout("quit", 5.0)]


@pytest.mark.parametrize("error", LOSSES, ids=lambda error: type(error).__name__)
def test_lost_reply_becomes_hotplug_error_with_unknown_outcome(error: Exception) -> None:
    assert is_outcome_unknown(error)
    with pytest.raises(HotplugError) as caught, translate_hotplug_errors("web1", "disk-1"):
        raise error
    assert (caught.value.instance, caught.value.device) == ("web1", "disk-1")
    assert caught.value.cause is HotplugCause.UNKNOWN
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
def test_refusal_becomes_hotplug_error_with_cause_refused(error: Exception) -> None:
    assert not is_outcome_unknown(error)
    with pytest.raises(HotplugError, match=str(error)) as caught, translate_hotplug_errors("web1", "disk-1"):
        raise error
    assert caught.value.cause is HotplugCause.REFUSED
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        InstanceStateError("web1", "crashed", "it has no process"),
        HotplugError("web1", "nic-1", "no free slot", HotplugCause.UNFIT),
        ParameterError("Disk.path", "/a", "No such file"),
        ValueError("a bug"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_about_the_instance_pass_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, translate_hotplug_errors("web1", "disk-1"):
        raise error
    assert caught.value is error


def test_failed_reconciliation_names_the_instance_and_not_its_monitor(
    kvm: KvmHypervisor, make_simulated: Callable[..., MakeInstance]
) -> None:
    kvm.start_instance(make_simulated()())
    handle = InstanceHandle(RunDirectory(kvm.run_dir).instance("web1"), 5.0)

    def reconcile(session: HotplugSession) -> None:
        raise ConnectionLost(str(handle.paths.shared_socket), "closed")

    with pytest.raises(InstanceStateError) as caught, hotplug_session(handle, "cannot hot-add a device", reconcile):
        pass
    assert str(caught.value) == "web1: cannot hot-add a device: closed (it is unresponsive)"
