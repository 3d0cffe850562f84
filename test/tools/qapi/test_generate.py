# SPDX-License-Identifier: BSD-2-Clause
"""The generated files: reproducible, and up to date in the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.qapi import generate as command
from tools.qapi.facts import read_facts
from tools.qapi.generate import SCHEMA_DIR, find_differences, generate, main


def test_generate_gives_the_files_in_the_repository() -> None:
    assert find_differences(generate(read_facts()), SCHEMA_DIR) == []


def test_generate_with_the_same_facts_gives_the_same_text() -> None:
    facts = read_facts()
    assert generate(facts) == generate(facts)


def test_main_check_names_outdated_missing_and_surplus_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "SCHEMA_DIR", tmp_path)
    assert main([]) == 0
    assert main(["--check"]) == 0
    (tmp_path / "job.py").write_text("changed")
    (tmp_path / "yank.py").unlink()
    (tmp_path / "stray.py").touch()
    capsys.readouterr()
    assert main(["--check"]) == 1
    named = [line.split()[0].rpartition("/")[2] for line in capsys.readouterr().err.splitlines()]
    assert named == ["job.py", "stray.py", "yank.py"]
    assert main([]) == 0
    assert not (tmp_path / "stray.py").exists()
    assert main(["--check"]) == 0
