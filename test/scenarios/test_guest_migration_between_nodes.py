# SPDX-License-Identifier: BSD-2-Clause
"""A Linux guest that migrates to another network namespace and back over TCP, with its memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from cables import Cable, connected_namespace
from curves import Curve
from guest.console import GuestConsole
from guest.fixtures import TinyGuest
from hvkit.hypervisor import Instance, InstanceState, MigrationState
from hvkit.hypervisor.kvm import KvmHypervisor

pytestmark = pytest.mark.qemu

#: The size of random data that exists only in the memory of the guest.
KNOWN_MIB = 8


@pytest.fixture
def cable(unavailable: Callable[[str], NoReturn]) -> Iterator[Cable]:
    with connected_namespace(unavailable) as cable:
        yield cable


def open_console(hypervisor: KvmHypervisor) -> GuestConsole:
    path = hypervisor.get_instance_console("web1").path
    assert path is not None
    return GuestConsole(path)


def test_linux_guest_migrates_over_tcp_and_back(
    kvm: KvmHypervisor,
    tiny_guest: TinyGuest,
    cable: Cable,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    instance = Instance(name="web1", memory_mib=192, parameters=tiny_guest.parameters(migration_bandwidth=32))
    far = KvmHypervisor(run_dir=tmp_path / "far")
    kvm.start_instance(instance)
    console = open_console(kvm)
    try:
        console.wait_until_ready()
        console.run(f"head -c {KNOWN_MIB << 20} /dev/urandom >/known")
        known = console.run("md5sum </known")
        for source, destination, address, live in ((kvm, far, cable.far, True), (far, kvm, cable.near, False)):
            target = f"{address}:4444"
            info = source.migration_info("web1")
            accept = partial(destination.accept_instance, instance, info, target)
            if address == cable.far:
                cable.run_inside(accept)
            else:
                accept()
            source.migrate_instance("web1", target, live=live)
            curve = Curve()
            status = source.follow_migration("web1", on_progress=curve.add_sample)
            assert status.status is MigrationState.COMPLETED, status
            assert status.transferred_bytes is not None
            assert status.transferred_bytes > KNOWN_MIB << 20
            assert status.downtime_ms is not None
            if live:
                curve.record("linux")
            record_property(f"downtime_ms to {address}", status.downtime_ms)
            destination.finalize_migration_destination(instance, info, success=True)
            source.finalize_migration_source("web1", success=True, live=live)
            assert source.list_instances() == []
            assert destination.get_instance_info("web1").state is InstanceState.RUNNING
            console.close()
            console = open_console(destination)
            assert console.run("md5sum </known") == known
    finally:
        console.close()
        for name in far.list_instances():
            far.stop_instance(name, force=True)
            far.cleanup_instance(name)
