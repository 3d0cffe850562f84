# SPDX-License-Identifier: BSD-2-Clause
"""The simulated QEMU compared with real QEMU, command by command.

A reply of the simulator may have fewer members than QEMU's, but every member it has must exist in QEMU's reply with
the same type. Errors must have the same class and text. Events must have the same names, order and data.
"""

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
import pytest

from hvkit.testing.simulator import write_executable

pytestmark = pytest.mark.qemu

MIB = 1 << 20
UUID = "6f6b3a50-0000-4000-8000-000000000001"


@attrs.frozen
class Step:
    """A command, and the event to wait for after it."""

    name: str
    arguments: dict[str, Any] = attrs.field(factory=dict)
    until: str = ""


@attrs.define
class Answer:
    """The messages received for one step."""

    reply: dict[str, Any] = attrs.field(factory=dict)
    events: list[dict[str, Any]] = attrs.field(factory=list)


def play(binary: str, arguments: Iterable[str], steps: Iterable[Step]) -> tuple[list[Answer], int]:
    """Run a machine through the steps until it exits; return the answers and the exit status."""
    argv = [binary, "-S", "-nodefaults", "-no-user-config", "-display", "none", "-qmp", "stdio", *arguments]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            greeting = json.loads(process.stdout.readline())
            answers = [Answer(greeting)]
            for step in steps:
                request: dict[str, Any] = {"execute": step.name, "id": len(answers)}
                if step.arguments:
                    request["arguments"] = step.arguments
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
                answers.append(read_answer(process.stdout, step.until))
            rest = [json.loads(line) for line in process.stdout]
            answers.append(Answer(events=rest))
            return answers, process.wait(20)
        finally:
            process.kill()


def read_answer(lines: Iterable[bytes], until: str) -> Answer:
    answer = Answer()
    for line in lines:
        assert line.endswith(b"\r\n")
        message = json.loads(line)
        if "event" in message:
            answer.events.append(message)
        else:
            answer.reply = message
        if answer.reply and (not until or any(event["event"] == until for event in answer.events)):
            break
    return answer


def differences(simulated: Any, real: Any, path: str = "") -> list[str]:
    """List the members of the simulated reply that the real reply lacks or has with another type."""
    if isinstance(simulated, dict) and isinstance(real, dict):
        found = [f"{path}.{key}: not in QEMU's reply" for key in simulated.keys() - real.keys()]
        for key in simulated.keys() & real.keys():
            found += differences(simulated[key], real[key], f"{path}.{key}")
        return found
    if isinstance(simulated, list) and isinstance(real, list):
        if real and isinstance(real[0], dict):  # elements may have different optional members
            merged = {key: item for element in real for key, item in element.items()}
            return [line for element in simulated for line in differences(element, merged, f"{path}[]")]
        return []
    if type(simulated) is not type(real):
        return [f"{path}: {simulated!r} is not of the type of {real!r}"]
    return []


def compare(step: Step, simulated: Answer, real: Answer) -> list[str]:
    where = f"{step.name} {json.dumps(step.arguments)}"
    if simulated.reply.get("error") != real.reply.get("error"):
        return [f"{where}: {simulated.reply} instead of {real.reply}"]
    found = differences(simulated.reply, real.reply, where)
    names = [[event["event"] for event in answer.events] for answer in (simulated, real)]
    if names[0] != names[1]:
        return [*found, f"{where}: events {names[0]} instead of {names[1]}"]
    for one, other in zip(simulated.events, real.events, strict=True):
        if one.get("data") != other.get("data"):
            found.append(f"{where}: event {one} instead of {other}")
    return found


def assert_replies_match(
    qemu: str, directory: Path, arguments: Iterable[str], steps: list[Step], *, exit_status: int = 0
) -> None:
    arguments = list(arguments)
    real, real_status = play(qemu, arguments, steps)
    version = real[0].reply["QMP"]["version"]["qemu"]
    simulator = write_executable(directory, version=(version["major"], version["minor"], version["micro"]))
    simulated, simulated_status = play(str(simulator), arguments, steps)
    found = []
    for step, one, other in zip([Step("greeting"), *steps, Step("end")], simulated, real, strict=True):
        found += compare(step, one, other)
    assert not found, "\n".join(found)
    assert simulated_status == real_status == exit_status


QUIT = Step("quit")
NEGOTIATE = Step("qmp_capabilities")


def disk(path: Path) -> list[str]:
    path.write_bytes(b"\0" * MIB)
    return [
        *("-blockdev", json.dumps({"driver": "file", "node-name": "f0", "filename": str(path)})),
        *("-blockdev", '{"driver":"raw","node-name":"d0","file":"f0"}'),
        *("-device", '{"driver":"virtio-blk-pci","id":"disk0","drive":"d0","bus":"pcie.0","addr":"0x5"}'),
    ]


def test_negotiation_matches_qemu(qemu_binary: str, tmp_path: Path) -> None:
    steps = [
        Step("query-status"),
        NEGOTIATE,
        NEGOTIATE,
        Step("nope"),
        Step("query-status", {"nope": 1}),
        Step("device_del"),
        Step("device_del", {"id": 5}),
        QUIT,
    ]
    assert_replies_match(qemu_binary, tmp_path, ["-M", "q35"], steps)


def test_queries_match_qemu(qemu_binary: str, tmp_path: Path) -> None:
    arguments = [
        *("-M", "q35", "-m", "64", "-smp", "2", "-name", "web1", "-uuid", UUID),
        *disk(tmp_path / "disk.raw"),
        *("-device", '{"driver":"virtio-balloon-pci","id":"balloon0"}'),
        *("-object", '{"qom-type":"iothread","id":"io0"}'),
    ]
    names = (
        *("query-status", "query-name", "query-uuid", "query-version", "query-kvm", "query-target", "query-commands"),
        *("query-machines", "query-current-machine", "query-cpu-definitions", "query-cpus-fast", "query-block"),
        *(
            "query-hotpluggable-cpus",
            "query-memory-size-summary",
            "query-balloon",
            "query-named-block-nodes",
            "query-fdsets",
        ),
        *("query-pci", "query-chardev", "query-iothreads", "query-migrate", "query-jobs"),
    )
    steps = [NEGOTIATE, *map(Step, names), Step("qom-list", {"path": "/machine/peripheral"})]
    steps += [Step("qom-get", {"path": "/machine", "property": "type"}), Step("qom-list", {"path": "/nope"})]
    steps += [Step("qom-list-types", {"implements": "device", "abstract": False}), QUIT]
    assert_replies_match(qemu_binary, tmp_path, arguments, steps)


def test_run_states_match_qemu(qemu_binary: str, tmp_path: Path) -> None:
    steps = [
        NEGOTIATE,
        *(Step("cont"), Step("cont"), Step("stop"), Step("stop"), Step("query-status")),
        *(Step("system_reset", until="RESET"), Step("query-status"), Step("cont"), Step("query-status"), Step("stop")),
        *(Step("system_powerdown", until="POWERDOWN"), Step("query-status"), Step("query-balloon")),
        Step("balloon", {"value": MIB}),
        QUIT,
    ]
    assert_replies_match(qemu_binary, tmp_path, ["-M", "q35", "-m", "64"], steps)


def test_reset_with_no_reboot_matches_qemu(qemu_binary: str, tmp_path: Path) -> None:
    steps = [NEGOTIATE, Step("system_reset", until="SHUTDOWN")]
    assert_replies_match(qemu_binary, tmp_path, ["-M", "q35", "-m", "64", "-no-reboot"], steps)


def test_block_nodes_match_qemu(qemu_binary: str, tmp_path: Path) -> None:
    spare = tmp_path / "spare.raw"
    spare.write_bytes(b"\0" * MIB)
    add = "blockdev-add"
    steps = [
        NEGOTIATE,
        Step(add, {"driver": "file", "node-name": "f1", "filename": "/nope"}),
        Step(add, {"driver": "file", "filename": str(spare)}),
        Step(add, {"driver": "file", "node-name": "f1"}),
        Step(add, {"driver": "file", "node-name": "-f", "filename": str(spare)}),
        Step(add, {"driver": "file", "node-name": "f" * 32, "filename": str(spare)}),
        Step(add, {"driver": "file", "node-name": "f1", "filename": str(spare)}),
        Step(add, {"driver": "file", "node-name": "f1", "filename": str(spare)}),
        Step(add, {"driver": "qcow2", "node-name": "d1", "file": "f1"}),
        Step(add, {"driver": "raw", "node-name": "d1", "file": "nope"}),
        Step(add, {"driver": "nope", "node-name": "d1"}),
        Step(add, {"driver": "raw", "node-name": "d1", "file": "f1", "nope": 1}),
        Step(add, {"driver": "raw", "node-name": "d1", "file": {"driver": "file", "filename": str(spare), "nope": 1}}),
        Step(add, {"driver": "raw", "node-name": "d1", "file": "f1"}),
        Step("blockdev-del", {"node-name": "f1"}),
        Step("blockdev-del", {"node-name": "d0"}),
        Step("blockdev-del", {"node-name": "nope"}),
        Step("block_resize", {"node-name": "d0", "size": 2 * MIB}),
        Step("block_resize", {"node-name": "nope", "size": 2 * MIB}),
        Step("query-block"),
        Step("blockdev-del", {"node-name": "d1"}),
        Step("blockdev-del", {"node-name": "f1"}),
        QUIT,
    ]
    assert_replies_match(qemu_binary, tmp_path, ["-M", "q35", "-m", "64", *disk(tmp_path / "disk.raw")], steps)


def test_disk_limits_match_qemu(qemu_binary: str, tmp_path: Path) -> None:
    limit, none = "block_set_io_throttle", dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0)
    disk0 = {"id": "/machine/peripheral/disk0/virtio-backend", **none}
    steps = [
        NEGOTIATE,
        Step(limit, {**disk0, "bps": MIB, "bps_max": 2 * MIB, "bps_max_length": 5, "iops_wr": 50}),
        Step("query-block"),
        Step(limit, {**disk0, "bps": MIB, "bps_rd": MIB}),
        Step(limit, {**disk0, "iops": 5, "iops_wr": 5}),
        Step(limit, {**none, "id": "nope", "bps": MIB}),
        Step(limit, disk0),
        Step("query-block"),
        QUIT,
    ]
    assert_replies_match(qemu_binary, tmp_path, ["-M", "q35", "-m", "64", *disk(tmp_path / "disk.raw")], steps)


@pytest.mark.parametrize("driver", ["ide-cd", "scsi-cd"])
def test_removable_media_match_qemu(qemu_binary: str, tmp_path: Path, driver: str) -> None:
    arguments = [
        *("-M", "q35", "-m", "64", "-device", '{"driver":"virtio-scsi-pci","id":"scsi0"}'),
        *("-device", json.dumps({"driver": driver, "id": "cd0"})),
        *disk(tmp_path / "disk.raw"),
    ]
    open_tray, close_tray = "blockdev-open-tray", "blockdev-close-tray"
    remove, insert = "blockdev-remove-medium", "blockdev-insert-medium"
    steps = [NEGOTIATE, Step("query-block")]
    for number in (1, 2):
        path = tmp_path / f"{number}.iso"
        path.write_bytes(b"\0" * MIB)
        file = {"driver": "file", "filename": str(path), "read-only": True}
        raw = {"driver": "raw", "node-name": f"m{number}", "file": file, "read-only": True}
        steps.append(Step("blockdev-add", raw))
    steps += [
        Step(insert, {"id": "cd0", "node-name": "m1"}),
        Step(remove, {"id": "cd0"}),
        Step(open_tray, {"id": "cd0"}),
        Step(open_tray, {"id": "cd0"}),
        Step(remove, {"id": "cd0"}),
        Step(insert, {"id": "cd0", "node-name": "nope"}),
        Step(insert, {"id": "cd0", "node-name": "m1"}),
        Step(insert, {"id": "cd0", "node-name": "m2"}),
        Step(close_tray, {"id": "cd0"}),
        Step(close_tray, {"id": "cd0"}),
        Step("query-block"),
        Step("blockdev-del", {"node-name": "m1"}),
        Step(open_tray, {"id": "cd0"}),
        Step(remove, {"id": "cd0"}),
        Step("blockdev-del", {"node-name": "m1"}),
        Step(open_tray, {"id": "nope"}),
        Step(open_tray, {"id": "disk0"}),
        Step(insert, {"id": "disk0", "node-name": "m2"}),
        QUIT,
    ]
    assert_replies_match(qemu_binary, tmp_path, arguments, steps)


def test_devices_match_qemu(qemu_binary: str, tmp_path: Path) -> None:
    arguments = [
        *("-M", "q35", "-m", "64", "-device", '{"driver":"pcie-root-port","id":"rp0","bus":"pcie.0"}'),
        *("-device", '{"driver":"virtio-scsi-pci","id":"scsi0"}'),
        *disk(tmp_path / "disk.raw"),
    ]
    plug, unplug = "device_add", "device_del"
    spare = tmp_path / "spare.raw"
    spare.write_bytes(b"\0" * MIB)
    steps = [
        NEGOTIATE,
        Step(plug, {"driver": "nope", "id": "r"}),
        Step(plug, {"driver": "virtio-rng-pci", "id": "r"}),
        Step(plug, {"driver": "virtio-rng-pci", "id": "r", "bus": "nope"}),
        Step(plug, {"driver": "virtio-rng-pci", "id": "r", "bus": "scsi0.0"}),
        Step(plug, {"driver": "virtio-net-pci", "id": "n", "netdev": "nope", "bus": "rp0"}),
        Step("netdev_add", {"type": "user", "id": "net0"}),
        Step("netdev_add", {"type": "user", "id": "net0"}),
        Step("netdev_add", {"type": "nope", "id": "net1"}),
        Step(plug, {"driver": "virtio-net-pci", "id": "n", "netdev": "net0", "bus": "rp0", "addr": "0x0"}),
        Step(plug, {"driver": "virtio-net-pci", "id": "n", "bus": "rp0"}),
        Step(unplug, {"id": "nope"}),
        Step(unplug, {"id": "n"}),
        Step("query-status"),
        Step("blockdev-add", {"driver": "file", "node-name": "f1", "filename": str(spare)}),
        Step(plug, {"driver": "scsi-hd", "id": "sd", "drive": "f1", "bus": "scsi0.0", "scsi-id": 1}),
        Step("blockdev-del", {"node-name": "f1"}),
        Step(unplug, {"id": "sd"}, until="DEVICE_DELETED"),
        Step("blockdev-del", {"node-name": "f1"}),
        Step("netdev_del", {"id": "net0"}),
        Step("netdev_del", {"id": "net0"}),
        Step("object-add", {"qom-type": "iothread", "id": "io0"}),
        Step("object-add", {"qom-type": "iothread", "id": "io0"}),
        Step("object-del", {"id": "io0"}),
        Step("object-del", {"id": "io0"}),
        QUIT,
    ]
    assert_replies_match(qemu_binary, tmp_path, arguments, steps)


def test_unplug_completed_by_reset_matches_qemu(qemu_binary: str, tmp_path: Path) -> None:
    arguments = [
        *("-M", "q35", "-m", "64", "-device", '{"driver":"pcie-root-port","id":"rp0","bus":"pcie.0"}'),
        *("-device", '{"driver":"virtio-rng-pci","id":"rng0","bus":"rp0"}'),
    ]
    steps = [NEGOTIATE, Step("device_del", {"id": "rng0"}), Step("system_reset", until="DEVICE_DELETED"), QUIT]
    assert_replies_match(qemu_binary, tmp_path, arguments, steps)


INVALID_OPTIONS = [
    ["-nope"],
    ["-m"],
    ["-M", "nope"],
    ["-uuid", "nope"],
    ["-accel", "nope"],
    ["-kernel", "/nope"],
    ["-device", "nope"],
    ["-device", '{"driver":"virtio-rng-pci","bus":"nope"}'],
    ["-device", '{"driver":"virtio-net-pci","netdev":"nope"}'],
    ["-device", '{"driver":"virtio-blk-pci","drive":"nope"}'],
    ["-device", '{"driver":"virtio-rng-pci","id":"a","addr":"5"}', "-device", '{"driver":"virtio-rng-pci","addr":"5"}'],
    ["-blockdev", '{"driver":"file","node-name":"f","filename":"/nope"}'],
    ["-blockdev", '{"driver":"file","node-name":"f"}'],
    ["-blockdev", '{"driver":"raw","node-name":"r","file":"nope"}'],
    ["-netdev", '{"type":"user","id":"n","nope":1}'],
    ["-netdev", '{"type":"nope","id":"n"}'],
    ["-netdev", '{"type":"tap","id":"n","fd":"77"}'],
    ["-chardev", "socket,id=c,path=/nope/socket,server=on,wait=off"],
    ["-chardev", "socket,id=c,fd=77,server=on,wait=off"],
    ["-mon", "chardev=nope,mode=control"],
    ["-pidfile", "/nope/pid"],
]


@pytest.fixture(scope="module")
def is_modelled_version(qemu_binary: str) -> bool:
    """Whether the installed QEMU has the version whose messages the simulator copies."""
    results = subprocess.run([qemu_binary, "--version"], capture_output=True, text=True, timeout=20, check=True)
    return " version 7.2." in results.stdout


@pytest.mark.parametrize("arguments", INVALID_OPTIONS, ids=lambda arguments: " ".join(arguments))
def test_startup_errors_match_qemu(
    qemu_binary: str, is_modelled_version: bool, tmp_path: Path, arguments: list[str]
) -> None:
    machine = [] if "-M" in arguments else ["-M", "q35"]
    results = []
    for binary in (str(write_executable(tmp_path)), qemu_binary):
        argv = [binary, *machine, "-S", "-nodefaults", "-display", "none", *arguments]
        ended = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False)
        program, _, message = ended.stderr.partition(": ")
        assert program
        results.append((ended.returncode, message if is_modelled_version else bool(message)))
    assert results[0] == results[1]
