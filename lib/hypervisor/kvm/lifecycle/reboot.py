# SPDX-License-Identifier: BSD-2-Clause
"""Reset an instance, also where a reboot by the guest would end it."""

import contextlib
from collections.abc import Iterator
from typing import Final

from hvkit.errors import HypervisorError
from hvkit.hypervisor.errors import InstanceStateError
from hvkit.hypervisor.kvm.host.paths import InstancePaths
from hvkit.hypervisor.kvm.instance.instances import Instances
from hvkit.hypervisor.model import InstanceState
from hvkit.qmp import EventTimeout, Subscription
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.schema import ResetEvent, SetAction, SystemReset

#: Seconds from the command to reset a machine to its reset.
_RESET_S: Final = 10.0
#: Seconds without a reset after which no more is expected of the same command.
_RESET_AGAIN_S: Final = 1.0


def reset_instance(instances: Instances, paths: InstancePaths) -> None:
    """Reset an instance that is RUNNING, as its reset button would, unasked.

    Raises:
        InstanceNotFound, InstanceStateError, InstanceBusy, HypervisorError: as `BaseHypervisor.reboot_instance` says.
    """
    with instances.locked(paths):
        state = instances.look(paths, is_ours=True).state
        if state is not InstanceState.RUNNING:
            raise InstanceStateError(paths.name, state.value, "cannot be reset")
        with (
            _having_resets_reset(instances, paths),
            instances.connected(paths) as monitor,
            monitor.subscribe(ResetEvent) as events,
        ):
            monitor.execute(SystemReset())
            events.get(timeout=_RESET_S)
            if _is_ended_by_reboots(instances, paths):
                _await_last_reset(events)


def _is_ended_by_reboots(instances: Instances, paths: InstancePaths) -> bool:
    return instances.recall(paths).instance.parameters.get("reboot_behavior") == "exit"


@contextlib.contextmanager
def _having_resets_reset(instances: Instances, paths: InstancePaths) -> Iterator[None]:
    """Have our resets do what they say, also where a reboot by the guest ends the instance: they would as well."""
    if instances.recall(paths).adoption is not None:
        # What it was told to do about reboots, nobody can ask.
        instances.execute(paths, SetAction(reboot="reset"))
        yield
        return
    if not _is_ended_by_reboots(instances, paths):
        yield
        return
    try:
        instances.execute(paths, SetAction(reboot="reset"))
        yield
    except BaseException:
        # Over a connection of its own: whoever was interrupted has lost the other.
        with contextlib.suppress(HypervisorError):
            instances.execute(paths, SetAction(reboot="shutdown"))
        raise
    instances.execute(paths, SetAction(reboot="shutdown"))


def _await_last_reset(events: Subscription[ResetEvent]) -> None:
    """Wait for the resets that follow one by command: firmware resets a machine once or twice while it sets it up."""
    deadline = Deadline(_RESET_S)
    with contextlib.suppress(EventTimeout):
        while deadline.remaining_s() > 0:
            events.get(timeout=_RESET_AGAIN_S)
