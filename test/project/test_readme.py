# SPDX-License-Identifier: BSD-2-Clause
"""README: its example runs, and its lists of commands and dependencies match the code."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from hvkit.cli.commands import hvkit as command

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@pytest.mark.qemu
def test_readme_example_runs(qemu_binary: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.S)
    image = tmp_path / "web1.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "16M"], check=True)
    # Replace paths, and shorten the timeout: the disk is blank, so no guest reacts to the power button.
    for original, replacement in [
        ("/run/mycloud/kvm", str(tmp_path / "run")),
        ("/srv/web1.qcow2", str(image)),
        ("timeout=60", "timeout=1"),
        ('"machine_version": "q35"', f'"machine_version": "q35", "kvm_path": "{qemu_binary}"'),
    ]:
        assert original in example
        example = example.replace(original, replacement)
    exec(compile(example, "README.md", "exec"), {})  # noqa: S102 - the code is from this repository
    assert re.fullmatch(r"\[\d+, \d+\]\n", capsys.readouterr().out)
    assert not list((tmp_path / "run" / "instances").iterdir())


@pytest.mark.qemu
def test_readme_command_line_example_runs(qemu_binary: str, tmp_path: Path) -> None:
    (spec,) = re.findall(r"```toml\n(.*?)```", README, re.S)
    (lines,) = re.findall(r"(?:^    (?:qemu-img|hvkit) .*\n)+", README, re.M)
    (tmp_path / "web1.toml").write_text(spec)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HVKIT_QEMU": qemu_binary,
        "HVKIT_RUN_DIR": str(tmp_path / "run"),
    }
    output = []
    for line in lines.replace("--timeout 5", "--timeout 1").splitlines():
        done = subprocess.run(
            shlex.split(line), cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        output.append(done.stdout)
    assert output[1] == "web1: running\n"
    assert "status: running\n" in output[3]
    assert output[5] == "web1: cleaned up\n"


def test_readme_lists_all_commands() -> None:
    (listed,) = re.findall(r"^\| `hvkit` command \| (.*) \|$", README, re.M)
    assert isinstance(command, click.Group)
    assert set(re.findall(r"`(\w+)`", listed)) == set(command.commands)


def test_readme_figures_are_numbers() -> None:
    (table,) = re.findall(r"^## Figures$.*?^\|[-| ]+\|$\n(.*?)^$", README, re.M | re.S)
    cells = [cell.strip() for row in table.splitlines() for cell in row.strip("|").split("|")[1:]]
    assert cells
    assert [cell for cell in cells if not re.match(r"[<>~]? ?\d+([.,]\d+)*\b", cell)] == []


def test_readme_lists_all_dependencies_with_reason() -> None:
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = {"": setup["options"]["install_requires"], **setup["options.extras_require"]}
    required = {
        (re.split(r"[ <>=~!;\[]", line, maxsplit=1)[0], extra)
        for extra, lines in extras.items()
        for line in lines.split("\n")
        if line and not line.startswith("hvkit[")
    }
    (table,) = re.findall(r"^\| package \| extra \| why \|\n\|[-|]+\|\n(.*?)^$", README, re.M | re.S)
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]
    assert all(why for _names, _extra, why in rows)
    assert {(name, extra.strip("`")) for names, extra, _why in rows for name in names.split(", ")} == required


def test_readme_links_exist() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
