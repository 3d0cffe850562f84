# SPDX-License-Identifier: BSD-2-Clause
"""Generation of `hvkit.qmp.schema` from the facts, and a check that it is up to date.

Usage: python -m tools.qapi.generate [--check]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.qapi.classes import Classes
from tools.qapi.facts import Facts, read_facts
from tools.qapi.index import index_text, stub_text, wire_names_text
from tools.qapi.model import Schema
from tools.qapi.render import Writer
from tools.qapi.since import since_text

#: The directory of the generated package.
SCHEMA_DIR = Path(__file__).parents[2] / "lib" / "qmp" / "schema"

#: The files in it that are not generated.
_HANDWRITTEN = frozenset({"__init__.py"})


def generate(facts: Facts) -> dict[str, str]:
    """Return the text of every generated file, by name. The result depends on the facts only."""
    monitor, agent = Classes(Schema(facts, "qmp")), Classes(Schema(facts, "qga"))
    files = {f"{name}.py": text for classes in (monitor, agent) for name, text in Writer(classes).modules().items()}
    files["_index.py"] = index_text(monitor, agent)
    files["_wire_names.py"] = wire_names_text(monitor, agent)
    files["_since.py"] = since_text(monitor)
    files["__init__.pyi"] = stub_text((monitor, agent))
    return files


def find_differences(files: dict[str, str], directory: Path) -> list[str]:
    """Return the names of the files in a directory that are missing, outdated or not generated."""
    present = {path.name for path in directory.glob("*.py*") if path.is_file()} - _HANDWRITTEN
    return sorted(
        name
        for name in present | files.keys()
        if name not in present or name not in files or (directory / name).read_text(encoding="utf-8") != files[name]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.qapi.generate", description="Generate hvkit.qmp.schema from the facts."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is not up to date")
    options = parser.parse_args(arguments)
    files = generate(read_facts())
    changed = find_differences(files, SCHEMA_DIR)
    if options.check:
        for name in changed:
            print(f"lib/qmp/schema/{name} is not up to date: run `make schema`", file=sys.stderr)
        return 1 if changed else 0
    for name in changed:
        if name in files:
            (SCHEMA_DIR / name).write_text(files[name], encoding="utf-8")
        else:
            (SCHEMA_DIR / name).unlink()
    print(f"{len(files)} files, {len(changed)} changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
