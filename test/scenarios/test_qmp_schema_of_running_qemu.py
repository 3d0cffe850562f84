# SPDX-License-Identifier: BSD-2-Clause
"""The schema against running QEMUs: their schemas and their replies.

The tests use the installed QEMU and those in HVKIT_QEMU_BINARIES (paths separated by colons).
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import attrs
import pytest

from hvkit.qmp import CommandError, QmpConnection, schema
from hvkit.qmp.base import Struct, members_of
from hvkit.qmp.converter import structure, unstructure
from tools.qapi.facts import read_facts
from tools.qapi.introspection import compare_with_reply

pytestmark = pytest.mark.qemu

INSTALLED = "installed"
MORE_BINARIES = [path for path in os.environ.get("HVKIT_QEMU_BINARIES", "").split(":") if path]

#: A machine with many devices: each line fills a reply that would otherwise be empty.
MACHINE = """
    -S -nodefaults -no-user-config -display none -accel tcg -M q35 -cpu max
    -smp 2,maxcpus=4 -m 128,slots=2,maxmem=512M
    -numa node,nodeid=0,memdev=ram0 -object memory-backend-ram,id=ram0,size=128M
    -object memory-backend-ram,id=ram1,size=64M -device pc-dimm,id=dimm1,memdev=ram1
    -object iothread,id=io0 -object rng-random,id=rng0,filename=/dev/urandom -object throttle-group,id=limits
    -object cryptodev-backend-builtin,id=crypto0
    -blockdev {{"driver":"qcow2","node-name":"disk0","file":{{"driver":"file","filename":"{disk}"}}}}
    -device virtio-blk-pci,id=vda,drive=disk0,iothread=io0
    -drive if=none,id=cd0,media=cdrom -device ide-cd,drive=cd0
    -netdev user,id=net0,hostfwd=tcp:127.0.0.1:0-:22 -device virtio-net-pci,netdev=net0
    -netdev hubport,id=hub0,hubid=0
    -device virtio-balloon-pci -device virtio-rng-pci,rng=rng0 -device virtio-crypto-pci,cryptodev=crypto0
    -device virtio-serial-pci -device usb-ehci -device usb-tablet -device VGA
    -chardev socket,id=serial0,path={directory}/serial,server=on,wait=off -serial chardev:serial0
    -chardev pty,id=pty0 -vnc unix:{directory}/vnc -name schema -uuid 3f0f2a1c-4b5d-4e6f-8a9b-0c1d2e3f4a5b
"""


@attrs.frozen
class Machine:
    """A paused QEMU: a connection, and its version in the facts."""

    connection: QmpConnection
    version: str


def start(binary: str, directory: Path) -> subprocess.Popen[bytes]:
    disk = directory / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "16M"], check=True)
    arguments = MACHINE.format(directory=directory, disk=disk).split()
    return subprocess.Popen([binary, *arguments, "-qmp", f"unix:{directory}/qmp,server=on,wait=on"])


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, "QEMU did not start"
        assert time.monotonic() < deadline, "QEMU did not create its monitor socket"
        time.sleep(0.01)


@pytest.fixture(scope="module", params=[INSTALLED, *MORE_BINARIES])
def machine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, unavailable: Callable[[str], NoReturn]
) -> Iterator[Machine]:
    binary = request.getfixturevalue("qemu_binary") if request.param == INSTALLED else request.param
    directory = tmp_path_factory.mktemp("schema")
    process = start(binary, directory)
    try:
        wait_for(directory / "qmp", process)
        with QmpConnection(directory / "qmp", timeout=60) as connection:
            version = f"{connection.version.major}.{connection.version.minor}"
            if version not in read_facts().versions:
                unavailable(f"the facts do not include QEMU {version}")
            yield Machine(connection, version)
            connection.execute("quit")
        process.wait(30)
    finally:
        process.kill()
        process.wait()


def unknown_members(value: Any, where: str = "") -> Iterator[str]:
    if isinstance(value, Struct):
        yield from (f"{where}.{name}" for name in value.unknown)
        for name in members_of(type(value)):
            yield from unknown_members(getattr(value, name), f"{where}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from unknown_members(item, f"{where}[]")


def test_facts_agree_with_the_schema_of_a_running_qemu(machine: Machine) -> None:
    reply = machine.connection.execute("query-qmp-schema")
    report = compare_with_reply(read_facts().as_of(machine.version), reply)
    assert report.compared > 250
    assert report.differences == ()
    assert report.unnamed == ()


def test_query_replies_match_their_types_and_survive_a_round_trip(machine: Machine) -> None:
    facts = read_facts().as_of(machine.version)
    names = [each["name"] for each in machine.connection.execute("query-commands")]
    answered: list[str] = []
    unknown: list[str] = []
    changed: list[str] = []
    for name in sorted(names):
        arguments = facts[name].members.values()
        if "query-" not in name or facts[name].data or not all(argument.is_optional for argument in arguments):
            continue
        try:
            reply = machine.connection.execute(name)
        except CommandError:  # this machine lacks the subject of the query
            continue
        answered.append(name)
        typed = structure(reply, schema.command(name).reply_type, where=name)
        unknown += unknown_members(typed, name)
        if unstructure(typed) != reply:
            changed.append(name)
    assert len(answered) >= 60
    assert unknown == []
    assert changed == []


def test_schema_has_a_class_for_every_command_and_event(machine: Machine) -> None:
    entities = machine.connection.execute("query-qmp-schema")
    names = {kind: {each["name"] for each in entities if each["meta-type"] == kind} for kind in ("command", "event")}
    assert names["command"] <= set(schema.commands())
    assert names["event"] <= set(schema.events())
