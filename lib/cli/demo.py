# SPDX-License-Identifier: BSD-2-Clause
"""The demo: the life of a temporary instance on real QEMU, or on simulated QEMU if none is installed."""

from __future__ import annotations

import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs
import click

from hvkit.errors import HypervisorError
from hvkit.hypervisor import BaseHypervisor, Disk, Instance, get_hypervisor, get_hypervisor_class
from hvkit.qmp import QmpConnection
from hvkit.qmp.schema import Cont, QueryBlock, QueryCpusFast, QueryKvm, QueryStatus, ResumeEvent, ShutdownEvent
from hvkit.testing.simulator import write_executable
from hvkit.testing.toy_guest import GREETING, write_disk

NAME: Final = "demo"
MIB: Final = 1 << 20

#: Time limit for the guest to boot and to shut down, in seconds. It needs about 0.1 s on an idle node.
_GUEST_S: Final = 30.0
_EVENT_S: Final = 10.0

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@attrs.define
class Narrator:
    """Prints the steps and their results, with the time since the start of the demo."""

    _began: float = attrs.field(factory=time.monotonic)

    def step(self, code: str) -> None:
        """Print a line of Python before it is executed."""
        click.echo(click.style(f"{self._seconds()} >>> {code}", bold=True))

    def result(self, value: object) -> None:
        """Print a value as the Python prompt does."""
        click.echo(f"{'':7} {value if isinstance(value, str) else repr(value)}")

    def comment(self, text: str) -> None:
        """Print a comment on the next steps."""
        click.echo(f"\n{'':7} # {text}")

    def _seconds(self) -> str:
        return f"{time.monotonic() - self._began:5.2f} s"


def run_demo(qemu: str, *, simulated: bool) -> None:
    """Run the demo on a temporary instance. It is removed at the end, also after an error.

    Args:
        qemu: path of the QEMU program; empty if QEMU is not installed, to use the simulator.
        simulated: use the simulator even if QEMU is installed.

    Raises:
        HypervisorError: a step failed or had an unexpected result.
    """
    is_real = bool(qemu) and not simulated
    if is_real:
        click.echo(f"Running on {qemu}.")
    else:
        reason = "--simulated was given" if simulated else f"QEMU is not installed; to install it: {_qemu_remedy()}"
        click.echo(f"SIMULATED: running on a simulated QEMU without a guest. Reason: {reason}.")
    with _scratch_directory() as directory:
        if not is_real:
            qemu = str(write_executable(directory))
        disk = Disk(path=str(write_disk(directory / "disk.raw")))
        instance = Instance(name=NAME, memory_mib=64, vcpus=2, disks=(disk,), parameters={"kvm_path": qemu})
        hypervisor = get_hypervisor("kvm", run_dir=directory / "run")
        narrator = Narrator()
        narrator.step(f'kvm = get_hypervisor("kvm", run_dir="{hypervisor.run_dir}")')
        with _cleaned_up(hypervisor):
            _run_steps(narrator, hypervisor, instance, has_guest=is_real)
    click.echo("\nThe instance was removed, with its process, sockets and files.")


def _qemu_remedy() -> str:
    """Return the command that installs QEMU."""
    checks = get_hypervisor_class("kvm").get_node_checks(kvm_path="")
    return "; ".join(check.remedy for check in checks if check.verdict == "bad")


def _run_steps(narrator: Narrator, kvm: BaseHypervisor, instance: Instance, *, has_guest: bool) -> None:
    narrator.step('demo = Instance(name="demo", memory_mib=64, vcpus=2, disks=(disk,))')
    narrator.step("kvm.start_instance(demo, start_paused=True)")
    kvm.start_instance(instance, start_paused=True)
    narrator.step('kvm.get_instance_info("demo")')
    narrator.result(kvm.get_instance_info(NAME))
    narrator.step('with kvm.monitor("demo") as qmp:  # open until the instance was stopped')
    with kvm.monitor(NAME) as qmp:
        _query(narrator, qmp)
        _resume(narrator, kvm, qmp, has_guest=has_guest)
        _grow_disk(narrator, kvm, qmp, instance.disks[0])
        _stop(narrator, kvm, qmp)
    narrator.step('kvm.cleanup_instance("demo"); kvm.list_instances()')
    kvm.cleanup_instance(NAME)
    narrator.result(kvm.list_instances())


def _query(narrator: Narrator, qmp: QmpConnection) -> None:
    narrator.comment("Commands and replies are typed classes, known to type checkers.")
    narrator.step("qmp.version")
    narrator.result(qmp.version)
    narrator.step("qmp.execute(QueryStatus())")
    narrator.result(qmp.execute(QueryStatus()))
    narrator.step("qmp.execute(QueryKvm())")
    narrator.result(qmp.execute(QueryKvm()))
    narrator.step("[(cpu.cpu_index, cpu.thread_id) for cpu in qmp.execute(QueryCpusFast())]")
    narrator.result([(cpu.cpu_index, cpu.thread_id) for cpu in qmp.execute(QueryCpusFast())])


def _resume(narrator: Narrator, kvm: BaseHypervisor, qmp: QmpConnection, *, has_guest: bool) -> None:
    narrator.comment("Events are typed too. Subscribe before the command, so that no event is missed.")
    console = kvm.get_instance_console(NAME)
    with _connected(console.path) as serial, qmp.subscribe(ResumeEvent) as events:
        narrator.step("with qmp.subscribe(ResumeEvent) as events: qmp.execute(Cont()); events.get()")
        qmp.execute(Cont())
        event = events.get(timeout=_EVENT_S)
        narrator.result(f"{event!r} at {event.timestamp}")
        if has_guest:
            narrator.comment("The guest is running. Its serial console shows:")
            narrator.result(_read_greeting(serial))
    narrator.step('kvm.get_instance_info("demo").state')
    narrator.result(kvm.get_instance_info(NAME).state)


def _grow_disk(narrator: Narrator, kvm: BaseHypervisor, qmp: QmpConnection, disk: Disk) -> None:
    narrator.comment("Resize the disk of the running instance from 1 MiB to 8 MiB.")
    narrator.step("[block.inserted.image.virtual_size for block in qmp.execute(QueryBlock())]")
    narrator.result(_disk_sizes(qmp))
    narrator.step('kvm.resize_disk("demo", disk, 8 << 20)')
    kvm.resize_disk(NAME, disk, 8 * MIB)
    sizes = _disk_sizes(qmp)
    narrator.step("[block.inserted.image.virtual_size for block in qmp.execute(QueryBlock())]")
    narrator.result(sizes)
    if sizes != [8 * MIB]:
        raise HypervisorError(f"{NAME}: resize_disk: expected {8 * MIB} bytes, QEMU reports {sizes}")


def _disk_sizes(qmp: QmpConnection) -> list[int]:
    blocks = qmp.execute(QueryBlock())
    return [block.inserted.image.virtual_size for block in blocks if block.inserted]


def _stop(narrator: Narrator, kvm: BaseHypervisor, qmp: QmpConnection) -> None:
    narrator.comment("Stop gracefully: hvkit requests a shutdown by ACPI, and the guest shuts down.")
    with qmp.subscribe(ShutdownEvent) as events:
        narrator.step('kvm.stop_instance("demo", timeout=30)')
        kvm.stop_instance(NAME, timeout=_GUEST_S)
        event = events.get(timeout=_EVENT_S)
        narrator.step("events.get()")
        narrator.result(f"{event!r} at {event.timestamp}")
    info = kvm.get_instance_info(NAME)
    narrator.step('kvm.get_instance_info("demo")')
    narrator.result(info)
    if not info.state.is_over or not event.guest:
        raise HypervisorError(f"{NAME}: expected a shutdown by the guest; state {info.state.value}, event {event!r}")


@contextmanager
def _connected(path: str | None) -> Iterator[socket.socket]:
    """Connect to a serial console. Only the greeting is read, because the guest prints little more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as serial:
        serial.settimeout(_GUEST_S)
        try:
            serial.connect(path or "")
        except OSError as error:
            raise HypervisorError(f"{path}: {error.strerror}") from error
        yield serial


def _read_greeting(serial: socket.socket) -> str:
    deadline = time.monotonic() + _GUEST_S
    received = b""
    while GREETING.encode() not in received:
        serial.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            chunk = serial.recv(4096)
        except OSError as error:
            raise HypervisorError(
                f"{NAME}: no greeting on the serial console within {_GUEST_S:g} s: {error}"
            ) from error
        if not chunk:
            raise HypervisorError(f"{NAME}: the serial console was closed")
        received += chunk
    return GREETING


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block signals during the block. Pending signals are delivered after it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _scratch_directory() -> Iterator[Path]:
    """Create a private directory that is removed after the block."""
    directory = Path(tempfile.mkdtemp(prefix="hvkit-demo-"))
    try:
        yield directory
    finally:
        with _signals_blocked():
            shutil.rmtree(directory)


@contextmanager
def _cleaned_up(kvm: BaseHypervisor) -> Iterator[None]:
    """Stop and clean up all instances after the block, including one whose start was interrupted."""
    try:
        yield
    finally:
        with _signals_blocked():
            for name in kvm.list_instances():
                kvm.stop_instance(name, force=True)
                kvm.cleanup_instance(name)
