# SPDX-License-Identifier: BSD-2-Clause
"""README's example, run; and what it says of names and commands, held against the code."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import click
import pytest

from hvkit.cli.commands import hvkit as command

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.mark.qemu
def test_the_example_runs(qemu_binary: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.S)
    image = tmp_path / "web1.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "16M"], check=True)
    # Of the example only the places and the patience are changed; its disk is blank, and no guest obeys the button.
    for there, here in [
        ("/run/mycloud/kvm", str(tmp_path / "run")),
        ("/srv/web1.qcow2", str(image)),
        ("timeout=60", "timeout=1"),
        ('"machine_version": "q35"', f'"machine_version": "q35", "kvm_path": "{qemu_binary}"'),
    ]:
        assert there in example
        example = example.replace(there, here)
    exec(compile(example, "README.md", "exec"), {})  # noqa: S102 - it is ours
    assert re.fullmatch(r"\[\d+, \d+\]\n", capsys.readouterr().out)
    assert not list((tmp_path / "run" / "instances").iterdir())


def test_the_commands_are_those_there_are() -> None:
    (listed,) = re.findall(r"^\| `hvkit` command \| (.*) \|$", README, re.M)
    assert isinstance(command, click.Group)
    assert set(re.findall(r"`(\w+)`", listed)) == set(command.commands)


def test_every_link_leads_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
