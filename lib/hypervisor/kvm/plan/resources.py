# SPDX-License-Identifier: BSD-2-Clause
"""Host resources of a machine, as its plan refers to them: sockets, taps and open files that QEMU inherits.

`hvkit.hypervisor.kvm.host.resources` allocates them.
"""

from collections.abc import Mapping
from typing import Final, Self
from uuid import UUID

import attrs

from hvkit.hypervisor.kvm.plan.confinement import Confinement
from hvkit.hypervisor.kvm.plan.devices import TapFiles
from hvkit.hypervisor.model import Instance

#: The key of the UEFI variables in `HostResources.files`.
VARIABLES: Final = "variables"

#: A unix socket to listen on: its path, or the number of an inherited descriptor that listens already.
Listener = str | int

#: A descriptor number for plans that are never started.
_NO_FD: Final = -1


@attrs.frozen(kw_only=True)
class MachineSockets:
    """The sockets and other descriptors that connect a machine to the node.

    Attributes:
        control: the control monitor, for operations on the instance.
        shared: the shared monitor, for queries and short operations.
        watch: the watch monitor, to which one watch stays connected.
        serial: the serial console; None for an instance without one.
        serial_log: the file that the console output is appended to; empty for none.
        agent: the port of the guest agent; None for an instance without one.
        tpm: the descriptor connected to swtpm; None for an instance without a TPM.
        vsock: the descriptor of an open /dev/vhost-vsock; None for an instance without a vsock.
        pid_file: the file that QEMU writes its pid to; empty for none.
    """

    control: Listener
    shared: Listener
    watch: Listener
    serial: Listener | None = None
    serial_log: str = ""
    agent: Listener | None = None
    tpm: int | None = None
    vsock: int | None = None
    pid_file: str = ""

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The descriptors that QEMU inherits."""
        listeners = (self.control, self.shared, self.watch, self.serial, self.agent)
        return tuple(each for each in (*listeners, self.tpm, self.vsock) if isinstance(each, int))


@attrs.frozen(kw_only=True)
class FileSet:
    """An fdset: open descriptors of one file, which QEMU inherits and opens by the name of the set.

    Attributes:
        number: of the set; unique in a machine.
        descriptors: one for each access mode that QEMU may open the file with.
        label: a description for operators.
    """

    number: int
    descriptors: tuple[int, ...]
    label: str

    @property
    def filename(self) -> str:
        """The name that QEMU opens."""
        return f"/dev/fdset/{self.number}"


@attrs.frozen(kw_only=True)
class HostResources:
    """The resources of the node that a machine uses.

    Attributes:
        sockets: its monitors, consoles and other connections.
        taps: the open tap of each NIC that has one, by the uuid of the NIC.
        disk_files: the open files of each disk that QEMU cannot open by name, by the uuid of the disk.
        files: the file of the UEFI variables (`VARIABLES`), and images of drives by the id of the drive: a name or an
            open file. An image that is not listed is opened by its own name.
        confinement: the confinement of QEMU.
        descriptors: every descriptor that QEMU inherits.
    """

    sockets: MachineSockets
    taps: Mapping[UUID, TapFiles] = attrs.field(factory=dict)
    disk_files: Mapping[UUID, FileSet] = attrs.field(factory=dict)
    files: Mapping[str, str | FileSet] = attrs.field(factory=dict)
    confinement: Confinement = attrs.field(factory=Confinement)
    descriptors: tuple[int, ...] = ()

    @property
    def filenames(self) -> dict[str, str]:
        """The name that QEMU opens, for each entry of `files`."""
        return {key: file.filename if isinstance(file, FileSet) else file for key, file in self.files.items()}

    @property
    def file_sets(self) -> tuple[FileSet, ...]:
        """All fdsets."""
        return (*self.disk_files.values(), *(each for each in self.files.values() if isinstance(each, FileSet)))

    @classmethod
    def placeholder(cls, instance: Instance, confinement: Confinement) -> Self:
        """Return resources for a plan that is never started, with invalid descriptors.

        Args:
            instance: the instance to plan.
            confinement: the confinement of QEMU.
        """
        tap = TapFiles(queues=(str(_NO_FD),))
        return cls(
            sockets=MachineSockets(
                control=_NO_FD, shared=_NO_FD, watch=_NO_FD, serial=_NO_FD, agent=_NO_FD, tpm=_NO_FD, vsock=_NO_FD
            ),
            taps={nic.uuid: tap for nic in instance.nics if nic.has_tap},
            files={VARIABLES: ""},
            confinement=confinement,
        )
