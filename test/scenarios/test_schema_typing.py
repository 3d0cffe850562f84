# SPDX-License-Identifier: BSD-2-Clause
"""mypy on uses of the schema: it accepts the correct ones and reports every wrong one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hvkit.qmp import schema

SAMPLE = Path(__file__).parents[1] / "support" / "typing_sample.py"


def test_mypy_reports_exactly_the_marked_errors(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed: pip install hvkit[lint]")
    path = Path(schema.__file__).parents[3]
    options = ["--strict", "--enable-error-code=comparison-overlap", "--python-version=3.11", "--config-file="]
    options += ["--no-pretty", f"--cache-dir={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(SAMPLE)],
        capture_output=True,
        text=True,
        env={**os.environ, "MYPYPATH": str(path)},
        check=False,
    )
    found = set(re.findall(r"typing_sample\.py:(\d+): error: .*\[([\w-]+)\]", done.stdout))
    lines = SAMPLE.read_text(encoding="utf-8").splitlines()
    marks = {
        (str(number), line.partition("# error: ")[2]) for number, line in enumerate(lines, 1) if "  # error: " in line
    }
    assert found == marks, done.stdout + done.stderr
