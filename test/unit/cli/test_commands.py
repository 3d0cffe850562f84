# SPDX-License-Identifier: BSD-2-Clause
"""The commands over the fake hypervisor: what they print, and how they end."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest

import hvkit
from hvkit.cli import EXIT_BUG, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, EXIT_WORLD, commands
from hvkit.cli.commands import describe_console
from hvkit.cli.settings import Settings, default_run_dir
from hvkit.hypervisor import (
    Console,
    ConsoleKind,
    Instance,
    InstanceInfo,
    InstanceState,
    InstanceWatch,
    StopCause,
)
from hvkit.hypervisor.fake import FakeHypervisor
from hvkit.hypervisor.kvm.plan.parameters import TABLE
from hvkit.qmp import QmpConnection
from hvkit.testing import QmpStub
from hvkit.testing.simulator import write_executable

TypeCommand = Callable[..., Any]
PlayMonitor = Callable[[list[Any]], None]


def is_one_line(err: str) -> bool:
    return err.startswith("hvkit: ") and err.endswith("\n") and err.count("\n") == 1


# ---- the life of an instance


def test_life_of_an_instance(type_fake: TypeCommand, spec: Path) -> None:
    assert type_fake("start", spec).out == "web1: running\n"
    assert type_fake("list").out.splitlines() == [
        "NAME  STATE    PID  MEMORY  VCPUS",
        "web1  running  -    64 MiB  1",
    ]
    assert type_fake("reboot", "web1").out == "web1: running\n"
    assert type_fake("stop", "web1", "--timeout", "5").out == "web1: shutdown (powered off by its guest)\n"
    assert type_fake("cleanup", "web1").out == "web1: forgotten\n"
    assert type_fake("list").out == "NAME  STATE  PID  MEMORY  VCPUS\n"


def lead_a_life(fake: FakeHypervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have something happen each time a watch rests, and at the end an interrupt."""
    fake.start_instance(Instance(name="web1", memory_mib=64))
    acts: list[Callable[[], object]] = [
        lambda: fake.start_instance(Instance(name="web2", memory_mib=64), start_paused=True),
        lambda: fake.balloon_instance_memory("web1", 32),
        lambda: fake.fail_instance("web2", "a test wants it"),
        lambda: fake.cleanup_instance("web2"),
    ]

    def rest(_watch: InstanceWatch, _timeout_s: float) -> None:
        if not acts:
            raise KeyboardInterrupt
        acts.pop(0)()

    monkeypatch.setattr(InstanceWatch, "_rest", rest)


def test_watch_prints_what_happens(type_fake: TypeCommand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lead_a_life(FakeHypervisor(run_dir=tmp_path / "run"), monkeypatch)
    typed = type_fake("watch")
    assert typed.out.splitlines() == [
        "web1: running",
        "web2: paused",
        "web1: running, 64 -> 32 MiB",
        "web2: paused -> crashed (a test wants it)",
        "web2: forgotten",
    ]
    assert typed.code == EXIT_INTERRUPTED


def test_watch_prints_lines_of_json(type_fake: TypeCommand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lead_a_life(FakeHypervisor(run_dir=tmp_path / "run"), monkeypatch)
    lines = [json.loads(line) for line in type_fake("watch", "--json").out.splitlines()]
    assert [line["name"] for line in lines] == ["web1", "web2", "web1", "web2", "web2"]
    assert lines[0]["before"] is None
    assert lines[3]["after"]["state"] == "crashed"
    assert lines[4]["after"] is None


@pytest.mark.parametrize("command", [("list", "--json"), ("show", "web1"), ("show", "--json", "web1")])
def test_what_made_an_instance_stop_is_shown(
    type_fake: TypeCommand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: tuple[str, ...]
) -> None:
    fake = FakeHypervisor(run_dir=tmp_path / "run")
    fake.start_instance(Instance(name="web1", memory_mib=64))
    info = attrs.evolve(fake.get_instance_info("web1"), state=InstanceState.SHUTDOWN, cause=StopCause.GUEST)
    monkeypatch.setattr(FakeHypervisor, "get_all_instances_info", lambda _: [info])
    monkeypatch.setattr(FakeHypervisor, "get_instance_info", lambda _, name: info)
    assert StopCause.GUEST.value in type_fake(*command).out


def test_start_paused(type_fake: TypeCommand, spec: Path) -> None:
    assert type_fake("start", "--paused", spec).out == "web1: paused\n"


def test_stop_by_force(type_fake: TypeCommand, spec: Path) -> None:
    type_fake("start", spec)
    assert type_fake("stop", "--force", "web1").out == "web1: shutdown (stopped by force)\n"


def test_show(type_fake: TypeCommand, spec: Path) -> None:
    type_fake("start", spec)
    assert type_fake("show", "web1").out.splitlines()[:3] == [
        "name: web1",
        "uuid: 11111111-2222-3333-4444-555555555555",
        "state: running",
    ]


def test_json_for_programs(type_fake: TypeCommand, spec: Path) -> None:
    type_fake("start", spec)
    shown = json.loads(type_fake("show", "web1", "--json").out)
    assert (shown["state"], shown["pid"], shown["memory_mib"]) == ("running", None, 64)
    assert json.loads(type_fake("list", "--json").out) == [shown]


def test_console(type_fake: TypeCommand, spec: Path) -> None:
    type_fake("start", spec)
    assert type_fake("console", "web1").out == "a fake instance has nothing to say\n"


@pytest.mark.parametrize(
    ("console", "text"),
    [
        (Console(instance="a", kind=ConsoleKind.SERIAL, path="/s", command=("socat", "a b")), "socat 'a b'"),
        (Console(instance="a", kind=ConsoleKind.VNC, host="::1", port=5900), "vnc ::1:5900"),
        (Console(instance="a", kind=ConsoleKind.SPICE, path="/run/spice"), "spice /run/spice"),
    ],
)
def test_console_says_what_to_type(console: Console, text: str) -> None:
    assert describe_console(console) == text


def test_parameters(type_command: TypeCommand) -> None:
    lines = type_command("parameters", "fake").out.splitlines()
    assert lines[:2] == [
        'start_failure = ""',
        "    Why a start of the instance fails; empty for a start that does not.",
    ]
    assert 'guest = "obedient"' in lines


def test_parameters_of_kvm_as_json(type_command: TypeCommand) -> None:
    listed = json.loads(type_command("parameters", "--json").out)
    assert [each["name"] for each in listed] == list(TABLE)
    assert {each["type"] for each in listed} <= {"bool", "int", "float", "str"}


@pytest.mark.parametrize(("text", "seconds"), [("0", 0.0), ("1.5", 1.5), ("inf", math.inf), ("1e300", math.inf)])
def test_stop_waits_as_long_as_it_is_told(
    type_fake: TypeCommand, spec: Path, monkeypatch: pytest.MonkeyPatch, text: str, seconds: float
) -> None:
    told: list[float | None] = []
    stop = FakeHypervisor.stop_instance

    def note(self: FakeHypervisor, name: str, *, timeout: float | None, **others: bool) -> None:
        told.append(timeout)
        stop(self, name, **others)

    monkeypatch.setattr(FakeHypervisor, "stop_instance", note)
    type_fake("start", spec)
    assert type_fake("stop", "web1", "--timeout", text).code == EXIT_OK
    assert told == [seconds]


# ---- what goes wrong


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("show", "web2"), "web2: no such instance on this node"),
        (("stop", "web2"), "web2: no such instance on this node"),
        (("show", "../x"), "Instance.name: not a valid name for an instance: '../x'"),
        (("qmp", "web1", "query-status"), "hypervisor 'fake' does not support monitor"),
        (("start", "/nonexistent/web1.toml"), "/nonexistent/web1.toml: No such file or directory"),
        (("parameters", "kwm"), "hypervisor 'kwm': not known, did you mean kvm?"),
    ],
)
def test_world_fails_in_one_line(type_fake: TypeCommand, words: tuple[str, ...], text: str) -> None:
    typed = type_fake(*words)
    assert typed.code == EXIT_WORLD
    assert is_one_line(typed.err)
    assert text in typed.err


def test_second_start_is_refused(type_fake: TypeCommand, spec: Path) -> None:
    type_fake("start", spec)
    typed = type_fake("start", spec)
    assert (typed.code, typed.err) == (EXIT_WORLD, "hvkit: web1: cannot be started (it is running)\n")


def test_stop_that_worked_says_so_though_little_is_known(
    type_command: TypeCommand, spec: Path, short_dir: Path
) -> None:
    kvm = ("--run-dir", short_dir / "run", "--qemu", write_executable(short_dir))
    assert type_command(*kvm, "start", spec).code == EXIT_OK
    (short_dir / "run/instances/web1/runtime.json").write_text("{")
    typed = type_command(*kvm, "stop", "--force", "web1")
    assert (typed.code, typed.err) == (EXIT_OK, "")
    assert typed.out.startswith("web1: stopped; more is not known of it: ")
    assert type_command(*kvm, "cleanup", "web1").code == EXIT_OK


@pytest.mark.parametrize("hypervisor", ["fake", "kvm"])
@pytest.mark.parametrize("words", [("list",), ("start", "SPEC"), ("show", "web1")])
@pytest.mark.parametrize("way", ["file", "file/x", "loop/x"])
def test_run_dir_that_cannot_be_is_the_worlds_fault(
    type_command: TypeCommand, spec: Path, tmp_path: Path, hypervisor: str, words: tuple[str, ...], way: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    words = tuple(str(spec) if word == "SPEC" else word for word in words)
    typed = type_command("--hypervisor", hypervisor, "--run-dir", tmp_path / way, *words)
    assert typed.code == EXIT_WORLD
    assert is_one_line(typed.err)
    assert str(tmp_path / way.partition("/")[0]) in typed.err


@pytest.mark.parametrize("words", [("list",), ("show", "web1"), ("stop", "web1"), ("cleanup", "web1")])
@pytest.mark.parametrize("hypervisor", ["fake", "kvm"])
def test_run_dir_that_may_not_be_looked_at(
    type_command: TypeCommand, tmp_path: Path, as_nobody: None, hypervisor: str, words: tuple[str, ...]
) -> None:
    typed = type_command("--hypervisor", hypervisor, "--run-dir", tmp_path / "run", *words)
    assert typed.code == EXIT_WORLD
    assert is_one_line(typed.err)
    assert "Permission denied" in typed.err


def test_spec_that_is_a_directory_is_the_worlds_fault(type_fake: TypeCommand, tmp_path: Path) -> None:
    typed = type_fake("start", tmp_path)
    assert (typed.code, typed.err) == (EXIT_WORLD, f"hvkit: {tmp_path}: Is a directory\n")


def test_missing_disk_names_the_file_and_the_key(type_command: TypeCommand, spec: Path, short_dir: Path) -> None:
    spec.write_text(spec.read_text() + '[[disk]]\npath = "/nonexistent/disk"\n')
    kvm = ("--run-dir", short_dir / "run", "--qemu", write_executable(short_dir))
    typed = type_command(*kvm, "start", spec)
    assert typed.code == EXIT_WORLD
    assert typed.err == f"hvkit: {spec}: disk[0].path: /nonexistent/disk: No such file or directory\n"


@pytest.mark.parametrize("words", [("x=" + "[" * 9999,), ("a." * 5000 + "a=1",)])
def test_qmp_argument_that_is_too_deep(
    type_command: TypeCommand, play_monitor: PlayMonitor, words: tuple[str, ...]
) -> None:
    play_monitor([])
    typed = type_command("qmp", "web1", "nosuch", *words)
    assert typed.code == EXIT_USAGE
    assert is_one_line(typed.err)
    assert "is nested too deeply" in typed.err


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_qmp_reply_that_is_too_deep_to_be_shown(
    type_command: TypeCommand, play_monitor: PlayMonitor, words: tuple[str, ...]
) -> None:
    reply: Any = 1
    for _ in range(300):
        reply = {"a": reply}
    play_monitor([({"execute": "x-deep"}, {"return": reply})])
    typed = type_command("qmp", "web1", "x-deep", *words)
    assert (typed.code, typed.err) == (EXIT_WORLD, "hvkit: x-deep: the reply is nested too deeply to be shown\n")


def test_unknown_parameter_names_the_file(type_fake: TypeCommand, spec: Path) -> None:
    spec.write_text(spec.read_text() + "[parameters]\nguets = 'deaf'\n")
    typed = type_fake("start", spec)
    assert typed.code == EXIT_WORLD
    assert typed.err == f"hvkit: {spec}: parameters.guets: no such parameter; did you mean guest?\n"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("frobnicate",), "No such command 'frobnicate'"),
        (("show",), "Missing argument 'NAME'"),
        (("list", "--colour"), "No such option"),
        (("stop", "web1", "--timeout", "soon"), "expected 0 or more seconds, got 'soon'"),
        (("stop", "web1", "--timeout", "-1"), "expected 0 or more seconds, got '-1'"),
        (("stop", "web1", "--timeout", "nan"), "expected 0 or more seconds, got 'nan'"),
        (("qmp", "web1", "query-status", "--timeout", "-inf"), "expected 0 or more seconds, got '-inf'"),
    ],
)
def test_command_line_that_makes_no_sense(type_fake: TypeCommand, words: tuple[str, ...], text: str) -> None:
    typed = type_fake(*words)
    assert typed.code == EXIT_USAGE
    assert is_one_line(typed.err)
    assert text in typed.err


def test_bug_is_shown_as_one(type_fake: TypeCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeHypervisor, "get_all_instances_info", lambda self: 1 / 0)
    typed = type_fake("list")
    assert typed.code == EXIT_BUG
    assert "ZeroDivisionError" in typed.err
    assert typed.err.splitlines()[-1].startswith("hvkit: this is a bug in hvkit")


def test_interrupt(type_fake: TypeCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: FakeHypervisor) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(FakeHypervisor, "get_all_instances_info", interrupted)
    typed = type_fake("list")
    assert typed.code == EXIT_INTERRUPTED
    assert typed.err.strip() == "hvkit: interrupted"


def test_interrupt_while_the_command_is_loaded(type_command: TypeCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    class Loading(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "hvkit.cli.run", Loading("hvkit.cli.run"))
    typed = type_command("list")
    assert typed.code == EXIT_INTERRUPTED
    assert typed.err.strip() == "hvkit: interrupted"


def test_missing_click_says_what_to_install(type_command: TypeCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "click", None)
    typed = type_command("list")
    assert typed.code == EXIT_WORLD
    assert is_one_line(typed.err)
    assert "pip install 'hvkit[cli]'" in typed.err


def test_help_and_version(type_command: TypeCommand) -> None:
    helped = type_command("--help")
    assert helped.code == EXIT_OK
    assert "Exit codes:" in helped.out
    for name in commands.hvkit.commands:
        assert type_command(name, "--help").code == EXIT_OK
    assert hvkit.__version__ in type_command("--version").out


# ---- where instances are remembered


def test_run_dir_from_the_environment(
    type_command: TypeCommand, spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HVKIT_RUN_DIR", str(tmp_path / "elsewhere"))
    assert type_command("--hypervisor", "fake", "start", spec).code == EXIT_OK
    assert (tmp_path / "elsewhere" / "web1.json").exists()


def test_default_run_dir_of_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_run_dir("kvm") == Path("/run/hvkit/kvm")


def test_default_run_dir_of_others(monkeypatch: pytest.MonkeyPatch, type_command: TypeCommand) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert default_run_dir("kvm") == Path("/run/user/1000/hvkit/kvm")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.delenv("HVKIT_RUN_DIR", raising=False)
    typed = type_command("--hypervisor", "fake", "list")
    assert typed.code == EXIT_USAGE
    assert "--run-dir" in typed.err


# ---- the monitor


@pytest.fixture
def play_monitor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlayMonitor]:
    """Give every instance a monitor that plays a script."""
    stubs: list[QmpStub] = []

    class Monitored(FakeHypervisor):
        @contextmanager
        def monitor(self, name: str) -> Iterator[QmpConnection]:
            with QmpConnection(tmp_path / "monitor") as connection:
                yield connection

    def play(script: list[Any]) -> None:
        stub = QmpStub(tmp_path / "monitor", script)
        stub.__enter__()
        stubs.append(stub)

    monkeypatch.setattr(Settings, "open", lambda self: Monitored(run_dir=tmp_path / "run"))
    yield play
    for stub in stubs:
        stub.__exit__(None, None, None)


STATUS = {"status": "running", "running": True, "singlestep": False}


def test_qmp_prints_what_is_returned(type_command: TypeCommand, play_monitor: PlayMonitor) -> None:
    play_monitor([({"execute": "query-status"}, {"return": STATUS})])
    typed = type_command("qmp", "web1", "query-status")
    assert typed.code == EXIT_OK
    assert sorted(typed.out.splitlines()) == ["running: true", "singlestep: false", "status: running"]


def test_qmp_as_json_is_what_was_on_the_wire(type_command: TypeCommand, play_monitor: PlayMonitor) -> None:
    play_monitor([({"execute": "query-status"}, {"return": {**STATUS, "new-member": [1]}})])
    assert json.loads(type_command("qmp", "web1", "query-status", "--json").out) == {**STATUS, "new-member": [1]}


def test_qmp_sends_typed_arguments(type_command: TypeCommand, play_monitor: PlayMonitor) -> None:
    arguments = {"driver": "qcow2", "read-only": True, "file": {"driver": "file", "filename": "/a"}}
    play_monitor([({"execute": "blockdev-add", "arguments": arguments}, {"return": {}})])
    typed = type_command(
        "qmp", "web1", "blockdev-add", "driver=qcow2", "read-only=on", "file.driver=file", "file.filename=/a"
    )
    assert (typed.code, typed.out) == (EXIT_OK, "")


def test_qmp_sends_what_the_schema_does_not_know(type_command: TypeCommand, play_monitor: PlayMonitor) -> None:
    play_monitor([({"execute": "x-brand-new", "arguments": {"a": 1, "b": {"c": "d"}}}, {"return": {"x": 1}})])
    assert type_command("qmp", "web1", "x-brand-new", "a=1", "b.c=d").out == "x: 1\n"


def test_qmp_error_reply(type_command: TypeCommand, play_monitor: PlayMonitor) -> None:
    error = {"class": "DeviceNotFound", "desc": "Device 'x' not found"}
    play_monitor([({"execute": "device_del", "arguments": {"id": "x"}}, {"error": error})])
    typed = type_command("qmp", "web1", "device_del", "id=x")
    assert (typed.code, typed.err) == (EXIT_WORLD, "hvkit: device_del: Device 'x' not found\n")


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        ("query-blok", EXIT_USAGE, "hvkit: query-blok: not found; did you mean query-block"),
        ("xyzzy", EXIT_WORLD, "hvkit: xyzzy: not found\n"),
        ("query-status", EXIT_WORLD, "hvkit: query-status: not found\n"),
    ],
)
def test_qmp_command_that_the_peer_does_not_have(
    type_command: TypeCommand, play_monitor: PlayMonitor, command: str, code: int, text: str
) -> None:
    play_monitor([({"execute": command}, {"error": {"class": "CommandNotFound", "desc": "not found"}})])
    typed = type_command("qmp", "web1", command)
    assert typed.code == code
    assert typed.err.startswith(text)


def test_qmp_with_a_wrong_argument_sends_nothing(type_command: TypeCommand, play_monitor: PlayMonitor) -> None:
    play_monitor([])
    typed = type_command("qmp", "web1", "block_resize", "size=big")
    assert typed.code == EXIT_USAGE
    assert "block_resize: size: expected a whole number, got 'big'" in typed.err


def test_qmp_garbage_is_the_worlds_fault(type_command: TypeCommand, play_monitor: PlayMonitor) -> None:
    play_monitor([({"execute": "query-status"}, {"return": {**STATUS, "running": "yes"}})])
    typed = type_command("qmp", "web1", "query-status")
    assert typed.code == EXIT_WORLD
    assert typed.err == "hvkit: query-status.running: expected bool, got str\n"


# ---- as a process


def test_signals_are_as_they_were_after_a_command(type_fake: TypeCommand) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    assert type_fake("list").code == EXIT_OK
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.mark.parametrize(("number", "handled"), [(signal.SIGTERM, True), (signal.SIGHUP, False)])
def test_ignored_signal_stays_ignored(
    type_fake: TypeCommand, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, handled: bool
) -> None:
    def receive(self: FakeHypervisor) -> list[InstanceInfo]:
        signal.raise_signal(number)
        return []

    monkeypatch.setattr(FakeHypervisor, "get_all_instances_info", receive)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        if handled:
            with pytest.raises(SystemExit) as caught:
                type_fake("list")
            assert caught.value.code == 128 + number
        else:
            assert type_fake("list").code == EXIT_OK
    finally:
        signal.signal(signal.SIGHUP, before)


def test_reader_that_goes_away_is_no_bug(tmp_path: Path) -> None:
    program = "import sys; from hvkit.cli import main; sys.exit(main())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", program, "parameters"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    process.stdout.close()
    assert process.stderr
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=30) == EXIT_WORLD


@pytest.mark.parametrize("words", [("parameters",), ("--help",), ("demo", "--simulated")])
def test_output_that_cannot_be_written_is_the_worlds_fault(words: tuple[str, ...]) -> None:
    program = "import sys; from hvkit.cli import main; sys.exit(main())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [sys.executable, "-c", program, *words], env=environment, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert run.returncode == EXIT_WORLD
    assert run.stderr == "hvkit: cannot write the output: No space left on device\n"


def test_complaint_that_cannot_be_written_leaves_the_exit_code(tmp_path: Path) -> None:
    program = "import sys; from hvkit.cli import main; sys.exit(main())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with open("/dev/full", "w") as full:
        run = subprocess.run([sys.executable, "-c", program, "frobnicate"], env=environment, stderr=full)
    assert run.returncode == EXIT_USAGE


def test_error_of_the_system_elsewhere_is_a_bug(type_fake: TypeCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: FakeHypervisor) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(FakeHypervisor, "get_all_instances_info", fail)
    assert type_fake("list").code == EXIT_BUG
