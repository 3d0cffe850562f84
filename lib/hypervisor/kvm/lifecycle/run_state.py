# SPDX-License-Identifier: BSD-2-Clause
"""Changes to the run state of an instance: reset, pause and resume."""

import contextlib
from collections.abc import Iterator
from typing import Any, Final

from hvkit.errors import HypervisorError
from hvkit.hypervisor.errors import InstanceError, InstanceStateError, translate_errors
from hvkit.hypervisor.kvm.host.runtime import Phase
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import InstanceState
from hvkit.qmp import Command, EventTimeout, Subscription
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.schema import Cont, QueryStatus, ResetEvent, SetAction, Stop, SystemReset

#: Seconds from `system_reset` to the RESET event.
_RESET_S: Final = 10.0
#: Seconds without a RESET event after which the command is assumed to cause no further reset.
_RESET_INTERVAL_S: Final = 1.0

#: The statuses in which the vCPUs stay stopped until `cont`, and `cont` is allowed. In the other ones, a migration,
#: snapshot, dump, debugger or suspended guest controls them, or the guest cannot continue.
#: Source: QAPI module `run-state`, definition `RunState`.
_RESUMABLE: Final = frozenset({"io-error", "paused", "prelaunch", "watchdog"})


class RunStateVerbs(KvmSubject):
    """Changes the run state of instances."""

    def reboot_instance(self, name: str) -> None:
        """Reset an instance by `system_reset`. The process, its monitors and its taps stay."""
        handle = self._instances.require(name)
        with handle.locked():
            state = handle.query(is_locked=True).state
            if state is not InstanceState.RUNNING:
                raise InstanceStateError(name, state.value, "cannot be reset")
            with translate_errors(lambda reason: InstanceError(name, f"cannot be reset: {reason}")):
                _reset(handle)

    def pause_instance(self, name: str) -> None:
        _switch(self._instances.require(name), Stop(), "cannot be paused", if_running=True)

    def resume_instance(self, name: str) -> None:
        _switch(self._instances.require(name), Cont(), "cannot be resumed", if_running=False)


def _switch(handle: InstanceHandle, command: Command[Any], problem: str, *, if_running: bool) -> None:
    """Stop or start the vCPUs of an instance, unless they are stopped or started already.

    Args:
        handle: the handle of the instance.
        command: stops or starts them.
        problem: the failed operation, for errors.
        if_running: execute the command only if the vCPUs run; False: only if they are stopped.

    Raises:
        InstanceStateError: the command is not allowed in the state of the instance.
        InstanceError: QEMU refuses, or does not answer.
    """
    with handle.locked():
        info = handle.query(is_locked=True)
        if not info.state.is_alive:
            raise InstanceStateError(handle.name, info.state.value, f"{problem}: {info.reason}")
        if handle.load().phase is Phase.INCOMING:
            raise InstanceStateError(handle.name, info.state.value, f"{problem}: the migration is not finalized")
        with (
            translate_errors(lambda reason: InstanceError(handle.name, f"{problem}: {reason}")),
            handle.connected() as monitor,
        ):
            status = monitor.execute(QueryStatus())
            if not status.running and status.status not in _RESUMABLE:
                reason = info.reason or f"QEMU reports status {status.status}"
                raise InstanceStateError(handle.name, info.state.value, f"{problem}: {reason}")
            if status.running is if_running:
                monitor.execute(command)


def _reset(handle: InstanceHandle) -> None:
    with _resets_enabled(handle), handle.connected() as monitor, monitor.subscribe(ResetEvent) as events:
        monitor.execute(SystemReset())
        events.get(timeout=_RESET_S)
        if _exits_on_reboot(handle):
            _await_last_reset(events)


def _exits_on_reboot(handle: InstanceHandle) -> bool:
    return handle.load().instance.parameters.get("reboot_behavior") == "exit"


@contextlib.contextmanager
def _resets_enabled(handle: InstanceHandle) -> Iterator[None]:
    """Make `system_reset` reset the instance for the duration of the block, even if reboots of the guest end it."""
    if handle.load().adoption is not None:
        # QEMU 7.2 to 11.1 have no query for the reboot action, so it cannot be restored.
        handle.execute(SetAction(reboot="reset"))
        yield
        return
    if not _exits_on_reboot(handle):
        yield
        return
    try:
        handle.execute(SetAction(reboot="reset"))
        yield
    except BaseException:
        # Over a new connection: an interrupted command has lost the other one.
        with contextlib.suppress(HypervisorError):
            handle.execute(SetAction(reboot="shutdown"))
        raise
    handle.execute(SetAction(reboot="shutdown"))


def _await_last_reset(events: Subscription[ResetEvent]) -> None:
    """Wait for the resets that follow the first one: firmware resets the machine once or twice during its setup."""
    deadline = Deadline(_RESET_S)
    with contextlib.suppress(EventTimeout):
        while deadline.remaining_s() > 0:
            events.get(timeout=_RESET_INTERVAL_S)
