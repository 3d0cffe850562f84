# SPDX-License-Identifier: BSD-2-Clause
"""Tests of the description of consoles, and of the socket behind it."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from hvkit.hypervisor import ConsoleKind, Instance
from hvkit.hypervisor.kvm import KvmHypervisor

MakeInstance = Callable[..., Instance]


@pytest.mark.qemu
def test_serial_console_is_private_socket_and_outlives_clients(
    kvm: KvmHypervisor, make_toy: MakeInstance, guest_console: Callable[[str], object]
) -> None:
    kvm.start_instance(make_toy(), start_paused=True)
    console = kvm.get_instance_console("web1")
    assert (console.instance, console.kind) == ("web1", ConsoleKind.SERIAL)
    assert console.path is not None
    mode = Path(console.path).stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert console.command[0] == "socat"
    assert console.command[-1] == f"UNIX-CONNECT:{console.path}"
    guest_console(console.path)


def test_console_without_serial_port_is_message(
    kvm: KvmHypervisor, make_simulated: Callable[..., MakeInstance]
) -> None:
    kvm.start_instance(make_simulated()(parameters={"serial_console": False}))
    console = kvm.get_instance_console("web1")
    assert (console.kind, console.path) == (ConsoleKind.MESSAGE, None)
    assert "serial_console" in console.message


def test_console_of_unresponsive_instance_without_serial_port_is_message(
    kvm: KvmHypervisor, make_simulated: Callable[..., MakeInstance]
) -> None:
    kvm.start_instance(make_simulated()(parameters={"serial_console": False}))
    pid = kvm.get_instance_info("web1").pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    console = kvm.get_instance_console("web1")
    assert (console.kind, console.path) == (ConsoleKind.MESSAGE, None)
    assert console.message.startswith("cannot query the display: ")
    assert str(kvm.run_dir) not in console.message
