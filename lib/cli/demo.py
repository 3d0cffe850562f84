# SPDX-License-Identifier: BSD-2-Clause
"""The story of the README, played with a real machine, or with a simulated one where there is no QEMU."""

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

from hvkit.cli.doctor import INSTALL_QEMU
from hvkit.errors import HypervisorError
from hvkit.hypervisor import BaseHypervisor, Disk, Instance, get_hypervisor
from hvkit.qmp import QmpConnection
from hvkit.qmp.schema import Cont, QueryBlock, QueryCpusFast, QueryKvm, QueryStatus, ResumeEvent, ShutdownEvent
from hvkit.testing.simulator import write_executable
from hvkit.testing.toy_guest import GREETING, write_disk

NAME: Final = "demo"
MIB: Final = 1 << 20

#: Seconds that the guest has to boot, and to obey its power button. It takes a tenth of one, unless the node is busy.
_GUEST_S: Final = 30.0
_EVENT_S: Final = 10.0

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@attrs.define
class Narrator:
    """Tells what is done, and what came of it, with the seconds since the beginning."""

    _began: float = attrs.field(factory=time.monotonic)

    def does(self, code: str) -> None:
        """Show a line of Python that is about to be run."""
        click.echo(click.style(f"{self._seconds()} >>> {code}", bold=True))

    def sees(self, value: object) -> None:
        """Show a value, as Python would."""
        click.echo(f"{'':7} {value if isinstance(value, str) else repr(value)}")

    def explains(self, text: str) -> None:
        """Say what comes next."""
        click.echo(f"\n{'':7} # {text}")

    def _seconds(self) -> str:
        return f"{time.monotonic() - self._began:5.2f} s"


def run_demo(qemu: str, *, simulated: bool) -> None:
    """Play the story on a machine of its own, which is gone afterwards, whatever happens.

    Args:
        qemu: the QEMU to use; empty where there is none, which has the simulator play.
        simulated: use the simulator even where there is QEMU.

    Raises:
        HypervisorError: something did not go as the story says.
    """
    is_real = bool(qemu) and not simulated
    if is_real:
        click.echo(f"A real machine, run by {qemu}.")
    else:
        why = "because you asked for it" if simulated else f"because there is no QEMU; to have one: {INSTALL_QEMU}"
        click.echo(f"SIMULATED: a program that only speaks like QEMU, {why}.")
    with _scratch_directory() as directory:
        if not is_real:
            qemu = str(write_executable(directory))
        disk = Disk(path=str(write_disk(directory / "disk.raw")))
        instance = Instance(name=NAME, memory_mib=64, vcpus=2, disks=(disk,), parameters={"kvm_path": qemu})
        hypervisor = get_hypervisor("kvm", run_dir=directory / "run")
        narrator = Narrator()
        narrator.does(f'kvm = get_hypervisor("kvm", run_dir="{hypervisor.run_dir}")')
        with _nothing_left(hypervisor):
            _live(narrator, hypervisor, instance, has_guest=is_real)
    click.echo("\nNothing is left of it: no process, no socket, no file.")


def _live(narrator: Narrator, kvm: BaseHypervisor, instance: Instance, *, has_guest: bool) -> None:
    narrator.does("kvm.start_instance(demo, start_paused=True)")
    kvm.start_instance(instance, start_paused=True)
    narrator.does('kvm.get_instance_info("demo")')
    narrator.sees(kvm.get_instance_info(NAME))
    with kvm.monitor(NAME) as qmp:
        _ask(narrator, qmp)
        _resume(narrator, kvm, qmp, has_guest=has_guest)
        _grow_disk(narrator, kvm, qmp, instance.disks[0])
        _stop(narrator, kvm, qmp)
    narrator.does('kvm.cleanup_instance("demo"); kvm.list_instances()')
    kvm.cleanup_instance(NAME)
    narrator.sees(kvm.list_instances())


def _ask(narrator: Narrator, qmp: QmpConnection) -> None:
    narrator.explains("Questions are values, and so are the answers; a type checker knows both.")
    narrator.does("qmp.version")
    narrator.sees(qmp.version)
    narrator.does("qmp.execute(QueryStatus())")
    narrator.sees(qmp.execute(QueryStatus()))
    narrator.does("qmp.execute(QueryKvm())")
    narrator.sees(qmp.execute(QueryKvm()))
    narrator.does("[(cpu.cpu_index, cpu.thread_id) for cpu in qmp.execute(QueryCpusFast())]")
    narrator.sees([(cpu.cpu_index, cpu.thread_id) for cpu in qmp.execute(QueryCpusFast())])


def _resume(narrator: Narrator, kvm: BaseHypervisor, qmp: QmpConnection, *, has_guest: bool) -> None:
    narrator.explains("Events are values too. Whoever subscribes first misses none.")
    console = kvm.get_instance_console(NAME)
    with _connected(console.path) as serial, qmp.subscribe(ResumeEvent) as events:
        narrator.does("with qmp.subscribe(ResumeEvent) as events: qmp.execute(Cont()); events.get()")
        qmp.execute(Cont())
        event = events.get(timeout=_EVENT_S)
        narrator.sees(f"{event!r} at {event.timestamp}")
        if has_guest:
            narrator.explains("The guest runs. On its serial console it says:")
            narrator.sees(_read_greeting(serial))
    narrator.does('kvm.get_instance_info("demo").state')
    narrator.sees(kvm.get_instance_info(NAME).state)


def _grow_disk(narrator: Narrator, kvm: BaseHypervisor, qmp: QmpConnection, disk: Disk) -> None:
    narrator.explains("While it runs, its disk grows to eight times its size.")
    narrator.does("[block.inserted.image.virtual_size for block in qmp.execute(QueryBlock())]")
    narrator.sees(_disk_sizes(qmp))
    narrator.does('kvm.resize_disk("demo", disk, 8 << 20)')
    kvm.resize_disk(NAME, disk, 8 * MIB)
    sizes = _disk_sizes(qmp)
    narrator.does("[block.inserted.image.virtual_size for block in qmp.execute(QueryBlock())]")
    narrator.sees(sizes)
    if sizes != [8 * MIB]:
        raise HypervisorError(f"the disk should have {8 * MIB} bytes now; QEMU says {sizes}")


def _disk_sizes(qmp: QmpConnection) -> list[int]:
    blocks = qmp.execute(QueryBlock())
    return [block.inserted.image.virtual_size for block in blocks if block.inserted]


def _stop(narrator: Narrator, kvm: BaseHypervisor, qmp: QmpConnection) -> None:
    narrator.explains("Stopping presses the power button; the guest obeys, and QEMU says so.")
    with qmp.subscribe(ShutdownEvent) as events:
        narrator.does('kvm.stop_instance("demo", timeout=30)')
        kvm.stop_instance(NAME, timeout=_GUEST_S)
        event = events.get(timeout=_EVENT_S)
        narrator.does("events.get()")
        narrator.sees(f"{event!r} at {event.timestamp}")
    info = kvm.get_instance_info(NAME)
    narrator.does('kvm.get_instance_info("demo")')
    narrator.sees(info)
    if not info.state.is_over or not event.guest:
        raise HypervisorError(f"the guest should have shut down; it is {info.state.value}: {event!r}")


@contextmanager
def _connected(path: str | None) -> Iterator[socket.socket]:
    """Connect to a console. It is read to the end of the greeting only: the guest says little more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as serial:
        serial.settimeout(_GUEST_S)
        try:
            serial.connect(path or "")
        except OSError as error:
            raise HypervisorError(f"{path}: {error.strerror}") from error
        yield serial


def _read_greeting(serial: socket.socket) -> str:
    deadline = time.monotonic() + _GUEST_S
    heard = b""
    while GREETING.encode() not in heard:
        serial.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            chunk = serial.recv(4096)
        except OSError as error:
            raise HypervisorError(f"the guest did not greet within {_GUEST_S:g} s: {error}") from error
        if not chunk:
            raise HypervisorError("the guest's console was closed")
        heard += chunk
    return GREETING


# ---- whatever happens


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Let no signal disturb the block; those that come are delivered after it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _scratch_directory() -> Iterator[Path]:
    """A directory that only this user may enter, and that is gone after the block."""
    directory = Path(tempfile.mkdtemp(prefix="hvkit-demo-"))
    try:
        yield directory
    finally:
        with _signals_wait():
            shutil.rmtree(directory)


@contextmanager
def _nothing_left(kvm: BaseHypervisor) -> Iterator[None]:
    """End every instance after the block, also one whose start was interrupted."""
    try:
        yield
    finally:
        with _signals_wait():
            for name in kvm.list_instances():
                kvm.stop_instance(name, force=True)
                kvm.cleanup_instance(name)
