# SPDX-License-Identifier: BSD-2-Clause
"""Command lines compared with recorded ones, one feature at a time, for each chipset and each version of QEMU.

``data/command-lines/TOPIC.txt`` has a part for each feature of a topic, with a section for each distinct command line.
A command line that is the same for several chipsets and versions is recorded once. The plain machine is recorded in
full; the others as the options that are removed (-) and added (+).

With HVKIT_RECORD=1 the test records changed command lines and fails: review the difference, and run it again without.
"""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

import machine_features
from hvkit.hypervisor.kvm.plan.capabilities import Capabilities, KvmHost
from hvkit.hypervisor.kvm.plan.command_line import build_argv
from hvkit.hypervisor.kvm.plan.devices import TapFiles
from hvkit.hypervisor.kvm.plan.parameters import TABLE
from hvkit.hypervisor.kvm.plan.resources import MachineSockets
from machine_features import BOARDS, FEATURES, VERSIONS, Feature, FeatureNode, Planner, plan_feature

RECORDED: Final = Path(machine_features.__file__).parent / "data" / "command-lines"
RECORDING: Final = os.environ.get("HVKIT_RECORD") == "1"

#: The directory of all files and the first descriptor in recorded command lines. Commas and blanks test the escaping.
RECORDED_DIR: Final = "/srv/a,b c"
RECORDED_FD: Final = 7

Recorded = Callable[[str], Capabilities]

#: Parameters that are not on the command line, or that a feature has a member for.
ELSEWHERE: Final = {
    "kvm_path": "the program itself",
    "kvm_flag": "`Feature.kvm_flag`",
    "machine_version": "each chipset",
    "firmware": "`Feature.firmware`",
    "cpu_mask": "set before the guest runs",
    "io_thread_mask": "set before the guest runs",
    "network_script": "run by hvkit",
    "vhost_net": "`Feature.has_vhost`",
    "vnet_hdr": "an option of the tap",
    "user_shutdown": "affects the reported state only",
    "sandbox": "`Feature.confinement`",
    "security_model": "`Feature.confinement`",
    "security_domain": "`Feature.confinement`",
    "security_pool": "`Feature.confinement`",
    "use_chroot": "`Feature.confinement`",
    **{name: "set over QMP at a migration" for name in TABLE if name.startswith("migration_")},
}


def _argv(plan: Planner, program: Capabilities, board: str, feature: Feature) -> list[str]:
    """Return the command line of a feature, with names that do not depend on the node."""
    sockets = MachineSockets(
        control=f"{RECORDED_DIR}/control",
        shared=f"{RECORDED_DIR}/shared",
        watch=f"{RECORDED_DIR}/watch",
        serial=f"{RECORDED_DIR}/serial",
        serial_log=f"{RECORDED_DIR}/serial.log",
        agent=f"{RECORDED_DIR}/agent",
        tpm=RECORDED_FD,
        vsock=RECORDED_FD,
        pid_file=f"{RECORDED_DIR}/pid" if feature.opens_by_name else "",
    )
    queues = tuple(str(RECORDED_FD + number) for number in range(feature.queues))
    vhosts = tuple(str(RECORDED_FD + feature.queues + number) for number in range(feature.queues))
    node = FeatureNode(
        directory=RECORDED_DIR,
        host=KvmHost(),
        sockets=sockets,
        taps={
            nic.uuid: TapFiles(queues=queues, vhosts=vhosts if feature.has_vhost else ())
            for nic in feature.nics or ()
            if nic.has_tap
        },
        descriptors={f"{RECORDED_DIR}/disk.img": (RECORDED_FD, RECORDED_FD + 1)},
    )
    made = plan_feature(plan, program, board, feature, node)
    version = ".".join(map(str, program.version[:2]))
    # The version of the machine type is that of the program, and would differ in every section.
    return [word.replace(made.machine.name, made.machine.name.replace(version, "VERSION")) for word in build_argv(made)]


def _options(argv: list[str]) -> list[str]:
    """Return one line for each option of a command line, quoted for a shell."""
    lines: list[list[str]] = [[]]
    for word in argv:
        if word.startswith("-"):
            lines.append([])
        lines[-1].append(word)
    return [shlex.join(line) for line in lines]


def _difference(plain: list[str], other: list[str]) -> list[str]:
    changes = list(difflib.unified_diff(plain, other, n=0, lineterm=""))[2:]
    return [f"{change[0]} {change[1:]}" for change in changes if change[0] in "+-"]


def _sections(plan: Planner, recorded: Recorded, name: str, feature: Feature) -> Iterator[str]:
    """Yield a section for each distinct command line of a feature, with the chipsets and versions that have it."""
    found: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for board in BOARDS:
        for version in VERSIONS:
            lines = _options(_argv(plan, recorded(version), board, feature))
            if name != "plain":
                plain = _options(_argv(plan, recorded(version), board, FEATURES["plain"]["plain"]))
                lines = _difference(plain, lines)
            found.setdefault(tuple(lines), []).append((board, version))
    for lines_, places in found.items():
        boards = {
            board: ", ".join(version for version in VERSIONS if (board, version) in places)
            for board in BOARDS
            if any(place[0] == board for place in places)
        }
        yield "\n".join([f"-- {'; '.join(f'{board} {versions}' for board, versions in boards.items())}", *lines_, ""])


def _render(plan: Planner, recorded: Recorded, topic: str) -> str:
    """Return the text to record for a topic."""
    parts = [
        "\n".join([f"== {name}", *_sections(plan, recorded, name, feature)])
        for name, feature in FEATURES[topic].items()
    ]
    return "\n".join(parts)


@pytest.mark.parametrize("topic", FEATURES)
def test_command_lines_match_the_recorded_ones(plan: Planner, recorded: Recorded, topic: str) -> None:
    file = RECORDED / f"{topic}.txt"
    now = _render(plan, recorded, topic)
    before = file.read_text() if file.exists() else ""
    if RECORDING and now != before:
        file.write_text(now)
        pytest.fail(f"{file.name} was recorded again: review the difference, and run again without HVKIT_RECORD")
    assert now.splitlines() == before.splitlines()


def test_every_recorded_file_belongs_to_a_topic() -> None:
    assert {path.stem for path in RECORDED.iterdir()} == set(FEATURES)


@pytest.mark.parametrize("name", sorted(set(TABLE) - set(ELSEWHERE)))
def test_every_parameter_of_the_command_line_has_a_feature(name: str) -> None:
    features = [feature for topic in FEATURES.values() for feature in topic.values()]
    values = [feature.parameters[name] for feature in features if name in feature.parameters]
    assert any(value != TABLE[name].default for value in values)


def test_listening_descriptor_replaces_the_path(plan: Planner) -> None:
    argv = build_argv(plan(sockets=MachineSockets(control=5, shared=6, watch=7, serial=8)))
    assert "socket,id=control,fd=5,server=on,wait=off" in argv
    assert "socket,id=shared,fd=6,server=on,wait=off" in argv
    assert "socket,id=watch,fd=7,server=on,wait=off" in argv
    assert "socket,id=serial0,fd=8,server=on,wait=off" in argv


def test_extra_arguments_are_last(plan: Planner) -> None:
    argv = build_argv(plan(parameters={"kvm_extra": "-global 'a b'"}))
    assert argv[-2:] == ["-global", "a b"]
