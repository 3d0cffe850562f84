# SPDX-License-Identifier: BSD-2-Clause
"""Adoption of a QEMU that hvkit did not start.

Symlinks in the run directory give its sockets the same names as those of other instances. They are created first, and
the state is persisted last: after a crash in between there is no instance, and QEMU continues unchanged.
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
from hvkit.hypervisor.kvm.adoption.inspect import check_path, read_instance
from hvkit.hypervisor.kvm.host.locks import instance_lock
from hvkit.hypervisor.kvm.host.process import Process, ProcessIdentity, open_process, read_boot_id
from hvkit.hypervisor.kvm.host.runtime import Adoption, Phase, Runtime
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.instance.instances import Instances
from hvkit.hypervisor.kvm.plan.confinement import Account
from hvkit.hypervisor.kvm.plan.topology import Chipset, Topology
from hvkit.hypervisor.kvm.qemu.monitors import open_monitor
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import Instance, check_kind, is_instance_name
from hvkit.hypervisor.model.reports import ExternalInstance
from hvkit.qmp import ConnectError

#: Seconds for each monitor to answer.
_ANSWER_S: Final = 5.0


class AdoptVerbs(KvmSubject):
    """Adopts external instances."""

    def adopt_instance(
        self,
        external: ExternalInstance,
        *,
        name: str | None = None,
        shared_monitor: str | os.PathLike[str] | None = None,
    ) -> str:
        """Adopt a QEMU that hvkit did not start.

        No other software, such as libvirt, may manage this QEMU any more; hvkit cannot check that. If QEMU has no uuid,
        hvkit generates one for the instance. If QEMU ends by itself, the instance is CRASHED without a cause. The first
        `reboot_instance` sets the reboot action of QEMU to ``reset`` permanently.
        """
        check_kind(external, ExternalInstance)
        second = "" if shared_monitor is None else check_path("shared_monitor", shared_monitor)
        name = _choose_name(external, name)
        handle = self._instances.handle(name)
        self._instances.directory.make()
        with handle.locked():
            if os.path.lexists(handle.paths.runtime_file):
                problem = f"instance {name} exists already: choose another name, or clean up that instance"
                raise AdoptionError(external.monitor, problem)
            # Remove the files of an interrupted adoption, or of an instance whose state file is missing.
            handle.reap_stopped("its name cannot be used for another QEMU")
            _adopt(self._instances, handle, external, second)
        return name


def _choose_name(external: ExternalInstance, name: str | None) -> str:
    if name is not None:
        return name
    if not is_instance_name(external.name):
        problem = f"the QEMU has name {external.name!r}, which is not valid for an instance: pass another name"
        raise ParameterError("name", external.name, problem)
    return external.name


def _adopt(instances: Instances, handle: InstanceHandle, external: ExternalInstance, shared_monitor: str) -> None:
    process = _open_process(external)
    lock_file = instances.directory.reserving_lock_file
    with process, instance_lock(handle.name, lock_file, timeout_s=instances.lock_timeout_s):
        _check_unmanaged(instances, external, process)
        instance = _build_instance(external, handle.name)
        instances.check_uuid_unique(instance)
        try:
            _link_sockets(handle, external, shared_monitor)
            _check_unchanged(handle, external, process)
            handle.persist(_build_runtime(external, instance, process, shared_monitor))
        except BaseException:
            handle.paths.remove()
            raise


def _open_process(external: ExternalInstance) -> Process:
    process = open_process(ProcessIdentity(external.pid, external.start_ticks, read_boot_id()))
    if process is None:
        raise AdoptionError(external.monitor, f"process {external.pid} has ended")
    return process


def _check_unmanaged(instances: Instances, external: ExternalInstance, process: Process) -> None:
    """Check that a QEMU is not an instance already, under any name, and not being started by hvkit."""
    if Path(os.path.realpath(external.monitor)).is_relative_to(os.path.realpath(instances.directory.path)):
        raise AdoptionError(external.monitor, "it was started by hvkit")
    for handle in instances.handles():
        try:
            runtime = handle.load()
        except (InstanceNotFound, RuntimeStateError):
            continue
        if runtime.process == process.identity:
            raise AdoptionError(external.monitor, f"process {external.pid} is instance {handle.name} already")


def _link_sockets(handle: InstanceHandle, external: ExternalInstance, shared_monitor: str) -> None:
    """Create the symlinks to the sockets of a QEMU, and its pid file."""
    handle.paths.make()
    links = {
        handle.paths.control_socket: external.monitor,
        handle.paths.shared_socket: shared_monitor or external.monitor,
        handle.paths.serial_socket: external.serial_console,
    }
    try:
        for link, target in links.items():
            if target:
                link.symlink_to(target)
        # The pid file and the monitor identify the QEMU if the state file is damaged.
        handle.paths.pid_file.write_text(f"{external.pid}\n", encoding="ascii")
    except OSError as error:
        raise RuntimeStateError(handle.name, str(error.filename), f"cannot be created: {error.strerror}") from error


def _check_unchanged(handle: InstanceHandle, external: ExternalInstance, process: Process) -> None:
    """Inspect the QEMU again, through each of its monitors under its new name.

    Raises:
        AdoptionError: a monitor belongs to another QEMU than the inspected one.
        ConnectError: a monitor is missing, in use, or does not answer.
    """
    for link in dict.fromkeys((handle.paths.control_socket, handle.paths.shared_socket)):
        monitor = os.readlink(link)
        try:
            connection = open_monitor(link, process, timeout_s=_ANSWER_S)
        except ConnectError as error:  # name the socket itself: the symlink is about to be removed
            raise ConnectError(monitor, error.reason) from error
        with contextlib.closing(connection):
            now = read_instance(connection, monitor)
        if _identity(now) != _identity(external):
            problem = f"QEMU {now.name!r} (process {now.pid}) answers on this monitor, not the one that was inspected"
            raise AdoptionError(monitor, problem)


def _identity(external: ExternalInstance) -> tuple[object, ...]:
    return external.pid, external.start_ticks, external.uuid, external.name, external.machine_type


def _build_instance(external: ExternalInstance, name: str) -> Instance:
    return Instance(name=name, uuid=external.uuid or uuid4(), memory_mib=external.memory_mib, vcpus=external.vcpus)


def _build_runtime(external: ExternalInstance, instance: Instance, process: Process, shared_monitor: str) -> Runtime:
    major, minor, micro = external.version
    return Runtime(
        instance=instance,
        phase=Phase.RUNNING,
        process=process.identity,
        binary=external.binary,
        qemu_version=(major, minor, micro),
        machine_type=external.machine_type,
        accelerator="kvm" if external.has_kvm else "tcg",
        accelerator_reason="chosen before the adoption",
        has_acpi=external.has_acpi,
        has_serial=bool(external.serial_console),
        # The real topology is unknown, so hotplug is rejected.
        topology=Topology(chipset=Chipset.PC),
        # The account counts as in use, whether or not it belongs to the pool.
        account=Account(uid=external.uid, gid=external.gid) if external.uid != os.geteuid() else None,
        has_pid_file=False,
        adoption=Adoption(monitor=external.monitor, shared_monitor=shared_monitor),
    )
