# SPDX-License-Identifier: BSD-2-Clause
"""Parsing of command arguments by the types in the schema."""

from __future__ import annotations

from typing import Any

import pytest

from hvkit.cli.qmp_arguments import ArgumentError, build_command, parse_free, parse_words
from hvkit.qmp import NULL, schema
from hvkit.qmp.converter import unstructure
from hvkit.qmp.schema import (
    BlockdevAdd,
    BlockdevOptionsFile,
    BlockdevOptionsQcow2,
    BlockResize,
    DeviceAdd,
    QueryStatus,
)


def build(command: str, *words: str) -> Any:
    return build_command(schema.command(command), words)


def test_command_without_arguments_is_built() -> None:
    assert build("query-status") == QueryStatus()


def test_value_is_converted_to_member_type() -> None:
    assert build("block_resize", "node-name=d0", "size=0x100000") == BlockResize(node_name="d0", size=1 << 20)


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("on", True), ("yes", True), ("false", False), ("off", False)]
)
def test_boolean_words_are_converted(text: str, value: bool) -> None:
    assert build("object-add", "qom-type=secret", "id=s", f"loaded={text}").arguments.loaded is value


def test_number_for_string_member_stays_string() -> None:
    assert build("device_del", "id=5").id == "5"


def test_dotted_keys_build_selected_union_branch() -> None:
    built = build("blockdev-add", "driver=qcow2", "node-name=d0", "file.driver=file", "file.filename=/srv/a=b")
    file = BlockdevOptionsFile(driver="file", filename="/srv/a=b")
    assert built == BlockdevAdd(BlockdevOptionsQcow2(driver="qcow2", node_name="d0", file=file))


def test_alternate_accepts_string() -> None:
    assert build("blockdev-add", "driver=qcow2", "file=f0").arguments.file == "f0"


def test_structure_accepts_json() -> None:
    built = build("blockdev-add", "driver=qcow2", 'file={"driver": "file", "filename": "/srv/a"}')
    assert isinstance(built.arguments.file, BlockdevOptionsFile)


def test_list_accepts_json() -> None:
    words = ('capabilities=[{"capability": "xbzrle", "state": true}]',)
    assert build("migrate-set-capabilities", *words).capabilities[0].state is True


def test_free_form_arguments_are_parsed_as_json_or_string() -> None:
    built = build("device_add", "driver=virtio-blk-pci", "id=d0", "drive=n0", "bootindex=1", "write-cache=on")
    properties = {"drive": "n0", "bootindex": 1, "write-cache": "on"}
    assert built == DeviceAdd(driver="virtio-blk-pci", id="d0", properties=properties)


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (("value=5",), 5),
        (("value=on",), "on"),
        (("value=NaN",), "NaN"),
        (("value=[1]",), [1]),
        (("value.a=1", "value.b=c"), {"a": 1, "b": "c"}),
    ],
)
def test_member_of_any_type_is_parsed_as_json_or_string(words: tuple[str, ...], value: Any) -> None:
    assert build("qom-set", "path=/a", "property=b", *words).value == value


@pytest.mark.parametrize(("text", "value"), [("null", NULL), ("io1", "io1")])
def test_null_is_accepted_where_schema_allows_it(text: str, value: Any) -> None:
    assert build("x-blockdev-set-iothread", "node-name=a", f"iothread={text}").iothread == value


def test_unknown_union_tag_is_passed_through() -> None:
    built = build("blockdev-add", "driver=brand-new", "node-name=a")
    assert unstructure(built) == {"driver": "brand-new", "node-name": "a"}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("block_resize", "size=big"), "size: expected an integer, got 'big'"),
        (("block_resize", "node-nam=a", "size=1"), "node-nam: no such member; did you mean node-name?"),
        (("block_resize", "node-name=a"), "size: member is missing"),
        (("query-status", "a=1"), "a: no such member; members: none"),
        (("blockdev-add", "node-name=d0"), "driver: missing; expected one of blkdebug"),
        (("blockdev-add", "driver=qcow2", "file.filename=/a"), "file.driver: missing; expected one of blkdebug"),
        (
            ("blockdev-add", "driver=qcow2", "file.driver=file", "file.filenam=/a"),
            "file.filenam: no such member; did you mean",
        ),
        (("object-add", "qom-type=secret", "id=a", "loaded=maybe"), "loaded: expected true or false, got 'maybe'"),
        (("block_resize", "size.a=1"), "size: not a structure, so it has no members"),
        (("migrate-set-capabilities", "capabilities={}"), "capabilities: expected a JSON array, got '{}'"),
        (("migrate-set-capabilities", "capabilities=[1]"), "capabilities[0]: expected object, got int"),
    ],
)
def test_invalid_argument_names_key(words: tuple[str, ...], text: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        build(*words)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("a",), "expected key=value, got 'a'"),
        (("=a",), "expected key=value, got '=a'"),
        (("a..b=1",), "expected key=value, got 'a..b=1'"),
        (("a=1", "a=2"), "a: given twice"),
        (("a=1", "a.b=2"), "a.b: conflicts with an earlier key that has a value"),
        (("a.b=1", "a=2"), "a: given twice"),
    ],
)
def test_parse_words_rejects_invalid_words(words: tuple[str, ...], text: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        parse_words(words)
    assert str(caught.value) == text


@pytest.mark.parametrize("value", ["[" * 99999, "[" * 900 + "]" * 900, '{"a":' * 200 + "1" + "}" * 200])
@pytest.mark.parametrize("words", [("device_add", "driver=a", "x="), ("blockdev-add", "driver=qcow2", "file=")])
def test_deep_value_is_rejected(words: tuple[str, ...], value: str) -> None:
    *others, last = words
    with pytest.raises(ArgumentError, match=r"^(x|file): is nested too deeply$"):
        build(*others, last + value)


def test_deep_key_is_rejected() -> None:
    with pytest.raises(ArgumentError, match=r"^a\.a\.[a.]*: is nested too deeply$"):
        parse_words(["a." * 5000 + "a=1"])


def test_long_backing_chain_is_accepted() -> None:
    backing = '{"driver": "qcow2", "file": "f", "backing": ' * 90 + '"base"' + "}" * 90
    assert unstructure(build("blockdev-add", "driver=qcow2", "file=f", f"backing={backing}"))["backing"]


def test_parse_free_converts_json_values() -> None:
    tree = parse_words(["a=1", "b.c=true", "b.d=x", "e={}"])
    assert parse_free(tree) == {"a": 1, "b": {"c": True, "d": "x"}, "e": {}}


def test_built_command_can_be_unstructured() -> None:
    built = build("blockdev-add", "driver=raw", "read-only=on", "file.driver=file", "file.filename=/a")
    assert unstructure(built) == {"driver": "raw", "read-only": True, "file": {"driver": "file", "filename": "/a"}}
