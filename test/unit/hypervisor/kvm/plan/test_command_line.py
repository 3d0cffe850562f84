# SPDX-License-Identifier: BSD-2-Clause
"""Command lines: written down, one feature at a time, for each board and each version of QEMU.

``data/command-lines/THEME.txt`` has a part for each feature of a theme, and in that a section for each way in which it
is written; what is the same for several boards and versions stands there once. The plain machine is there in full, of
the others the options that go (-) and come (+).

HVKIT_RECORD=1 writes anew what has changed, and fails: read the difference, and run again without it.
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

WRITTEN: Final = Path(machine_features.__file__).parent / "data" / "command-lines"
RECORDING: Final = os.environ.get("HVKIT_RECORD") == "1"

#: Stand for the directory of all files and for open files in what is written down. Commas and blanks are special
#: somewhere.
WRITTEN_DIR: Final = "/srv/a,b c"
WRITTEN_FD: Final = 7

Recorded = Callable[[str], Capabilities]

#: Parameters that are no business of QEMU's, or that a feature has a member for.
ELSEWHERE: Final = {
    "kvm_path": "the program itself",
    "kvm_flag": "`Feature.kvm_flag`",
    "machine_version": "each board, and what is planned of it",
    "firmware": "`Feature.firmware`",
    "cpu_mask": "set while the machine stands still",
    "io_thread_mask": "set while the machine stands still",
    "network_script": "run by us",
    "vhost_net": "`Feature.has_vhost`: what is opened on the node",
    "vnet_hdr": "how a tap is opened",
    "user_shutdown": "how an end is told of",
    "sandbox": "`Feature.confinement`",
    "security_model": "`Feature.confinement`",
    "security_domain": "`Feature.confinement`",
    "security_pool": "`Feature.confinement`",
    "use_chroot": "`Feature.confinement`",
    **{name: "set by the monitor when it moves" for name in TABLE if name.startswith("migration_")},
}


def _argv(plan: Planner, program: Capabilities, board: str, feature: Feature) -> list[str]:
    """Return what is written down of a feature: its command line, with names that are the same on every machine."""
    sockets = MachineSockets(
        control=f"{WRITTEN_DIR}/control",
        shared=f"{WRITTEN_DIR}/shared",
        watch=f"{WRITTEN_DIR}/watch",
        serial=f"{WRITTEN_DIR}/serial",
        serial_log=f"{WRITTEN_DIR}/serial.log",
        agent=f"{WRITTEN_DIR}/agent",
        tpm=WRITTEN_FD,
        vsock=WRITTEN_FD,
        pid_file=f"{WRITTEN_DIR}/pid" if feature.opens_by_name else "",
    )
    queues = tuple(str(WRITTEN_FD + number) for number in range(feature.queues))
    vhosts = tuple(str(WRITTEN_FD + feature.queues + number) for number in range(feature.queues))
    made = plan_feature(
        plan,
        program,
        board,
        feature,
        FeatureNode(
            directory=WRITTEN_DIR,
            host=KvmHost(),
            sockets=sockets,
            taps={
                nic.uuid: TapFiles(queues=queues, vhosts=vhosts if feature.has_vhost else ())
                for nic in feature.nics or ()
                if nic.has_tap
            },
            descriptors={f"{WRITTEN_DIR}/disk.img": (WRITTEN_FD, WRITTEN_FD + 1)},
        ),
    )
    version = ".".join(map(str, program.version[:2]))
    # The version in a machine type is that of its program: no difference for anybody to read.
    return [word.replace(made.machine.name, made.machine.name.replace(version, "VERSION")) for word in build_argv(made)]


def _options(argv: list[str]) -> list[str]:
    """Return one line for each option of a command line, as a shell would take it."""
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
    """Give a section for each way in which a feature is written, headed by where it is written so."""
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


def _written(plan: Planner, recorded: Recorded, theme: str) -> str:
    """Return what is to be written down for a theme."""
    parts = [
        "\n".join([f"== {name}", *_sections(plan, recorded, name, feature)])
        for name, feature in FEATURES[theme].items()
    ]
    return "\n".join(parts)


@pytest.mark.parametrize("theme", FEATURES)
def test_command_lines_are_as_written_down(plan: Planner, recorded: Recorded, theme: str) -> None:
    file = WRITTEN / f"{theme}.txt"
    now = _written(plan, recorded, theme)
    before = file.read_text() if file.exists() else ""
    if RECORDING and now != before:
        file.write_text(now)
        pytest.fail(f"{file.name} is written anew: read the difference, and run again without HVKIT_RECORD")
    assert now.splitlines() == before.splitlines()


def test_nothing_else_is_written_down() -> None:
    assert {path.stem for path in WRITTEN.iterdir()} == set(FEATURES)


@pytest.mark.parametrize("name", sorted(set(TABLE) - set(ELSEWHERE)))
def test_each_parameter_that_changes_a_command_line_has_a_feature(name: str) -> None:
    features = [feature for theme in FEATURES.values() for feature in theme.values()]
    values = [feature.parameters[name] for feature in features if name in feature.parameters]
    assert any(value != TABLE[name].default for value in values)


def test_a_listening_descriptor_takes_the_place_of_a_path(plan: Planner) -> None:
    argv = build_argv(plan(sockets=MachineSockets(control=5, shared=6, watch=7, serial=8)))
    assert "socket,id=control,fd=5,server=on,wait=off" in argv
    assert "socket,id=shared,fd=6,server=on,wait=off" in argv
    assert "socket,id=watch,fd=7,server=on,wait=off" in argv
    assert "socket,id=serial0,fd=8,server=on,wait=off" in argv


def test_extra_arguments_come_last(plan: Planner) -> None:
    argv = build_argv(plan(parameters={"kvm_extra": "-global 'a b'"}))
    assert argv[-2:] == ["-global", "a b"]
