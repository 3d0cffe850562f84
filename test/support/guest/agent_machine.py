# SPDX-License-Identifier: BSD-2-Clause
"""A QEMU with the tiny guest, a running guest agent, and a filesystem that can be frozen."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

from guest.console import BOOT_TIMEOUT_S, GuestConsole
from guest.fixtures import TinyGuest
from hvkit.qmp import QmpConnection
from hvkit.qmp.schema import Cont, VserportChangeEvent

_START_TIMEOUT_S: Final = 20


@attrs.frozen
class AgentMachine:
    """A running QEMU with the tiny guest.

    Attributes:
        process: the QEMU process.
        qmp: a connection to its QMP monitor.
        console: the guest's serial console.
        agent_path: the socket of the guest agent's channel.
    """

    process: subprocess.Popen[bytes]
    qmp: QmpConnection
    console: GuestConsole
    agent_path: Path


def _command_line(guest: TinyGuest, disk: Path, directory: Path) -> list[str]:
    return [
        guest.qemu_binary,
        *("-nodefaults", "-no-user-config", "-display", "none", "-S"),
        *("-machine", "q35", "-accel", "tcg", "-cpu", "max", "-m", "256"),
        *("-kernel", str(guest.kernel), "-initrd", str(guest.initrd)),
        *("-append", f"console=ttyS0 {guest.kernel_args}"),
        *("-qmp", f"unix:{directory / 'qmp'},server=off"),
        *("-serial", f"unix:{directory / 'serial'},server=on,wait=off"),
        *("-chardev", f"socket,id=agent,path={directory / 'agent'},server=on,wait=off"),
        *("-device", "virtio-serial-pci"),
        *("-device", "virtserialport,id=agent0,chardev=agent,name=org.qemu.guest_agent.0"),
        *("-blockdev", f"driver=raw,node-name=disk,file.driver=file,file.filename={disk}"),
        *("-device", "virtio-blk-pci,drive=disk"),
    ]


@contextlib.contextmanager
def agent_machine(guest: TinyGuest, disk: Path, directory: Path) -> Iterator[AgentMachine]:
    """Boot the tiny guest with a filesystem mounted at /mnt; kill QEMU at the end of the block.

    Args:
        guest: the tiny guest.
        disk: an empty disk image.
        directory: the directory for sockets.
    """
    with socket.socket(socket.AF_UNIX) as listener:
        # QEMU connects to this listener, so no polling is needed. Its other sockets exist once it greets.
        listener.bind(str(directory / "qmp"))
        listener.listen()
        listener.settimeout(_START_TIMEOUT_S)
        with subprocess.Popen(_command_line(guest, disk, directory)) as process:
            try:
                with (
                    QmpConnection.from_socket(listener.accept()[0]) as qmp,
                    GuestConsole(directory / "serial") as console,
                    qmp.subscribe(VserportChangeEvent, match=lambda event: event.open) as agent_starts,
                ):
                    qmp.execute(Cont())
                    console.wait_until_ready()
                    console.run("mke2fs /dev/vda >/dev/null && mount -t ext2 /dev/vda /mnt")
                    agent_starts.get(timeout=BOOT_TIMEOUT_S)
                    yield AgentMachine(process, qmp, console, directory / "agent")
            finally:
                process.kill()
