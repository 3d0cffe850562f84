# SPDX-License-Identifier: BSD-2-Clause
"""The balloon: the amount of memory that a guest is asked to use.

The balloon covers the memory that the machine has now, without that of a virtio-mem device, which it cannot reclaim.

QEMU only passes the target on. The guest approaches it page by page, and may stop short of it for good because it keeps
the memory that it needs.
"""

import contextlib
from typing import Final

from hvkit.hypervisor.kvm.devices.memory import read_memory_mib, read_virtio_mem_bytes
from hvkit.hypervisor.kvm.devices.session import translate_hotplug_errors, wait_for_event
from hvkit.hypervisor.kvm.host.polling import poll_until
from hvkit.hypervisor.kvm.plan.machine_devices import BALLOON_ID
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import check_integer, check_timeout
from hvkit.qmp import QmpConnection
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.schema import Balloon, BalloonChangeEvent, QueryBalloon

_MIB: Final = 1 << 20
#: Seconds between two queries. QEMU sends at most one balloon event a second, the last one up to a second late.
_POLL_S: Final = 0.1


class BalloonVerbs(KvmSubject):
    """The verb of the capability BALLOON."""

    def balloon_instance_memory(self, name: str, memory_mib: int, *, timeout: float | None = None) -> int:
        """Set the balloon target of a guest, and wait until it is reached. The lock is not held during the wait."""
        timeout_s = check_timeout(timeout, default_s=0.0)
        handle = self._instances.require(name)
        runtime = handle.load()
        parameters = runtime.instance.parameters
        can_grow = bool(parameters.get("memory_max_mib"))
        if not can_grow:
            check_integer("memory_mib", memory_mib, 1, runtime.instance.memory_mib)
        virtio_mem_bytes = 0
        with translate_hotplug_errors(name, BALLOON_ID), contextlib.ExitStack() as stack:
            with handle.locked():
                handle.require_alive("cannot change the balloon")
                monitor = stack.enter_context(handle.connected())
                if can_grow:
                    virtio_mem_bytes = read_virtio_mem_bytes(monitor, parameters)
                    check_integer("memory_mib", memory_mib, virtio_mem_bytes // _MIB + 1, read_memory_mib(monitor))
                target = memory_mib * _MIB - virtio_mem_bytes
                changes = stack.enter_context(monitor.subscribe(BalloonChangeEvent))
                handle.mark_balloon_used()
                monitor.execute(Balloon(value=target))
            poll_until(
                lambda: _read_bytes(monitor) == target,
                Deadline(timeout_s),
                interval_s=_POLL_S,
                wait=wait_for_event(changes),
            )
            return (_read_bytes(monitor) + virtio_mem_bytes) // _MIB


def _read_bytes(monitor: QmpConnection) -> int:
    return monitor.execute(QueryBalloon()).actual
