# SPDX-License-Identifier: BSD-2-Clause
"""Take over a QEMU that somebody else started.

Its sockets get names in the run directory, as links, so that everybody finds them where those of an instance are. The
links come first, and what is remembered last: whoever dies in between leaves no instance, and a QEMU that is as it was.
"""

import contextlib
import os
from pathlib import Path
from typing import Final
from uuid import uuid4

from hvkit.hypervisor.errors import (
    AdoptionError,
    InstanceNotFound,
    ParameterError,
    RuntimeStateError,
)
from hvkit.hypervisor.kvm.adoption.inspect import read_facts
from hvkit.hypervisor.kvm.host.locks import instance_lock
from hvkit.hypervisor.kvm.host.process import Process, ProcessIdentity, open_process, read_boot_id
from hvkit.hypervisor.kvm.host.runtime import Adoption, Phase, Runtime
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.instance.instances import Instances
from hvkit.hypervisor.kvm.plan.confinement import Account
from hvkit.hypervisor.kvm.plan.topology import Chipset, Topology
from hvkit.hypervisor.kvm.qemu.monitors import open_monitor
from hvkit.hypervisor.model import Instance, is_instance_name
from hvkit.hypervisor.model.reports import ExternalInstance
from hvkit.qmp import ConnectError

#: Seconds that each monitor has to answer.
_ANSWER_S: Final = 5.0


def adopt(instances: Instances, foreign: ExternalInstance, name: str | None, shared_monitor: str) -> str:
    """Take over a QEMU, as `BaseHypervisor.adopt_instance` says.

    Args:
        instances: those of this node.
        foreign: what it was when it was looked at.
        name: what it is to be called; None for its own name.
        shared_monitor: its second monitor; empty for none.

    Raises:
        ParameterError: no instance can have that name, or another one has its uuid.
        AdoptionError: it cannot be adopted.
    """
    name = _choose_name(foreign, name)
    handle = instances.handle(name)
    instances.directory.make()
    with handle.locked():
        if os.path.lexists(handle.paths.runtime_file):
            raise AdoptionError(foreign.monitor, f"an instance {name} is known here: stop it and clean it up first")
        # That is what is left of an adoption that somebody died over; or a QEMU of ours that is remembered no more.
        handle.reap_stopped("another machine cannot have its name")
        process = _open(foreign)
        with process, instance_lock(name, instances.directory.reserving_lock_file, timeout_s=instances.lock_timeout_s):
            _refuse_ours(instances, foreign, process)
            instance = _describe_instance(foreign, name)
            instances.check_uuid_unique(instance)
            try:
                _link(handle, foreign, shared_monitor)
                _make_sure(handle, foreign, process)
                handle.persist(_describe(foreign, instance, process, shared_monitor))
            except BaseException:
                handle.paths.remove()
                raise
    return name


def _choose_name(foreign: ExternalInstance, name: str | None) -> str:
    if name is not None:
        return name
    if not is_instance_name(foreign.name):
        problem = f"the machine is called {foreign.name!r}, which is no name for an instance: give it another one"
        raise ParameterError("name", foreign.name, problem)
    return foreign.name


def _open(foreign: ExternalInstance) -> Process:
    process = open_process(ProcessIdentity(foreign.pid, foreign.start_ticks, read_boot_id()))
    if process is None:
        raise AdoptionError(foreign.monitor, f"process {foreign.pid} has ended")
    return process


def _refuse_ours(instances: Instances, foreign: ExternalInstance, process: Process) -> None:
    """Make sure that a QEMU is no instance here, under whatever name, nor about to be one."""
    if Path(os.path.realpath(foreign.monitor)).is_relative_to(os.path.realpath(instances.directory.path)):
        raise AdoptionError(foreign.monitor, "it was started here")
    for handle in instances.handles():
        try:
            runtime = handle.load()
        except (InstanceNotFound, RuntimeStateError):
            continue
        if runtime.process == process.identity:
            raise AdoptionError(foreign.monitor, f"process {foreign.pid} is instance {handle.name} already")


def _link(handle: InstanceHandle, foreign: ExternalInstance, shared_monitor: str) -> None:
    """Give the sockets of a QEMU their names in the run directory."""
    handle.paths.make()
    links = {
        handle.paths.control_socket: foreign.monitor,
        handle.paths.shared_socket: shared_monitor or foreign.monitor,
        handle.paths.serial_socket: foreign.serial_console,
    }
    try:
        for link, target in links.items():
            if target:
                link.symlink_to(target)
        # For whoever finds what is remembered damaged: its QEMU is known by that and by its monitor.
        handle.paths.pid_file.write_text(f"{foreign.pid}\n", encoding="ascii")
    except OSError as error:
        raise RuntimeStateError(handle.name, str(error.filename), f"cannot be made: {error.strerror}") from error


def _make_sure(handle: InstanceHandle, foreign: ExternalInstance, process: Process) -> None:
    """Look at the machine once more, through each of its monitors under its new name.

    Raises:
        AdoptionError: it is not the one that was looked at, or one of them belongs to another one.
        ConnectError: one of them is not there, is taken, or does not answer.
    """
    for link in dict.fromkeys((handle.paths.control_socket, handle.paths.shared_socket)):
        monitor = os.readlink(link)
        try:
            connection = open_monitor(link, process, timeout_s=_ANSWER_S)
        except ConnectError as error:  # by our name for it, which goes before anybody can look
            raise ConnectError(monitor, error.reason) from error
        with contextlib.closing(connection):
            now = read_facts(connection, monitor)
        if _identity(now) != _identity(foreign):
            problem = f"{now.name or 'a machine without a name'} answers there now, as process {now.pid}"
            raise AdoptionError(monitor, f"it is another one than was looked at: {problem}")


def _identity(foreign: ExternalInstance) -> tuple[object, ...]:
    return foreign.pid, foreign.start_ticks, foreign.uuid, foreign.name, foreign.machine_type


def _describe_instance(foreign: ExternalInstance, name: str) -> Instance:
    # A machine without a uuid gets one with us; it does not hear of it.
    return Instance(name=name, uuid=foreign.uuid or uuid4(), memory_mib=foreign.memory_mib, vcpus=foreign.vcpus)


def _describe(foreign: ExternalInstance, instance: Instance, process: Process, shared_monitor: str) -> Runtime:
    major, minor, micro = foreign.version
    return Runtime(
        instance=instance,
        phase=Phase.RUNNING,
        process=process.identity,
        binary=foreign.binary,
        qemu_version=(major, minor, micro),
        machine_type=foreign.machine_type,
        accelerator="kvm" if foreign.has_kvm else "tcg",
        accelerator_reason="somebody else chose it",
        has_acpi=foreign.has_acpi,
        has_serial=bool(foreign.serial_console),
        # What is where is not known, and nobody plugs anything in.
        topology=Topology(chipset=Chipset.PC),
        # Its account is taken, whether or not it is ours to give.
        account=Account(uid=foreign.uid, gid=foreign.gid) if foreign.uid != os.geteuid() else None,
        has_pid_file=False,
        adoption=Adoption(monitor=foreign.monitor, shared_monitor=shared_monitor),
    )
