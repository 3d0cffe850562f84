# SPDX-License-Identifier: BSD-2-Clause
"""Test of the hot-removal of a device: its block nodes are released after the device is removed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hvkit.hypervisor import Disk, Instance
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host.state_file import read_runtime
from hvkit.hypervisor.kvm.qemu.unplug import await_release, is_plugged_in
from hvkit.qmp.schema import BlockdevDel, Cont, DeviceDel, Stop


@pytest.mark.qemu
def test_await_release_waits_until_block_nodes_of_removed_device_are_free(
    kvm: KvmHypervisor, make_toy: Callable[..., Instance], tmp_path: Path
) -> None:
    kvm.start_instance(make_toy())
    path = tmp_path / "more.raw"
    path.write_bytes(b"")
    os.truncate(path, 1 << 20)
    disk = Disk(path=str(path))
    for _ in range(20):  # most repetitions hit the moment in which the block nodes are still in use
        kvm.hot_add_device("web1", disk)
        runtime = read_runtime(kvm.run_dir / "instances/web1/runtime.json", "web1")
        assert runtime is not None
        record = runtime.device(disk.uuid)
        assert record is not None
        with kvm.monitor("web1") as monitor:
            monitor.execute(Stop())
            monitor.execute(DeviceDel(id=record.device))
            monitor.execute(Cont())
            while is_plugged_in(monitor, record.device):
                pass
            await_release(monitor, record.backends)
            monitor.execute(BlockdevDel(node_name=record.backends[-1]))
        kvm.hot_del_device("web1", disk)
