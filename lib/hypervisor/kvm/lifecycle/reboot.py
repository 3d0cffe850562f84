# SPDX-License-Identifier: BSD-2-Clause
"""Reset an instance, also where a reboot by the guest would end it."""

import contextlib
from collections.abc import Iterator
from typing import Final

from hvkit.errors import HypervisorError
from hvkit.hypervisor.errors import InstanceStateError
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.model import InstanceState
from hvkit.qmp import EventTimeout, Subscription
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.schema import ResetEvent, SetAction, SystemReset

#: Seconds from the command to reset a machine to its reset.
_RESET_S: Final = 10.0
#: Seconds without a reset after which no more is expected of the same command.
_RESET_AGAIN_S: Final = 1.0


def reset_instance(handle: InstanceHandle) -> None:
    """Reset an instance that is RUNNING, as its reset button would, unasked.

    Raises:
        InstanceNotFound, InstanceStateError, InstanceBusy, HypervisorError: as `BaseHypervisor.reboot_instance` says.
    """
    with handle.locked():
        state = handle.query(is_locked=True).state
        if state is not InstanceState.RUNNING:
            raise InstanceStateError(handle.name, state.value, "cannot be reset")
        with (
            _having_resets_reset(handle),
            handle.connected() as monitor,
            monitor.subscribe(ResetEvent) as events,
        ):
            monitor.execute(SystemReset())
            events.get(timeout=_RESET_S)
            if _is_ended_by_reboots(handle):
                _await_last_reset(events)


def _is_ended_by_reboots(handle: InstanceHandle) -> bool:
    return handle.load().instance.parameters.get("reboot_behavior") == "exit"


@contextlib.contextmanager
def _having_resets_reset(handle: InstanceHandle) -> Iterator[None]:
    """Have our resets do what they say, also where a reboot by the guest ends the instance: they would as well."""
    if handle.load().adoption is not None:
        # What it was told to do about reboots, nobody can ask.
        handle.execute(SetAction(reboot="reset"))
        yield
        return
    if not _is_ended_by_reboots(handle):
        yield
        return
    try:
        handle.execute(SetAction(reboot="reset"))
        yield
    except BaseException:
        # Over a connection of its own: whoever was interrupted has lost the other.
        with contextlib.suppress(HypervisorError):
            handle.execute(SetAction(reboot="shutdown"))
        raise
    handle.execute(SetAction(reboot="shutdown"))


def _await_last_reset(events: Subscription[ResetEvent]) -> None:
    """Wait for the resets that follow one by command: firmware resets a machine once or twice while it sets it up."""
    deadline = Deadline(_RESET_S)
    with contextlib.suppress(EventTimeout):
        while deadline.remaining_s() > 0:
            events.get(timeout=_RESET_AGAIN_S)
