# SPDX-License-Identifier: BSD-2-Clause
"""Generation of a file of facts from QEMU's sources.

Usage: python -m tools.qapi.make_facts OUTPUT VERSION=SOURCE[@REPLY] ...

The oldest version is first. A SOURCE is a source tree (with qapi/qapi-schema.json), or a directory with the built
reference manuals (qemu-qmp-ref.html and others). REPLY is a recorded reply to query-qmp-schema of that version; it
tells which member a feature belongs to. A SOURCE after ``~`` is not included in the file: it only completes the facts
of later reference manuals.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from tools.qapi.facts import SCHEMAS, Definition, Facts, facts_text
from tools.qapi.introspection import read_reply
from tools.qapi.merge import check_facts, merge
from tools.qapi.reference import complete, place_features, read_modules, read_reference
from tools.qapi.source_tree import read_source_tree

_RELEASE = re.compile(r"QEMU[^<]{0,40}?(\d+\.\d+\.\d+)")


@attrs.frozen
class Source:
    """The source of the facts of one version.

    Attributes:
        version: two numbers, such as 10.0.
        path: a source tree, or the directory of built reference manuals.
        reply: a recorded reply to `query-qmp-schema`; None if there is none.
        is_auxiliary: whether the version only completes later ones and is not included in the file.
    """

    version: str
    path: Path
    reply: Path | None
    is_auxiliary: bool

    @classmethod
    def parse(cls, text: str) -> Source:
        """Parse ``VERSION=[~]SOURCE[@REPLY]``.

        Raises:
            ValueError: the text does not have that form.
        """
        version, equals, rest = text.partition("=")
        if not equals or not re.fullmatch(r"\d+\.\d+", version):
            raise ValueError(f"{text!r} is not VERSION=SOURCE[@REPLY]")
        path, _, reply = rest.removeprefix("~").partition("@")
        return cls(version, Path(path), Path(reply) if reply else None, rest.startswith("~"))


@attrs.frozen
class VersionFacts:
    """The facts of one version.

    Attributes:
        schemas: by schema: the definitions by name.
        modules: by program (qmp, qsd): its QAPI modules.
        release: the exact version.
        origin: the kind of source.
    """

    schemas: Mapping[str, Mapping[str, Definition]]
    modules: Mapping[str, Sequence[str]]
    release: str
    origin: str


def read_tree(path: Path) -> VersionFacts:
    """Read the facts from a source tree."""
    monitor = read_source_tree(path / "qapi" / "qapi-schema.json")
    agent = read_source_tree(path / "qga" / "qapi-schema.json")
    daemon = read_source_tree(path / "storage-daemon" / "qapi" / "qapi-schema.json")
    return VersionFacts(
        schemas={"qmp": monitor.definitions, "qga": agent.definitions},
        modules={"qmp": monitor.modules, "qsd": daemon.modules},
        release=(path / "VERSION").read_text(encoding="utf-8").strip(),
        origin="source tree",
    )


def _newest(name: str, schema: str, facts: Sequence[VersionFacts]) -> Definition | None:
    """Return a definition as of the newest of some versions; None if none of them has it."""
    return next((each.schemas[schema][name] for each in reversed(facts) if name in each.schemas[schema]), None)


def read_built_reference(path: Path, version: str, older: Sequence[VersionFacts]) -> VersionFacts:
    """Read the facts from built reference manuals.

    Args:
        path: the directory of the manuals.
        version: the release, if the manuals do not name it.
        older: the facts of older versions, newest last, which complete those from the manuals.
    """
    monitor = path / "qemu-qmp-ref.html"
    read = {"qmp": read_reference(monitor, "qmp"), "qga": read_reference(path / "qemu-ga-ref.html", "qga")}
    schemas = {
        schema: {name: complete(each, _newest(name, schema, older)) for name, each in read[schema].items()}
        for schema in SCHEMAS
    }
    release = _RELEASE.search(monitor.read_text(encoding="utf-8"))
    return VersionFacts(
        schemas=schemas,
        modules={
            "qmp": tuple(sorted({each.definition.module for each in read["qmp"].values()})),
            "qsd": read_modules(path / "qemu-storage-daemon-qmp-ref.html", "QSD"),
        },
        release=release[1] if release else version,
        origin="built reference",
    )


def make_facts(sources: Sequence[Source]) -> Facts:
    """Read all sources, oldest first, and merge their facts.

    Raises:
        MergeError: the facts are inconsistent.
    """
    read: list[VersionFacts] = []
    kept: dict[str, VersionFacts] = {}
    for source in sources:
        if (source.path / "qapi" / "qapi-schema.json").exists():
            facts = read_tree(source.path)
        else:
            facts = read_built_reference(source.path, source.version, read)
        if source.reply is not None:
            placed = place_features(facts.schemas["qmp"], read_reply(source.reply))
            facts = attrs.evolve(facts, schemas={**facts.schemas, "qmp": placed})
        read.append(facts)
        if not source.is_auxiliary:
            kept[source.version] = facts
    merged = Facts(
        versions=tuple(kept),
        sources={version: {"release": each.release, "from": each.origin} for version, each in kept.items()},
        modules={version: each.modules for version, each in kept.items()},
        schemas={
            schema: merge({version: each.schemas[schema] for version, each in kept.items()}) for schema in SCHEMAS
        },
    )
    check_facts(merged)
    return merged


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.qapi.make_facts", description="Write a file of facts.")
    parser.add_argument("output", type=Path)
    parser.add_argument("sources", type=Source.parse, nargs="+", metavar="VERSION=SOURCE[@REPLY]")
    options = parser.parse_args(arguments)
    facts = make_facts(options.sources)
    options.output.write_text(facts_text(facts), encoding="utf-8")
    print(", ".join(f"{schema}: {len(facts.schemas[schema])} definitions" for schema in SCHEMAS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
