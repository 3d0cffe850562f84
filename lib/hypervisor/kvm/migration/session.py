# SPDX-License-Identifier: BSD-2-Clause
"""Monitor sessions of migrating instances, their timeouts, and checks of the phase of a migration."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from hvkit.hypervisor.errors import InstanceStateError, MigrationError, translate_errors
from hvkit.hypervisor.kvm.host.nics import take_down_nics
from hvkit.hypervisor.kvm.host.paths import remove_socket
from hvkit.hypervisor.kvm.host.runtime import Phase, Runtime
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.qmp import QmpConnection

#: Seconds that QEMU has to answer during a migration. It is slower then, and a premature timeout fails the migration.
ANSWER_S: Final = 20.0
#: Seconds for an expected change of a migration, such as its end after a cancellation.
CHANGE_S: Final = 10.0
#: Seconds between two queries while such a change is awaited.
POLL_S: Final = 0.05


@contextlib.contextmanager
def migration_monitor(handle: InstanceHandle, *, timeout_s: float = ANSWER_S) -> Iterator[QmpConnection]:
    """Open a monitor for the duration of the block, and translate failures into MigrationError.

    Raises:
        InstanceStateError: the instance has no process.
        MigrationError: QEMU refused, or does not answer.
    """
    with translate_errors(partial(MigrationError, handle.name)), handle.connected(timeout_s=timeout_s) as monitor:
        yield monitor


def unknown_outcome(name: str) -> Callable[[str], MigrationError]:
    """Return a function that makes the error for an operation whose outcome is not known, for `translate_errors`."""
    return lambda reason: MigrationError(name, f"the outcome is not known: {reason}")


def require_phase(handle: InstanceHandle, runtime: Runtime, phase: Phase, problem: str) -> None:
    """Check that an instance is the source (OUTGOING) or the destination (INCOMING) of a migration.

    Args:
        handle: the instance. The caller holds its lock.
        runtime: its persisted state.
        phase: the phase that is required.
        problem: what cannot be done in another phase.

    Raises:
        InstanceStateError: the instance is stopped.
        MigrationError: it is not the source or the destination of a migration.
    """
    if runtime.phase is phase:
        return
    state = handle.query(is_locked=True).state
    if state.is_over:
        raise InstanceStateError(handle.name, state.value, problem)
    raise MigrationError(handle.name, f"{problem}: there is no {phase.value} migration")


def remove_instance(handle: InstanceHandle, runtime: Runtime) -> None:
    """Remove everything of an instance whose process on this node has ended. The caller holds the lock."""
    take_down_nics(runtime)
    remove_socket(runtime.incoming_socket)
    remove_socket(runtime.copies_target)
    handle.paths.remove()
