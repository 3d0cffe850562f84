# SPDX-License-Identifier: BSD-2-Clause
"""The tiny guest on a QEMU process that the test starts directly.

All tests share one boot, so the test that powers off the guest is the last one.
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from guest.console import ANSWER_TIMEOUT_S, BOOT_TIMEOUT_S, GuestConsole
from guest.fixtures import MakeDiskImage, TinyGuest
from hvkit.qmp import QmpConnection
from hvkit.qmp.schema import (
    Balloon,
    BalloonChangeEvent,
    Cont,
    DeviceDel,
    DeviceDeletedEvent,
    QueryBalloon,
    ShutdownEvent,
    SystemPowerdown,
    VserportChangeEvent,
)

pytestmark = pytest.mark.qemu

MEMORY_MIB = 256
DISK_MIB = 16
START_TIMEOUT_S = 20


@attrs.frozen
class Machine:
    """A QEMU process with the booted tiny guest."""

    process: subprocess.Popen[bytes]
    qmp: QmpConnection
    console: GuestConsole
    agent_socket: Path


def command_line(guest: TinyGuest, disk: Path, directory: Path) -> list[str]:
    return [
        guest.qemu_binary,
        *("-nodefaults", "-no-user-config", "-display", "none", "-S"),
        *("-machine", "q35", "-accel", "tcg", "-cpu", "max", "-m", f"{MEMORY_MIB}"),
        *("-kernel", str(guest.kernel), "-initrd", str(guest.initrd)),
        *("-append", f"console=ttyS0 {guest.kernel_args}"),
        *("-qmp", f"unix:{directory / 'qmp'},server=off"),
        *("-serial", f"unix:{directory / 'serial'},server=on,wait=off"),
        *("-chardev", f"socket,id=agent,path={directory / 'agent'},server=on,wait=off"),
        *("-device", "virtio-serial-pci"),
        # QEMU sends VSERPORT_CHANGE only for a port with an id.
        *("-device", "virtserialport,id=agent0,chardev=agent,name=org.qemu.guest_agent.0"),
        *("-device", "virtio-balloon-pci,id=balloon0"),
        *("-blockdev", f"driver=raw,node-name=disk,file.driver=file,file.filename={disk}"),
        *("-device", "pcie-root-port,id=port0,slot=1"),
        *("-device", "virtio-blk-pci,id=disk0,drive=disk,bus=port0"),
    ]


@pytest.fixture(scope="module")
def machine(
    tiny_guest: TinyGuest, disk_image: MakeDiskImage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    directory = tmp_path_factory.mktemp("machine")
    disk = disk_image(size_mib=DISK_MIB)
    with socket.socket(socket.AF_UNIX) as listener:
        # QEMU connects to the test's socket, so nothing is polled. Its other sockets exist before the greeting.
        listener.bind(str(directory / "qmp"))
        listener.listen()
        listener.settimeout(START_TIMEOUT_S)
        with subprocess.Popen(command_line(tiny_guest, disk, directory)) as process:
            try:
                with (
                    QmpConnection.from_socket(listener.accept()[0]) as qmp,
                    GuestConsole(directory / "serial") as console,
                    qmp.subscribe(VserportChangeEvent, match=lambda event: event.open) as agent_starts,
                ):
                    qmp.execute(Cont())
                    console.wait_until_ready()
                    agent_starts.get(timeout=BOOT_TIMEOUT_S)
                    yield Machine(process, qmp, console, directory / "agent")
            finally:
                process.kill()


def test_shell_runs_command_on_serial_console(machine: Machine) -> None:
    assert machine.console.run("uname -s; cat /proc/1/comm") == "Linux\ninit"


def test_shell_accepts_long_line(machine: Machine) -> None:
    text = "x" * 400
    assert machine.console.run(f"echo {text}") == text


def test_console_run_raises_for_failed_command(machine: Machine) -> None:
    with pytest.raises(AssertionError, match="exits with 3"):
        machine.console.run("(exit 3)")


def test_guest_agent_replies(machine: Machine) -> None:
    with socket.socket(socket.AF_UNIX) as agent:
        agent.settimeout(ANSWER_TIMEOUT_S)
        agent.connect(str(machine.agent_socket))
        with agent.makefile("rb") as replies:
            # 0xff resets the agent's parser, possibly with an error reply. The reply starts with the same byte.
            agent.sendall(b'\xff{"execute": "guest-sync-delimited", "arguments": {"id": 4711}}\n')
            reply = next(line for line in replies if line.startswith(b"\xff"))
            assert json.loads(reply[1:]) == {"return": 4711}
            agent.sendall(b'{"execute": "guest-ping"}\n')
            assert json.loads(replies.readline()) == {"return": {}}


def test_balloon_takes_memory_from_guest(machine: Machine) -> None:
    target = (MEMORY_MIB - 96) << 20
    with machine.qmp.subscribe(BalloonChangeEvent) as changes:
        machine.qmp.execute(Balloon(value=target))
        changes.wait_for(lambda change: change.actual == target, timeout=ANSWER_TIMEOUT_S)
    assert machine.qmp.execute(QueryBalloon()).actual == target


def test_guest_releases_disk(machine: Machine) -> None:
    assert machine.console.run("cat /sys/block/vda/size") == str(DISK_MIB * 2048)
    # An earlier event for the virtio backend has no device id.
    with machine.qmp.subscribe(DeviceDeletedEvent, match=lambda event: event.device == "disk0") as deleted:
        machine.qmp.execute(DeviceDel(id="disk0"))
        deleted.get(timeout=ANSWER_TIMEOUT_S)
    assert machine.console.run("ls /sys/block | grep -c vda || true") == "0"


def test_guest_powers_off_at_power_button(machine: Machine) -> None:
    with machine.qmp.subscribe(ShutdownEvent) as shutdowns:
        machine.qmp.execute(SystemPowerdown())
        shutdown = shutdowns.get(timeout=ANSWER_TIMEOUT_S)
    assert (shutdown.guest, shutdown.reason) == (True, "guest-shutdown")
    assert machine.process.wait(timeout=ANSWER_TIMEOUT_S) == 0
    assert "GUEST-POWER-BUTTON" in machine.console.transcript
