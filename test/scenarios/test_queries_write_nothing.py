# SPDX-License-Identifier: BSD-2-Clause
"""Queries on real QEMU leave every file of the run directory unchanged."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hvkit.errors import HypervisorError
from hvkit.hypervisor import DeviceAction, DeviceKind, Instance
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host import probe
from hvkit.hypervisor.kvm.host.log import MAX_BYTES

pytestmark = pytest.mark.qemu

Query = Callable[[KvmHypervisor, Instance], Any]

QUERIES: dict[str, Query] = {
    "list_instances": lambda kvm, _instance: kvm.list_instances(),
    "get_instance_info": lambda kvm, instance: kvm.get_instance_info(instance.name),
    "get_all_instances_info": lambda kvm, _instance: kvm.get_all_instances_info(),
    "get_node_info": lambda kvm, _instance: kvm.get_node_info(),
    "get_node_checks": lambda kvm, _instance: kvm.get_node_checks(),
    "get_ancillary_files": lambda kvm, _instance: kvm.get_ancillary_files(),
    "verify": lambda kvm, _instance: kvm.verify(),
    "validate_parameters": lambda kvm, instance: kvm.validate_parameters(instance.parameters),
    "get_instance_console": lambda kvm, instance: kvm.get_instance_console(instance.name),
    "get_instance_screenshot": lambda kvm, instance: kvm.get_instance_screenshot(instance.name),
    "get_dump_formats": lambda kvm, instance: kvm.get_dump_formats(instance.name),
    "get_snapshots": lambda kvm, instance: kvm.get_snapshots(instance.name),
    "get_checkpoints": lambda kvm, instance: kvm.get_checkpoints(instance.name),
    "get_disk_copies": lambda kvm, instance: kvm.get_disk_copies(instance.name),
    "get_migration_status": lambda kvm, instance: kvm.get_migration_status(instance.name),
    "migration_info": lambda kvm, instance: kvm.migration_info(instance.name),
    "find_migration_obstacles": lambda kvm, instance: kvm.find_migration_obstacles(
        instance, kvm.migration_info(instance.name)
    ),
    "verify_hotplug_support": lambda kvm, instance: kvm.verify_hotplug_support(
        instance.name, DeviceAction.ADD, DeviceKind.NIC
    ),
}


def snapshot(directory: Path) -> dict[str, tuple[int, ...]]:
    """Return what tells whether a file below a directory was created, replaced or changed."""
    found: dict[str, tuple[int, ...]] = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        found[str(path)] = (status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return found


@pytest.mark.parametrize("query", QUERIES)
def test_query_of_running_and_stopped_instance_changes_no_file(
    kvm: KvmHypervisor, make_toy: Callable[..., Instance], monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    instance = make_toy()
    kvm.start_instance(instance)
    log = kvm.run_dir / "instances" / instance.name / "log"
    with log.open("a") as file:
        file.write("x" * (MAX_BYTES + 1))
    shutil.rmtree(kvm.run_dir / "cache", ignore_errors=True)
    for _ in ("running", "stopped"):
        monkeypatch.setattr(probe, "_cache", {})
        before = snapshot(kvm.run_dir)
        with contextlib.suppress(HypervisorError):  # not every query is possible on every instance
            QUERIES[query](kvm, instance)
        assert snapshot(kvm.run_dir) == before
        kvm.stop_instance(instance.name, force=True)
