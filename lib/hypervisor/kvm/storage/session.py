# SPDX-License-Identifier: BSD-2-Clause
"""Snapshot sessions: a locked instance whose overlays are reconciled, and its monitor.

The file that a disk is written to is part of the instance. The state file names a new overlay before QEMU switches to
it, and names the image below again only after QEMU has switched back. After a crash in between, the next start either
uses images with all data, or fails and names the missing file; it never uses an outdated image. The next session
reconciles the state file with the nodes that QEMU uses.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

import attrs

from hvkit.hypervisor.errors import SnapshotError, translate_errors
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.instance.session import InstanceSession
from hvkit.hypervisor.kvm.qemu.block_nodes import read_nodes
from hvkit.hypervisor.kvm.qemu.jobs import end_jobs
from hvkit.hypervisor.kvm.storage.chains import (
    BASE_NODES,
    COMMITTING,
    cut_chain,
    delete_nodes,
    deletion_order,
    is_overlay_node,
    require_record,
)
from hvkit.hypervisor.model import Disk
from hvkit.qmp.schema import QueryBlock

#: The id of every job of a snapshot session; at most one runs at a time.
JOB: Final = "snapshot"


@attrs.define
class SnapshotSession(InstanceSession):
    """A locked instance whose snapshots or overlays are being changed."""

    def error(self, reason: str) -> SnapshotError:
        """Return an error about this instance."""
        return SnapshotError(self.handle.name, reason)


@contextlib.contextmanager
def snapshot_session(handle: InstanceHandle, problem: str) -> Iterator[SnapshotSession]:
    """Lock an instance that is RUNNING or PAUSED for the duration of the block, and reconcile its overlays first.

    Failures inside the block are translated, as `translate_errors` does, into SnapshotError.

    Args:
        handle: the instance.
        problem: what cannot be done if it is in another state.

    Raises:
        InstanceBusy: another operation holds the lock for too long.
        InstanceStateError: the instance is neither RUNNING nor PAUSED.
        SnapshotError: QEMU refused, or does not answer.
    """
    with translate_errors(partial(SnapshotError, handle.name)), handle.locked():
        handle.require_alive(problem)
        with handle.connected() as monitor:
            session = SnapshotSession(handle, handle.load(), monitor)
            reconcile_overlays(session)
            yield session


def reconcile_overlays(session: SnapshotSession) -> None:
    """Bring the persisted chains and the nodes that the guest uses into agreement.

    The caller holds the lock, so every job and node that an interrupted operation left is unused.

    Raises:
        QmpError: QEMU refused, or does not answer.
        HypervisorError: an abandoned job does not end.
    """
    monitor = session.monitor
    end_jobs(monitor, JOB)
    in_use = {block.inserted.node_name for block in monitor.execute(QueryBlock()) if block.inserted is not None}
    files = {name: node.file for name, node in read_nodes(monitor).items()}
    for disk in session.runtime.instance.disks:
        record = session.runtime.device(disk.uuid)
        backends = () if record is None else record.backends
        while len(backends) > BASE_NODES and backends[-1] not in in_use:
            backends = backends[:-2]
        if backends and backends[-1] in in_use:
            _reconcile_disk(session, disk, backends, files)


def _reconcile_disk(session: SnapshotSession, disk: Disk, backends: tuple[str, ...], files: Mapping[str, str]) -> None:
    """Reconcile one disk, in an order that can be interrupted and repeated.

    Args:
        session: the session of the instance.
        disk: the persisted disk.
        backends: its nodes up to the one that the guest uses.
        files: the files of all nodes, by node name.
    """
    monitor = session.monitor
    record = require_record(session.runtime, disk.uuid)
    unused = (name for name in files if is_overlay_node(record, name) and name not in backends)
    unused_nodes = sorted(unused, key=deletion_order)
    committing = disk.path + COMMITTING
    if backends == record.backends:
        if os.path.lexists(committing) and not os.path.lexists(disk.path):
            os.rename(committing, disk.path)  # the commit was interrupted before QEMU switched to the image below
        for name in unused_nodes:  # overlays that were committed
            with contextlib.suppress(FileNotFoundError):
                os.unlink(files[name] + COMMITTING)
        delete_nodes(monitor, unused_nodes)
        return
    reconciled = cut_chain(monitor, session.runtime, disk.uuid, backends)
    if os.path.lexists(committing):  # the overlay was committed, but that was not persisted
        session.persist(reconciled)
        os.unlink(committing)
        delete_nodes(monitor, unused_nodes)
    else:  # the overlay was being created, and the guest never wrote to it
        with contextlib.suppress(FileNotFoundError):
            if any(files[name] == disk.path for name in unused_nodes) or not os.path.getsize(disk.path):
                os.unlink(disk.path)
        delete_nodes(monitor, unused_nodes)
        session.persist(reconciled)
