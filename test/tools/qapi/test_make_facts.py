# SPDX-License-Identifier: BSD-2-Clause
"""Generation of a file of facts from source trees and reference manuals."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.qapi.facts import Definition, read_facts
from tools.qapi.make_facts import Source, main, make_facts


def write_tree(root: Path, release: str, schema: str) -> None:
    for program in ("qapi", "qga", "storage-daemon/qapi"):
        (root / program).mkdir(parents=True)
        (root / program / "qapi-schema.json").write_text("")
    (root / "VERSION").write_text(f"{release}\n")
    (root / "qapi" / "qapi-schema.json").write_text("{ 'include': 'one.json' }")
    (root / "qapi" / "one.json").write_text(schema)
    (root / "qga" / "qapi-schema.json").write_text("{ 'command': 'guest-x' }")


def test_make_facts_merges_source_tree_and_reference(tmp_path: Path) -> None:
    write_tree(tmp_path / "old", "1.0.3", "{ 'command': 'c', 'data': { 'a': 'uint8' }, 'allow-oob': true }")
    built = tmp_path / "built"
    built.mkdir()
    built.joinpath("qemu-qmp-ref.html").write_text(
        "<title>QEMU 2.0.1</title><section>"
        '<dt class="sig sig-object qapi" id="command-QMP-one.c">c</dt><dd><dl><dt class="field-odd">Arguments:</dt>'
        '<dd class="field-odd"><ul><li><strong>a</strong> (int, <em>optional</em>)</li></ul></dd></dl></dd></section>'
    )
    built.joinpath("qemu-ga-ref.html").write_text("")
    built.joinpath("qemu-storage-daemon-qmp-ref.html").write_text('<a id="module-QSD-one"></a>')
    facts = make_facts([Source.parse(f"1.0={tmp_path}/old"), Source.parse(f"2.0={built}")])
    assert facts.versions == ("1.0", "2.0")
    assert facts.sources["1.0"] == {"release": "1.0.3", "from": "source tree"}
    assert facts.sources["2.0"] == {"release": "2.0.1", "from": "built reference"}
    assert facts.modules["2.0"] == {"qmp": ("one",), "qsd": ("one",)}
    assert facts.schemas["qmp"]["c"] == {
        "kind": "command",
        "module": "one",
        "flags": ["oob"],
        "members": {"a": {"opt": True, "type": "uint8", "was": {"1.0": {"opt": None}}}},
    }
    assert facts.schemas["qga"]["guest-x"]["v"] == ["1.0"]


def test_make_facts_excludes_auxiliary_versions(tmp_path: Path) -> None:
    write_tree(tmp_path / "a", "1.0.0", "{ 'event': 'E' }")
    write_tree(tmp_path / "b", "2.0.0", "{ 'event': 'F' }")
    facts = make_facts([Source.parse(f"1.0=~{tmp_path}/a"), Source.parse(f"2.0={tmp_path}/b")])
    assert (facts.versions, list(facts.schemas["qmp"])) == (("2.0",), ["F"])


def test_main_writes_a_readable_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tree(tmp_path / "a", "1.0.0", "{ 'event': 'E' }")
    assert main([str(tmp_path / "facts.json"), f"1.0={tmp_path}/a"]) == 0
    assert read_facts(tmp_path / "facts.json").as_of("1.0") == {"E": Definition("event", "one")}
    assert capsys.readouterr().out == "qmp: 1 definitions, qga: 1 definitions\n"


@pytest.mark.parametrize("text", ["1.0", "one=path", "=path"])
def test_source_parse_without_version_raises_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="is not VERSION=SOURCE"):
        Source.parse(text)
