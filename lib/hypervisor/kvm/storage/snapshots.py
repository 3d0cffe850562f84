# SPDX-License-Identifier: BSD-2-Clause
"""Internal snapshots: the state of a whole instance, with its memory, inside its qcow2 disks."""

import math
from collections.abc import Collection
from functools import partial

from hvkit.hypervisor.errors import SnapshotError, translate_errors
from hvkit.hypervisor.kvm.host.runtime import Runtime
from hvkit.hypervisor.kvm.qemu.block_nodes import read_nodes
from hvkit.hypervisor.kvm.qemu.migration_capabilities import reset_migration_capabilities
from hvkit.hypervisor.kvm.storage.session import JOB, SnapshotSession, snapshot_session
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import check_timeout
from hvkit.hypervisor.model.reports import Snapshot
from hvkit.qmp import QmpConnection
from hvkit.qmp.jobs import run_job
from hvkit.qmp.schema import SnapshotDelete, SnapshotLoad, SnapshotSave


class SnapshotVerbs(KvmSubject):
    """The verbs of the capability SNAPSHOT that are about internal snapshots. All writable disks must be qcow2."""

    def save_snapshot(self, name: str, tag: str, *, timeout: float | None = None) -> None:
        timeout_s = check_timeout(timeout, default_s=math.inf)
        handle = self._instances.require_managed(name)
        with snapshot_session(handle, "cannot create a snapshot") as session:
            monitor, nodes = session.monitor, _writable_nodes(session.runtime)
            if _has_snapshot(session, nodes, tag):
                raise session.error(f"there is already a snapshot {tag!r}")
            reset_migration_capabilities(monitor)
            run_job(monitor, SnapshotSave(job_id=JOB, tag=tag, vmstate=nodes[0], devices=nodes), timeout=timeout_s)

    def load_snapshot(self, name: str, tag: str, *, timeout: float | None = None) -> None:
        timeout_s = check_timeout(timeout, default_s=math.inf)
        handle = self._instances.require_managed(name)
        with snapshot_session(handle, "cannot revert to a snapshot") as session:
            monitor, nodes = session.monitor, _writable_nodes(session.runtime)
            _require_snapshot(session, nodes, tag)
            reset_migration_capabilities(monitor)
            handle.mark_balloon_used()  # the snapshot contains the size of the balloon
            run_job(monitor, SnapshotLoad(job_id=JOB, tag=tag, vmstate=nodes[0], devices=nodes), timeout=timeout_s)

    def delete_snapshot(self, name: str, tag: str, *, timeout: float | None = None) -> None:
        timeout_s = check_timeout(timeout, default_s=math.inf)
        handle = self._instances.require_managed(name)
        with snapshot_session(handle, "cannot delete a snapshot") as session:
            nodes = _writable_nodes(session.runtime)
            _require_snapshot(session, nodes, tag)
            run_job(session.monitor, SnapshotDelete(job_id=JOB, tag=tag, devices=nodes), timeout=timeout_s)

    def get_snapshots(self, name: str) -> tuple[Snapshot, ...]:
        handle = self._instances.require_managed(name)
        with translate_errors(partial(SnapshotError, name)), handle.connected() as monitor:
            return _read_snapshots(monitor, _writable_nodes(handle.load()))


def _writable_nodes(runtime: Runtime) -> list[str]:
    """Return the nodes of all disks that the guest can write to. The first one also stores the memory."""
    nodes = []
    for disk in runtime.instance.disks:
        record = runtime.device(disk.uuid)
        if record is not None and not disk.read_only:
            if disk.format != "qcow2":
                problem = f"disk {disk.path} is {disk.format}, but only qcow2 can store snapshots"
                raise SnapshotError(runtime.instance.name, problem)
            nodes.append(record.backends[-1])
    if not nodes:
        raise SnapshotError(runtime.instance.name, "the instance has no writable disk to store a snapshot")
    return nodes


def _read_snapshots(monitor: QmpConnection, nodes: Collection[str]) -> tuple[Snapshot, ...]:
    """Return the snapshots with memory that all of these nodes have, oldest first."""
    lists = [node.image.snapshots or [] for name, node in read_nodes(monitor).items() if name in nodes]
    common = set.intersection(*({snapshot.name for snapshot in each} for each in lists)) if lists else set()
    found: dict[str, Snapshot] = {}
    for snapshot in (snapshot for each in lists for snapshot in each if snapshot.name in common):
        state_bytes = max(snapshot.vm_state_size, found[snapshot.name].state_bytes if snapshot.name in found else 0)
        taken_at_s = snapshot.date_sec + snapshot.date_nsec / 1e9
        found[snapshot.name] = Snapshot(name=snapshot.name, taken_at_s=taken_at_s, state_bytes=state_bytes)
    return tuple(sorted((each for each in found.values() if each.state_bytes), key=lambda each: each.taken_at_s))


def _has_snapshot(session: SnapshotSession, nodes: Collection[str], tag: str) -> bool:
    return any(snapshot.name == tag for snapshot in _read_snapshots(session.monitor, nodes))


def _require_snapshot(session: SnapshotSession, nodes: Collection[str], tag: str) -> None:
    if not _has_snapshot(session, nodes, tag):
        raise session.error(f"there is no snapshot {tag!r}")
