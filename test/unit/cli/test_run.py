# SPDX-License-Identifier: BSD-2-Clause
"""Exit codes, error messages and signals of the command line."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import hvkit
from hvkit.cli import EXIT_BUG, EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, commands
from hvkit.hypervisor import InstanceInfo, get_hypervisor_class
from hvkit.hypervisor.fake import FakeHypervisor

RunCommand = Callable[..., Any]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("show", "web2"), "web2: no such instance on this node"),
        (("stop", "web2"), "web2: no such instance on this node"),
        (("show", "../x"), "Instance.name: not a valid name for an instance: '../x'"),
        (("qmp", "web1", "query-status"), "hypervisor 'fake' does not support monitor"),
        (("start", "/nonexistent/web1.toml"), "/nonexistent/web1.toml: No such file or directory"),
        (("parameters", "kwm"), "hypervisor 'kwm': unknown, did you mean kvm?"),
    ],
)
def test_hypervisor_error_prints_one_line(run_fake: RunCommand, words: tuple[str, ...], text: str) -> None:
    result = run_fake(*words)
    assert result.code == EXIT_FAILURE
    assert result.has_one_error_line
    assert text in result.err


@pytest.mark.parametrize("hypervisor", ["fake", "kvm"])
@pytest.mark.parametrize("words", [("list",), ("start", "SPEC"), ("show", "web1")])
@pytest.mark.parametrize("way", ["file", "file/x", "loop/x"])
def test_impossible_run_dir_fails(
    run_command: RunCommand, spec: Path, tmp_path: Path, hypervisor: str, words: tuple[str, ...], way: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    words = tuple(str(spec) if word == "SPEC" else word for word in words)
    result = run_command("--hypervisor", hypervisor, "--run-dir", tmp_path / way, *words)
    assert result.code == EXIT_FAILURE
    assert result.has_one_error_line
    assert str(tmp_path / way.partition("/")[0]) in result.err


@pytest.mark.parametrize("words", [("list",), ("show", "web1"), ("stop", "web1"), ("cleanup", "web1")])
@pytest.mark.parametrize("hypervisor", ["fake", "kvm"])
def test_inaccessible_run_dir_fails(
    run_command: RunCommand, tmp_path: Path, as_nobody: None, hypervisor: str, words: tuple[str, ...]
) -> None:
    result = run_command("--hypervisor", hypervisor, "--run-dir", tmp_path / "run", *words)
    assert result.code == EXIT_FAILURE
    assert result.has_one_error_line
    assert "Permission denied" in result.err


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
def test_invalid_command_line_is_usage_error(run_fake: RunCommand, words: tuple[str, ...], text: str) -> None:
    result = run_fake(*words)
    assert result.code == EXIT_USAGE
    assert result.has_one_error_line
    assert text in result.err


def test_unexpected_exception_prints_traceback(run_fake: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeHypervisor, "get_all_instances_info", lambda self: 1 / 0)
    result = run_fake("list")
    assert result.code == EXIT_BUG
    assert "ZeroDivisionError" in result.err
    assert result.err.splitlines()[-1].startswith("hvkit: this is a bug in hvkit")


def test_interrupt_exits_with_130(run_fake: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: FakeHypervisor) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(FakeHypervisor, "get_all_instances_info", interrupted)
    result = run_fake("list")
    assert result.code == EXIT_INTERRUPTED
    assert result.err.strip() == "hvkit: interrupted"


def test_interrupt_during_import_exits_with_130(run_command: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    class Loading(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "hvkit.cli.run", Loading("hvkit.cli.run"))
    result = run_command("list")
    assert result.code == EXIT_INTERRUPTED
    assert result.err.strip() == "hvkit: interrupted"


def test_missing_click_prints_install_command(run_command: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "click", None)
    result = run_command("list")
    assert result.code == EXIT_FAILURE
    assert result.has_one_error_line
    assert "pip install 'hvkit[cli]'" in result.err


def test_every_command_has_help(run_command: RunCommand) -> None:
    helped = run_command("--help")
    assert helped.code == EXIT_OK
    assert "Exit codes:" in helped.out
    for name in commands.hvkit.commands:
        assert run_command(name, "--help").code == EXIT_OK
    assert hvkit.__version__ in run_command("--version").out


def test_command_restores_signal_handlers(run_fake: RunCommand) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    assert run_fake("list").code == EXIT_OK
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.mark.parametrize(("number", "handled"), [(signal.SIGTERM, True), (signal.SIGHUP, False)])
def test_ignored_signal_stays_ignored(
    run_fake: RunCommand, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, handled: bool
) -> None:
    def receive(self: FakeHypervisor) -> list[InstanceInfo]:
        signal.raise_signal(number)
        return []

    monkeypatch.setattr(FakeHypervisor, "get_all_instances_info", receive)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        if handled:
            with pytest.raises(SystemExit) as caught:
                run_fake("list")
            assert caught.value.code == 128 + number
        else:
            assert run_fake("list").code == EXIT_OK
    finally:
        signal.signal(signal.SIGHUP, before)


def test_closed_stdout_exits_without_traceback(tmp_path: Path) -> None:
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
    assert process.wait(timeout=30) == EXIT_FAILURE


@pytest.mark.parametrize("words", [("parameters",), ("--help",), ("demo", "--simulated")])
def test_full_output_device_fails(words: tuple[str, ...]) -> None:
    program = "import sys; from hvkit.cli import main; sys.exit(main())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [sys.executable, "-c", program, *words], env=environment, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert run.returncode == EXIT_FAILURE
    assert run.stderr == "hvkit: cannot write the output: No space left on device\n"


def test_unwritable_stderr_keeps_exit_code(tmp_path: Path) -> None:
    program = "import sys; from hvkit.cli import main; sys.exit(main())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with open("/dev/full", "w") as full:
        run = subprocess.run([sys.executable, "-c", program, "frobnicate"], env=environment, stderr=full)
    assert run.returncode == EXIT_USAGE


def test_os_error_outside_of_output_is_bug(run_fake: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: FakeHypervisor) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(FakeHypervisor, "get_all_instances_info", fail)
    assert run_fake("list").code == EXIT_BUG


def test_help_names_default_of_kvm_path(run_command: RunCommand) -> None:
    default = get_hypervisor_class("kvm").PARAMETERS["kvm_path"].default
    assert f"Default: {default}." in " ".join(run_command("--help").out.split())


def test_help_shows_command_summaries_untruncated(run_command: RunCommand) -> None:
    assert "..." not in run_command("--help").out.partition("Commands:")[2]
