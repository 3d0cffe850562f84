# SPDX-License-Identifier: BSD-2-Clause
"""Allocation of the host resources of a machine: listening sockets, taps, open files, swtpm."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID

import attrs

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.host.disks import open_disk, open_file
from hvkit.hypervisor.kvm.host.firmware import make_variables
from hvkit.hypervisor.kvm.host.listeners import listen
from hvkit.hypervisor.kvm.host.network import Tap
from hvkit.hypervisor.kvm.host.nics import open_nic, plan_tap_options, take_down_nic, tap_files
from hvkit.hypervisor.kvm.host.parameter_checks import VSOCK_DEVICE
from hvkit.hypervisor.kvm.host.paths import InstancePaths
from hvkit.hypervisor.kvm.host.tpm import end_tpm, start_tpm
from hvkit.hypervisor.kvm.plan.confinement import Confinement
from hvkit.hypervisor.kvm.plan.devices import disk_id
from hvkit.hypervisor.kvm.plan.drives import IMAGE_PARAMETERS
from hvkit.hypervisor.kvm.plan.parameters import is_file
from hvkit.hypervisor.kvm.plan.request import MachineRequest
from hvkit.hypervisor.kvm.plan.resources import VARIABLES, FileSet, HostResources, MachineSockets


def allocate(
    request: MachineRequest,
    confinement: Confinement,
    paths: InstancePaths,
    *,
    inherited: ExitStack,
    cleanup: ExitStack,
) -> HostResources:
    """Allocate the host resources of a machine.

    After failure, unwinding both stacks releases everything that was allocated.

    Args:
        request: the input of planning.
        confinement: the confinement of its QEMU.
        paths: the files of the instance.
        inherited: closes the copies in this process of what QEMU inherits; unwound once QEMU is started.
        cleanup: releases what outlives QEMU, such as taps; unwound once QEMU has ended.

    Raises:
        ParameterError: a disk, an image or the UEFI variables cannot be opened.
        ProcessError: a socket cannot be created, or swtpm cannot be started.
        NetworkError: a tap cannot be created.
        RuntimeStateError: a directory cannot be created.
    """
    if confinement.root_dir:
        paths.make_root_dir()
    allocation = _Allocation(request, confinement, paths, inherited, cleanup)
    sockets = allocation.make_sockets()
    taps = allocation.open_taps()
    disk_files = allocation.open_disks()
    resources = HostResources(
        sockets=sockets,
        taps={uuid: tap_files(tap) for uuid, tap in taps.items()},
        disk_files=disk_files,
        files=allocation.open_files(first_set=len(disk_files) + 1),
        confinement=confinement,
    )
    descriptors = (
        *sockets.descriptors,
        *(descriptor for tap in taps.values() for descriptor in tap.descriptors),
        *(descriptor for file_set in resources.file_sets for descriptor in file_set.descriptors),
    )
    return attrs.evolve(resources, descriptors=descriptors)


@attrs.frozen
class _Allocation:
    request: MachineRequest
    confinement: Confinement
    paths: InstancePaths
    inherited: ExitStack
    cleanup: ExitStack

    def make_sockets(self) -> MachineSockets:
        parameters, paths = self.request.parameters, self.paths
        return MachineSockets(
            control=self._listen(paths.control_socket),
            shared=self._listen(paths.shared_socket),
            watch=self._listen(paths.watch_socket),
            serial=self._listen(paths.serial_socket) if parameters["serial_console"] else None,
            agent=self._listen(paths.agent_socket) if parameters["use_guest_agent"] else None,
            tpm=self._start_tpm() if parameters["tpm"] else None,
            vsock=self._open_vsock() if parameters["vsock_cid"] else None,
            pid_file=str(paths.pid_file) if self.confinement.opens_by_name else "",
        )

    def _listen(self, path: Path) -> int:
        return self.inherited.enter_context(listen(path)).fileno()

    def _start_tpm(self) -> int:
        self.cleanup.callback(end_tpm, self.paths.tpm_dir)
        end = start_tpm(self.paths.tpm_dir, self.paths.tpm_log_file, account=self.confinement.account)
        return self.inherited.enter_context(end).fileno()

    def _open_vsock(self) -> int:
        try:
            descriptor = os.open(VSOCK_DEVICE, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise ParameterError("vsock_cid", VSOCK_DEVICE, f"{VSOCK_DEVICE}: {error.strerror}") from error
        self.inherited.callback(os.close, descriptor)
        return descriptor

    def open_taps(self) -> dict[UUID, Tap]:
        instance, options = self.request.instance, plan_tap_options(self.request.parameters)
        script = self.request.parameters["network_script"]
        taps = {}
        for nic in instance.nics:
            if nic.has_tap:
                taps[nic.uuid] = tap = open_nic(instance, nic, options, script=script)
                self.inherited.callback(tap.close)
                self.cleanup.callback(take_down_nic, instance, nic, script=script)
        return taps

    def open_disks(self) -> dict[UUID, FileSet]:
        """Open the disks if QEMU cannot open them by name."""
        if self.confinement.opens_by_name:
            return {}
        return {
            disk.uuid: self._inherit(number, open_disk(disk), disk_id(disk.uuid))
            for number, disk in enumerate(self.request.instance.disks, start=1)
        }

    def open_files(self, *, first_set: int) -> dict[str, str | FileSet]:
        """Create the UEFI variables, and open them and the images of drives if QEMU cannot open them by name.

        Args:
            first_set: the first unused number of an fdset.
        """
        files: dict[str, str | FileSet] = {}
        if self.request.firmware is not None:
            make_variables(self.request.firmware.template, self.paths.variables_file)
            files[VARIABLES] = variables = str(self.paths.variables_file)
            if not self.confinement.opens_by_name:
                files[VARIABLES] = self._inherit(first_set, open_file(variables, "firmware"), VARIABLES)
        if self.confinement.opens_by_name:
            return files
        for number, (parameter, drive_id) in enumerate(IMAGE_PARAMETERS.items(), start=first_set + 1):
            image = self.request.parameters[parameter]
            if is_file(image):
                files[drive_id] = self._inherit(number, open_file(image, parameter, read_only=True), drive_id)
        return files

    def _inherit(self, number: int, opened: Sequence[int], label: str) -> FileSet:
        for descriptor in opened:
            self.inherited.callback(os.close, descriptor)
        return FileSet(number=number, descriptors=tuple(opened), label=label)
