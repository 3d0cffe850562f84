# SPDX-License-Identifier: BSD-2-Clause
"""Checks of members and arguments, and the names in their errors."""

from __future__ import annotations

import copy
import math
import pickle
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from hvkit.errors import ProgrammerError
from hvkit.hypervisor import (
    DeviceKind,
    Disk,
    DiskLimits,
    DiskRate,
    Instance,
    InstanceState,
    MigrationState,
    Nic,
    ParameterError,
)
from hvkit.hypervisor.model import check_instance_name, check_timeout, device_kind
from hvkit.testing.conformance import BAD_NAMES

MAC = "52:54:00:12:34:56"


@pytest.mark.parametrize("name", ["a", "web1", "web-1.example.org", "A_b", "0", "x" * 254])
def test_check_instance_name_returns_valid_name(name: str) -> None:
    assert check_instance_name(name) == name


@pytest.mark.parametrize("name", [*BAD_NAMES, "web1\n", None, 5, b"web1"])
def test_instance_rejects_invalid_name(name: Any) -> None:
    with pytest.raises(ParameterError) as caught:
        Instance(name=name, memory_mib=1)
    assert caught.value.name == "Instance.name"


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"memory_mib": 0}, "memory_mib"),
        ({"memory_mib": -1}, "memory_mib"),
        ({"memory_mib": "256"}, "memory_mib"),
        ({"memory_mib": 1.5}, "memory_mib"),
        ({"memory_mib": True}, "memory_mib"),
        ({"vcpus": 0}, "vcpus"),
        ({"disks": ("/srv/a",)}, "disks"),
        ({"disks": "/srv/a"}, "disks"),
        ({"nics": (Disk(path="/a"),)}, "nics"),
        ({"parameters": [("a", 1)]}, "parameters"),
        ({"uuid": "no"}, "uuid"),
        ({"uuid": None}, "uuid"),
    ],
)
def test_instance_error_names_instance_and_member(members: dict[str, Any], field: str) -> None:
    with pytest.raises(ParameterError) as caught:
        Instance(**{"name": "web1", "memory_mib": 1, **members})
    assert caught.value.name == f"Instance(web1).{field}"
    assert str(caught.value).startswith(f"Instance(web1).{field}: expected ")


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"path": "relative"}, "path"),
        ({"path": ""}, "path"),
        ({"path": "/a\0b"}, "path"),
        ({"path": 5}, "path"),
        ({"path": "/a", "format": "vmdk"}, "format"),
        ({"path": "/a", "read_only": "no"}, "read_only"),
        ({"path": "/a", "read_only": 1}, "read_only"),
        ({"path": "/a", "name": None}, "name"),
        ({"path": "/a", "name": "\ud800"}, "name"),
        ({"path": "/\ud800"}, "path"),
        ({"path": "/a", "limits": 5}, "limits"),
    ],
)
def test_disk_rejects_invalid_member(members: dict[str, Any], field: str) -> None:
    with pytest.raises(ParameterError) as caught:
        Disk(**members)
    assert caught.value.name == f"Disk.{field}"


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"per_s": 0}, "per_s"),
        ({"per_s": -1}, "per_s"),
        ({"per_s": 1.5}, "per_s"),
        ({"per_s": True}, "per_s"),
        ({"per_s": 10**15 + 1}, "per_s"),
        ({"per_s": 10, "burst_per_s": 9}, "burst_per_s"),
        ({"per_s": 10, "burst_per_s": -1}, "burst_per_s"),
        ({"per_s": 10, "burst_per_s": 10**15, "burst_s": 2}, "burst_per_s"),
        ({"per_s": 10, "burst_s": 5}, "burst_s"),
        ({"per_s": 10, "burst_per_s": 20, "burst_s": 0}, "burst_s"),
    ],
)
def test_disk_rate_rejects_invalid_member(members: dict[str, Any], field: str) -> None:
    with pytest.raises(ParameterError) as caught:
        DiskRate(**members)
    assert caught.value.name == f"DiskRate.{field}"


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({}, ""),
        ({"total_bytes": 5}, ".total_bytes"),
        ({"total_bytes": DiskRate(5), "read_bytes": DiskRate(5)}, ".total_bytes"),
        ({"total_operations": DiskRate(5), "write_operations": DiskRate(5)}, ".total_operations"),
    ],
)
def test_disk_limits_rejects_invalid_member(members: dict[str, Any], field: str) -> None:
    with pytest.raises(ParameterError) as caught:
        DiskLimits(**members)
    assert caught.value.name == f"DiskLimits{field}"


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"mac": "52:54:00:12:34"}, "mac"),
        ({"mac": "52-54-00-12-34-56"}, "mac"),
        ({"mac": "53:54:00:12:34:56"}, "mac"),
        ({"mac": None}, "mac"),
        ({"mac": "00:00:00:00:00:00"}, "mac"),
        ({"mac": MAC, "mode": "bridged"}, "mode"),
        ({"mac": MAC, "ifname": "a/b"}, "ifname"),
        ({"mac": MAC, "ifname": "x" * 16}, "ifname"),
        ({"mac": MAC, "link": "br 0"}, "link"),
        ({"mac": MAC, "link": "-br0"}, "link"),
        ({"mac": MAC, "mode": "user", "link": "br0"}, "link"),
        ({"mac": MAC, "mode": "user", "ifname": "tap0"}, "ifname"),
    ],
)
def test_nic_rejects_invalid_member(members: dict[str, Any], field: str) -> None:
    with pytest.raises(ParameterError) as caught:
        Nic(**members)
    assert caught.value.name == f"Nic.{field}"


def test_nic_converts_mac_to_lower_case() -> None:
    assert Nic(mac="52:54:00:AB:CD:EF").mac == "52:54:00:ab:cd:ef"


def test_instance_converts_paths_lists_and_uuid_text() -> None:
    uuid = uuid4()
    instance = Instance(name="a", memory_mib=1, disks=[Disk(path=Path("/srv/a"))], uuid=str(uuid))
    assert instance.disks[0].path == "/srv/a"
    assert instance.uuid == uuid


def test_instance_rejects_two_devices_with_one_uuid() -> None:
    uuid = uuid4()
    with pytest.raises(ParameterError, match=r"Instance\(a\).disks: two of them have the same uuid"):
        Instance(name="a", memory_mib=1, disks=(Disk(path="/a", uuid=uuid), Disk(path="/b", uuid=uuid)))


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"disks": (Disk(path="/a"), Disk(path="/a"))}, "disks: two of them have the same path: /a"),
        ({"nics": (Nic(mac=MAC), Nic(mac=MAC.upper()))}, f"nics: two of them have the same mac: {MAC}"),
        (
            {"nics": (Nic(mac=MAC, ifname="t0"), Nic(mac="52:54:00:00:00:01", ifname="t0"))},
            "nics: two of them have the same ifname: t0",
        ),
    ],
)
def test_instance_rejects_conflicting_devices(members: dict[str, Any], problem: str) -> None:
    with pytest.raises(ParameterError) as caught:
        Instance(name="a", memory_mib=1, **members)
    assert str(caught.value) == f"Instance(a).{problem}"


@pytest.mark.parametrize(
    ("value", "seconds"), [(0, 0), (1.5, 1.5), (60, 60), (math.inf, math.inf), (10**400, math.inf)]
)
def test_check_timeout_returns_seconds(value: Any, seconds: float) -> None:
    assert check_timeout(value, default_s=7) == seconds


def test_check_timeout_of_none_returns_default() -> None:
    assert check_timeout(None, default_s=7) == 7


@pytest.mark.parametrize("value", [-1, math.nan, -math.inf])
def test_check_timeout_rejects_negative_and_nan(value: float) -> None:
    with pytest.raises(ParameterError, match="timeout: expected a number of seconds >= 0"):
        check_timeout(value, default_s=7)


@pytest.mark.parametrize("value", ["5", True, [], b"5"])
def test_check_timeout_of_wrong_type_raises_programmer_error(value: Any) -> None:
    with pytest.raises(ProgrammerError, match="timeout: expected a number of seconds or None"):
        check_timeout(value, default_s=7)


def test_default_uuid_is_unique() -> None:
    assert Disk(path="/a").uuid != Disk(path="/a").uuid
    assert isinstance(Nic(mac=MAC).uuid, UUID)


def test_instance_survives_copies_and_is_hashable() -> None:
    instance = Instance(name="a", memory_mib=1, nics=(Nic(mac=MAC, mode="user"),), parameters={"acpi": True})
    assert pickle.loads(pickle.dumps(instance)) == instance  # noqa: S301 - our own bytes
    assert copy.deepcopy(instance) == instance
    assert len({instance, copy.deepcopy(instance)}) == 1


def test_instance_copies_the_mapping_of_parameters() -> None:
    parameters: dict[str, object] = {"acpi": True}
    instance = Instance(name="a", memory_mib=1, parameters=parameters)
    parameters["acpi"] = False
    assert instance.parameters == {"acpi": True}


def test_device_kind_returns_kind() -> None:
    assert device_kind(Disk(path="/a")) is DeviceKind.DISK
    assert device_kind(Nic(mac=MAC)) is DeviceKind.NIC


def test_is_over_and_is_alive_hold_for_expected_states() -> None:
    assert {state for state in InstanceState if state.is_over} == {InstanceState.SHUTDOWN, InstanceState.CRASHED}
    assert {state for state in InstanceState if state.is_alive} == {InstanceState.RUNNING, InstanceState.PAUSED}
    assert {state.value for state in MigrationState if state.is_over} == {"completed", "failed", "cancelled"}
