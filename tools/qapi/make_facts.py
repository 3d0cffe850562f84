# SPDX-License-Identifier: BSD-2-Clause
"""Write a file of facts, from what QEMU itself ships.

Usage: python -m tools.qapi.make_facts OUTPUT VERSION=SOURCE[@REPLY] ...

Versions come oldest first. A SOURCE is a source tree (it has qapi/qapi-schema.json), or a directory with the built
reference (qemu-qmp-ref.html and its sisters). REPLY is a recorded reply to query-qmp-schema of that version, which says
where a reference's features belong. A SOURCE after ``~`` is no version of the file: it only lends a later reference
what that one does not tell.
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
from tools.qapi.reference import lend, place_features, read_modules, read_reference
from tools.qapi.source_tree import read_source_tree

_RELEASE = re.compile(r"QEMU[^<]{0,40}?(\d+\.\d+\.\d+)")


@attrs.frozen
class Source:
    """Where the facts of one version come from.

    Attributes:
        version: two numbers, such as 10.0.
        path: a source tree, or the directory of a built reference.
        reply: a recorded reply to `query-qmp-schema`; None where there is none.
        only_lends: whether the version itself stays out of the file.
    """

    version: str
    path: Path
    reply: Path | None
    only_lends: bool

    @classmethod
    def parse(cls, text: str) -> Source:
        """Read ``VERSION=[~]SOURCE[@REPLY]``.

        Raises:
            ValueError: it is not of that form.
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
        schemas: by schema, the definitions by name.
        modules: by program (qmp, qsd), its QAPI modules.
        release: the exact version.
        origin: what kind of source they are from.
    """

    schemas: Mapping[str, Mapping[str, Definition]]
    modules: Mapping[str, Sequence[str]]
    release: str
    origin: str


def read_tree(path: Path) -> VersionFacts:
    """Read the facts of a source tree."""
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
    """Return a definition as the newest of some versions has it."""
    return next((each.schemas[schema][name] for each in reversed(facts) if name in each.schemas[schema]), None)


def read_built_reference(path: Path, version: str, older: Sequence[VersionFacts]) -> VersionFacts:
    """Read the facts of a built reference.

    Args:
        path: the directory of its files.
        version: to be used where the reference does not name its release.
        older: the facts of older versions, newest last, which lend what the reference does not tell.
    """
    monitor = path / "qemu-qmp-ref.html"
    told = {"qmp": read_reference(monitor, "qmp"), "qga": read_reference(path / "qemu-ga-ref.html", "qga")}
    schemas = {
        schema: {name: lend(each, _newest(name, schema, older)) for name, each in told[schema].items()}
        for schema in SCHEMAS
    }
    release = _RELEASE.search(monitor.read_text(encoding="utf-8"))
    return VersionFacts(
        schemas=schemas,
        modules={
            "qmp": tuple(sorted({each.definition.module for each in told["qmp"].values()})),
            "qsd": read_modules(path / "qemu-storage-daemon-qmp-ref.html", "QSD"),
        },
        release=release[1] if release else version,
        origin="built reference",
    )


def make_facts(sources: Sequence[Source]) -> Facts:
    """Read all sources, oldest first, and merge them.

    Raises:
        MergeError: the facts do not hold together.
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
        if not source.only_lends:
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
