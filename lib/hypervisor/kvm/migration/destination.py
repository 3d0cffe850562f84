# SPDX-License-Identifier: BSD-2-Clause
"""Take in an instance that comes from another node, or end what waited for it in vain."""

import contextlib
import time
from pathlib import Path
from typing import Final

import attrs

from hvkit.errors import HypervisorError
from hvkit.hypervisor.errors import InstanceStateError, MigrationError
from hvkit.hypervisor.kvm.host.listeners import is_listening
from hvkit.hypervisor.kvm.host.log import read_log_tail
from hvkit.hypervisor.kvm.host.paths import remove_socket
from hvkit.hypervisor.kvm.host.process import ProcessError
from hvkit.hypervisor.kvm.host.runtime import Phase, Runtime
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.instance.instances import Instances
from hvkit.hypervisor.kvm.instance.state import find_process
from hvkit.hypervisor.kvm.instance.stop import stop_process
from hvkit.hypervisor.kvm.lifecycle.preparation import Preparation
from hvkit.hypervisor.kvm.lifecycle.start import bring_up
from hvkit.hypervisor.kvm.migration.common import (
    ANSWER_S,
    HAS_LEFT,
    LOOK_AGAIN_S,
    SETTLE_S,
    ask_status,
    check_target,
    configure,
    forget,
    incoming_socket,
    migration_uri,
    reset_capabilities,
    translate_errors,
    with_port,
)
from hvkit.hypervisor.kvm.migration.disk_copies import offer_disks
from hvkit.hypervisor.model import DiskCopies
from hvkit.qmp import CommandError, QmpConnection, QmpError
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.schema import Cont, MigrateIncoming, NbdServerStop, QueryStatus

#: Seconds in which a QEMU whose monitor went away is expected to end.
_END_S: Final = 2.0


def accept(
    instances: Instances,
    preparation: Preparation,
    handle: InstanceHandle,
    target: str | int,
    hypervisor: str,
    copies: DiskCopies | None,
) -> None:
    """Start the machine that waits for its guest, as `BaseHypervisor.accept_instance` says. The lock is the caller's.

    Raises:
        MigrationError: it did not come up, or cannot wait at that address.
        InstanceStateError: it did not come up, and its process cannot be ended.
    """
    instance, parameters = preparation.instance, preparation.parameters
    name = instance.name
    target = with_port(target, parameters)
    check_target(name, target, parameters)
    if copies is not None:
        check_target(name, copies.target, parameters)
    socket_path = incoming_socket(target)
    try:
        for path in filter(None, (socket_path, "" if copies is None else incoming_socket(copies.target))):
            # QEMU takes a socket away from whoever listens on it.
            if is_listening(Path(path)):
                raise MigrationError(name, f"{hypervisor} cannot accept it: somebody listens on {path} already")
    except ProcessError as error:
        raise MigrationError(name, f"{hypervisor} cannot accept it: {error}") from error

    def await_guest(monitor: QmpConnection) -> None:
        configure(monitor, parameters, "server")
        if copies is not None:
            offer_disks(monitor, handle.load(), copies)
        with migration_uri(monitor, target) as uri:
            monitor.execute(MigrateIncoming(uri=uri))

    reserved = instances.reserving(instance, parameters)
    copies_target = "" if copies is None else copies.target
    preparation = attrs.evolve(preparation, incoming_socket=socket_path, copies_target=copies_target)
    try:
        bring_up(preparation, handle, reserved, start_paused=False, await_guest=await_guest)
    except InstanceStateError:
        raise
    except HypervisorError as error:
        remove_socket(socket_path)
        remove_socket(copies_target)
        raise MigrationError(name, f"{hypervisor} cannot accept it: {error}") from error


def finalize_destination(handle: InstanceHandle, *, success: bool) -> str:
    """End a migration on its destination, as `BaseHypervisor.finalize_migration_destination` says."""
    with handle.locked():
        runtime = handle.load()
        if runtime.phase is not Phase.INCOMING:
            if success and runtime.has_arrived:
                return ""
            raise MigrationError(handle.name, "it is not coming here")
        process = find_process(runtime, handle.paths)
        if process is None:
            return _forget_unarrived(runtime, handle, success)
        with process, translate_errors(handle):
            try:
                has_come = _is_here(handle, runtime, timeout_s=SETTLE_S if success else 0.0)
            except (QmpError, InstanceStateError):
                # A QEMU whose source goes away ends by itself.
                if not process.wait(_END_S):
                    raise
                has_come = False
            if success and has_come:
                remove_socket(runtime.incoming_socket)
                remove_socket(runtime.copies_target)
                arrived = attrs.evolve(
                    runtime, phase=Phase.RUNNING, incoming_socket="", copies_target="", has_arrived=True
                )
                handle.persist(arrived)
                return ""
            if success and not process.wait(0):
                raise MigrationError(handle.name, _with_last_words("it has not come, or not all of it", handle))
            if has_come:
                raise MigrationError(handle.name, "it has come, and may run here")
            stop_process(process, handle.paths, guest_timeout_s=0)
        return _forget_unarrived(runtime, handle, success)


def _is_here(handle: InstanceHandle, runtime: Runtime, *, timeout_s: float) -> bool:
    """Tell whether a guest has come, waiting for it; with a time to wait, let it run that is to run."""
    with handle.connected(timeout_s=ANSWER_S) as monitor:
        has_come = _await_guest_here(monitor, timeout_s)
        if timeout_s and has_come and runtime.copies_target:
            with contextlib.suppress(CommandError):  # somebody did so before, and died
                monitor.execute(NbdServerStop())
        if timeout_s and has_come:
            with contextlib.suppress(CommandError):  # which does not keep it from running here
                reset_capabilities(monitor)
        # One that was stopped for the journey does not know that it ran before.
        if timeout_s and has_come and runtime.was_running and monitor.execute(QueryStatus()).status == "paused":
            monitor.execute(Cont())
        return has_come


def _await_guest_here(monitor: QmpConnection, timeout_s: float) -> bool:
    """Wait until a guest has come, with all of its memory; the source may know that sooner than the destination.

    Without time to wait, one that has come at all is here.
    """
    deadline = Deadline(timeout_s)
    while monitor.execute(QueryStatus()).status == "inmigrate" or (
        timeout_s and ask_status(monitor).status in HAS_LEFT
    ):
        if deadline.remaining_s() <= 0:
            return False
        time.sleep(LOOK_AGAIN_S)
    return True


def _forget_unarrived(runtime: Runtime, handle: InstanceHandle, success: bool) -> str:
    """Remove a destination whose process has ended, and return what it said; complain where the guest was expected."""
    said = _last_words(handle)
    problem = _with_last_words("its process has gone: it does not run here", handle)
    forget(runtime, handle)
    if success:
        raise MigrationError(handle.name, problem)
    return said


def _with_last_words(problem: str, handle: InstanceHandle) -> str:
    said = _last_words(handle)
    return f"{problem}: {said}" if said else problem


def _last_words(handle: InstanceHandle) -> str:
    return " | ".join(read_log_tail(handle.paths.log_file).splitlines())
