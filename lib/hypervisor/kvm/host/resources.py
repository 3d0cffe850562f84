# SPDX-License-Identifier: BSD-2-Clause
"""What joins a machine to its node: listening sockets, taps, open files, its TPM. QEMU inherits all of it, open."""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import attrs

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.host.disks import open_disk, open_file
from hvkit.hypervisor.kvm.host.firmware import make_variables
from hvkit.hypervisor.kvm.host.nics import open_nic, plan_tap_options, take_down_nic, tap_files
from hvkit.hypervisor.kvm.host.paths import InstancePaths
from hvkit.hypervisor.kvm.host.process import listen
from hvkit.hypervisor.kvm.host.tpm import end_tpm, start_tpm
from hvkit.hypervisor.kvm.plan.confinement import Confinement
from hvkit.hypervisor.kvm.plan.devices import TapFiles, disk_id
from hvkit.hypervisor.kvm.plan.drives import IMAGE_PARAMETERS
from hvkit.hypervisor.kvm.plan.firmware import Firmware
from hvkit.hypervisor.kvm.plan.machine import VARIABLES, FileSet, MachineSockets
from hvkit.hypervisor.kvm.plan.parameters import is_file
from hvkit.hypervisor.model import Instance

#: Stands for a descriptor where nothing will be started.
_NO_FD: Final = -1
_VSOCK_DEVICE: Final = "/dev/vhost-vsock"


@attrs.frozen(kw_only=True)
class HostResources:
    """What joins a machine to its node, all of it open.

    Attributes:
        sockets: where it is reached.
        taps: of its NICs, by their uuids.
        disk_files: of its disks, by their uuids, where it cannot open them by name.
        files: its firmware's variables and the images in its drives, as `plan_machine` takes them.
        confinement: what its QEMU is confined to.
        descriptors: all that its QEMU inherits.
    """

    sockets: MachineSockets
    taps: Mapping[UUID, TapFiles] = attrs.field(factory=dict)
    disk_files: Mapping[UUID, FileSet] = attrs.field(factory=dict)
    files: Mapping[str, str | FileSet] = attrs.field(factory=dict)
    confinement: Confinement
    descriptors: Sequence[int] = ()


def imagine_ends(instance: Instance, confinement: Confinement) -> HostResources:
    """Return what stands for the ends that will be made, in a plan that nobody starts."""
    imagined = TapFiles(queues=(str(_NO_FD),))
    return HostResources(
        sockets=MachineSockets(
            control=_NO_FD, shared=_NO_FD, watch=_NO_FD, serial=_NO_FD, agent=_NO_FD, tpm=_NO_FD, vsock=_NO_FD
        ),
        taps={nic.uuid: imagined for nic in instance.nics if nic.has_tap},
        files={VARIABLES: ""},
        confinement=confinement,
    )


def allocate(
    instance: Instance,
    parameters: Mapping[str, Any],
    confinement: Confinement,
    paths: InstancePaths,
    *,
    firmware: Firmware | None,
    inherited: ExitStack,
    unmaking: ExitStack,
) -> HostResources:
    """Make what joins an instance's machine to its node.

    Args:
        instance: the instance.
        parameters: its parameters, filled and checked.
        confinement: what its QEMU is confined to.
        paths: its files.
        firmware: the UEFI firmware that was found for it; None for QEMU's own BIOS.
        inherited: closes what is open here, once QEMU has it.
        unmaking: undoes what was made, once QEMU has ended.

    Raises:
        ParameterError: a disk, or the variables of its firmware, cannot be opened.
        ProcessError: a socket or its TPM cannot be made.
        NetworkError: a tap cannot be made.
        RuntimeStateError: a directory cannot be made.
    """
    if confinement.root_dir:
        paths.make_root_dir()
    sockets = _make_sockets(parameters, confinement, paths, inherited, unmaking)
    listeners = (sockets.control, sockets.shared, sockets.watch, sockets.serial, sockets.agent)
    descriptors = [each for each in (*listeners, sockets.tpm, sockets.vsock) if isinstance(each, int)]
    taps = {}
    options, script = plan_tap_options(parameters), parameters["network_script"]
    for nic in instance.nics:
        if nic.has_tap:
            tap = open_nic(instance, nic, options, script=script)
            inherited.callback(tap.close)
            unmaking.callback(take_down_nic, instance, nic, script=script)
            taps[nic.uuid] = tap_files(tap)
            descriptors += tap.descriptors
    opens_by_name = confinement.opens_by_name
    disk_files = {}
    if not opens_by_name:
        for number, disk in enumerate(instance.disks, start=1):
            disk_files[disk.uuid] = _inherit(number, open_disk(disk), disk_id(disk.uuid), inherited)
    files: dict[str, str | FileSet] = {}
    if firmware is not None:
        make_variables(firmware.template, paths.variables_file)
        files[VARIABLES] = variables = str(paths.variables_file)
        if not opens_by_name:
            opened = open_file(variables, "firmware")
            files[VARIABLES] = _inherit(len(disk_files) + 1, opened, VARIABLES, inherited)
    if not opens_by_name:
        first = len(disk_files) + 2
        for number, (parameter, drive_id) in enumerate(IMAGE_PARAMETERS.items(), start=first):
            image = parameters[parameter]
            if is_file(image):
                opened = open_file(image, parameter, read_only=True)
                files[drive_id] = _inherit(number, opened, drive_id, inherited)
    for each in (*disk_files.values(), *files.values()):
        if isinstance(each, FileSet):
            descriptors += each.descriptors
    return HostResources(
        sockets=sockets,
        taps=taps,
        disk_files=disk_files,
        files=files,
        confinement=confinement,
        descriptors=tuple(descriptors),
    )


def _inherit(number: int, opened: Sequence[int], label: str, inherited: ExitStack) -> FileSet:
    for descriptor in opened:
        inherited.callback(os.close, descriptor)
    return FileSet(number=number, descriptors=tuple(opened), label=label)


def _make_sockets(
    parameters: Mapping[str, Any],
    confinement: Confinement,
    paths: InstancePaths,
    inherited: ExitStack,
    unmaking: ExitStack,
) -> MachineSockets:
    def make(path: Path) -> int:
        return inherited.enter_context(listen(path)).fileno()

    def make_tpm() -> int:
        unmaking.callback(end_tpm, paths.tpm_dir)
        end = start_tpm(paths.tpm_dir, paths.tpm_log_file, account=confinement.account)
        return inherited.enter_context(end).fileno()

    return MachineSockets(
        control=make(paths.control_socket),
        shared=make(paths.shared_socket),
        watch=make(paths.watch_socket),
        serial=make(paths.serial_socket) if parameters["serial_console"] else None,
        agent=make(paths.agent_socket) if parameters["use_guest_agent"] else None,
        tpm=make_tpm() if parameters["tpm"] else None,
        vsock=_open_vsock(inherited) if parameters["vsock_cid"] else None,
        pid_file=str(paths.pid_file) if confinement.opens_by_name else "",
    )


def _open_vsock(inherited: ExitStack) -> int:
    try:
        descriptor = os.open(_VSOCK_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise ParameterError("vsock_cid", _VSOCK_DEVICE, f"{_VSOCK_DEVICE}: {error.strerror}") from error
    inherited.callback(os.close, descriptor)
    return descriptor
