# SPDX-License-Identifier: BSD-2-Clause
"""Set the memory that a guest is to make do with, and watch how far it gets.

It counts what the machine has now. What a virtio-mem device gives is beyond the balloon's reach, and stays.

QEMU only passes the target on. The guest moves there page by page, and may stop short of it for good: what it needs it
keeps.
"""

import contextlib
from typing import Final

from hvkit.hypervisor.kvm.devices.memory import read_beyond_balloon, read_memory_mib
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.model import check_integer
from hvkit.qmp import EventTimeout
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.schema import Balloon, BalloonChangeEvent, QueryBalloon

_MIB: Final = 1 << 20
#: QEMU tells of the balloon once a second at most, the last time up to a second late. So it is asked in between.
_LOOK_AGAIN_S: Final = 0.1


def balloon(handle: InstanceHandle, memory_mib: int, *, timeout_s: float) -> int:
    """Set the memory of a guest and return what it has, as `BaseHypervisor.balloon_instance_memory` says.

    The instance is not held while the guest is waited for.

    Args:
        instances: those of this node.
        handle: files of the instance.
        memory_mib: what it is to have.
        timeout_s: seconds that the guest has.

    Raises:
        ParameterError: the memory is out of range.
        InstanceStateError: it is neither RUNNING nor PAUSED.
        QmpError: QEMU refuses, or does not answer.
    """
    runtime = handle.load()
    parameters = runtime.instance.parameters
    can_grow = bool(parameters.get("memory_max_mib"))
    if not can_grow:
        check_integer("memory_mib", memory_mib, 1, runtime.instance.memory_mib)
    beyond = 0
    with contextlib.ExitStack() as session:
        with handle.locked():
            handle.require_alive("its memory cannot be changed")
            monitor = session.enter_context(handle.connected())
            if can_grow:
                beyond = read_beyond_balloon(monitor, parameters)
                check_integer("memory_mib", memory_mib, beyond // _MIB + 1, read_memory_mib(monitor))
            target = memory_mib * _MIB - beyond
            changes = session.enter_context(monitor.subscribe(BalloonChangeEvent))
            monitor.execute(Balloon(value=target))
        deadline = Deadline(timeout_s)
        while True:
            actual = monitor.execute(QueryBalloon()).actual
            left_s = deadline.remaining_s()
            if actual == target or left_s <= 0:
                return (actual + beyond) // _MIB
            with contextlib.suppress(EventTimeout):
                changes.get(timeout=min(left_s, _LOOK_AGAIN_S))
