# SPDX-License-Identifier: BSD-2-Clause
"""Conversion of a small schema that contains every special case."""

from __future__ import annotations

import copy
import pickle
from typing import Any, Literal, TypeAlias

import attrs
import pytest

from hvkit.errors import HypervisorError, ProgrammerError
from hvkit.qmp import NULL, Command, DataError, Event
from hvkit.qmp.base import FreeForm, Null, Struct, Union, free_form, resolve, wire
from hvkit.qmp.converter import structure, unstructure

Mode = Literal["on", "off"]
#: As text, because it names a class further down.
Ref: TypeAlias = "Node | str"
RefOrNull: TypeAlias = "Node | str | Null"


class Leaf(Struct):
    size: int
    mode: Mode
    in_: bool | None = None
    two_words: str | None = None
    oem_id: str | None = wire("oem_id", default=None)
    UUID: str | None = None


class Node(Union, tag="driver", branches={"file": "NodeFile", "stack": "NodeStack"}):
    driver: str
    node_name: str | None = None


class NodeFile(Node):
    driver: Literal["file"] = "file"
    filename: str


class NodeStack(Node):
    driver: Literal["stack"] = "stack"
    below: Ref
    backing: RefOrNull | None = None
    anything: Any = None
    leaves: list[Leaf] | None = None


class Ask(Command["list[Leaf]"], wire_name="ask-x"):
    which: str | None = None


class Tell(Command[None], wire_name="tell", whole_argument="arguments", kw_only=False):
    arguments: Node


class Open(Command[None], wire_name="open_it"):
    driver: str
    properties: FreeForm = free_form(factory=dict)


class HappenedEvent(Event, wire_name="HAPPENED"):
    leaf: Leaf


class Wide(Leaf):
    ratio: float
    secret: int = 3


#: Constructor calls that type checkers reject.
ANY_LEAF: Any = Leaf
ANY_ASK: Any = Ask
ANY_TELL: Any = Tell
LEAF = {"size": 2**64 - 1, "mode": "on"}


def test_struct_survives_a_round_trip() -> None:
    data = {**LEAF, "in": True, "two-words": "x", "oem_id": "y", "UUID": "z"}
    leaf = structure(data, Leaf)
    assert leaf == Leaf(size=2**64 - 1, mode="on", in_=True, two_words="x", oem_id="y", UUID="z")
    assert unstructure(leaf) == data


def test_absent_members_are_none_and_stay_absent() -> None:
    leaf = structure(LEAF, Leaf)
    assert leaf.two_words is None
    assert unstructure(leaf) == LEAF


def test_unknown_members_are_readable_and_sent_again() -> None:
    data = {**LEAF, "newer": {"deep": [1]}}
    leaf = structure(data, Leaf)
    assert leaf.unknown == {"newer": {"deep": [1]}}
    assert unstructure(leaf) == data
    assert leaf != structure(LEAF, Leaf)
    assert unstructure(structure(LEAF, Leaf).with_unknown({"newer": {"deep": [1]}})) == data


def test_enumeration_accepts_unknown_value() -> None:
    assert structure({"size": 1, "mode": "automatic"}, Leaf).mode == "automatic"


@pytest.mark.parametrize(
    ("data", "kind", "text"),
    [
        (5, str, "expected str, got int"),
        ("no", bool, "expected bool, got str"),
        (True, int, "expected int, got bool"),
        (1.0, int, "expected int, got number"),
        ("1", float, "expected number, got str"),
        ([], Leaf, "expected object, got array"),
        ({"size": 1}, Leaf, "mode: member is missing"),
        ({**LEAF, "size": None}, Leaf, "size: expected int, got null"),
        ({**LEAF, "mode": 1}, Leaf, "mode: expected str, got int"),
        ({**LEAF, "in": "yes"}, Leaf, "in: expected bool, got str"),
        ([LEAF, {**LEAF, "oem_id": 1}], list[Leaf], r"\[1\].oem_id: expected str, got int"),
        ({"driver": "file"}, Node, "filename: member is missing"),
        ({"driver": 3}, Node, "driver: expected str, got int"),
        ({}, Node, "driver: member is missing"),
        ("x", Node, "expected object, got str"),
        ({"driver": "stack", "below": 4}, Node, "below: expected object or str, got int"),
        ({"driver": "stack", "below": None}, Node, "below: expected object or str, got null"),
        (
            {"driver": "stack", "below": "a", "leaves": [LEAF, {**LEAF, "two-words": []}]},
            Node,
            r"leaves\[1\].two-words: expected str, got array",
        ),
    ],
)
def test_structure_of_invalid_data_names_the_place_in_wire_names(data: Any, kind: Any, text: str) -> None:
    with pytest.raises(DataError, match=f"^{text}$") as caught:
        structure(data, kind)
    assert isinstance(caught.value, HypervisorError)
    assert isinstance(caught.value, ProgrammerError)


def test_structure_error_path_starts_with_where() -> None:
    with pytest.raises(DataError, match=r"^query-leaves\[0\]\.size: expected int, got str$") as caught:
        structure([{"size": "1", "mode": "on"}], list[Leaf], where="query-leaves")
    assert caught.value.path == "query-leaves[0].size"


def test_number_accepts_an_integer_and_keeps_it() -> None:
    assert type(structure({**LEAF, "ratio": 3}, Wide).ratio) is int


def test_null_differs_from_absent() -> None:
    data = {"driver": "stack", "below": "a", "backing": None, "anything": None}
    node = structure(data, Node)
    assert isinstance(node, NodeStack)
    assert node.backing is NULL
    assert node.anything is NULL
    assert unstructure(node) == data
    assert structure({"driver": "stack", "below": "a"}, NodeStack).backing is None


def test_any_keeps_its_content() -> None:
    data = {"driver": "stack", "below": "a", "anything": {"x": [None, {"y": None}]}}
    assert unstructure(structure(data, Node)) == data


@pytest.mark.parametrize("below", ["a", {"driver": "file", "filename": "f"}])
def test_alternate_is_selected_by_json_type(below: Any) -> None:
    data = {"driver": "stack", "below": below}
    node = structure(data, Node)
    assert isinstance(node, NodeStack)
    assert isinstance(node.below, str if isinstance(below, str) else NodeFile)
    assert unstructure(node) == data


def test_null_stays_the_same_object_when_copied() -> None:
    assert copy.deepcopy(NULL) is NULL
    assert pickle.loads(pickle.dumps(NULL)) is NULL  # noqa: S301
    assert not NULL


def test_union_branch_is_selected_by_tag() -> None:
    node = structure({"driver": "file", "filename": "f", "node-name": "n"}, Node)
    assert node == NodeFile(filename="f", node_name="n")
    assert isinstance(node, Node)


def test_union_with_unknown_tag_keeps_all_members() -> None:
    data = {"driver": "newer", "node-name": "n", "speed": 3}
    node = structure(data, Node)
    assert type(node) is Node
    assert node.unknown == {"speed": 3}
    assert unstructure(node) == data


def test_recursive_value_survives_a_round_trip() -> None:
    data: dict[str, Any] = {"driver": "file", "filename": "f"}
    for _ in range(50):
        data = {"driver": "stack", "below": data}
    assert unstructure(structure(data, Node)) == data


def test_command_has_wire_name_and_reply_type() -> None:
    assert Ask.wire_name == "ask-x"
    assert Ask.reply_type == list[Leaf]
    assert Tell.reply_type is type(None)
    assert unstructure(Ask()) == {}
    assert unstructure(Ask(which="a")) == {"which": "a"}


def test_command_with_whole_argument_takes_it_by_position() -> None:
    command = Tell(NodeFile(filename="f"))
    assert command == Tell(arguments=NodeFile(filename="f"))
    assert unstructure(command) == {"driver": "file", "filename": "f"}
    assert structure({"driver": "file", "filename": "f"}, Tell) == command


def test_free_form_members_are_sent_beside_the_others() -> None:
    command = Open(driver="virtio-blk-pci", properties={"num-queues": 4, "write-cache": "on"})
    data = {"driver": "virtio-blk-pci", "num-queues": 4, "write-cache": "on"}
    assert unstructure(command) == data
    assert structure(data, Open) == command


def test_free_form_member_is_empty_by_default_and_not_shared() -> None:
    command = Open(driver="d")
    assert command.properties == {}
    assert command.properties is not Open(driver="d").properties
    assert pickle.loads(pickle.dumps(command)) == command  # noqa: S301


def test_unstructure_of_invalid_value_names_the_place() -> None:
    with pytest.raises(ProgrammerError, match=r"^open_it\.x\[1\]\.y: object cannot be sent as JSON$"):
        unstructure(Open(driver="d", properties={"x": [1, {"y": object()}]}))
    with pytest.raises(ProgrammerError, match="a key must be a string, not int"):
        unstructure(Open(driver="d", properties={"x": {1: 2}}))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ANY_LEAF(size=1), "Leaf: member 'mode' is missing"),
        (lambda: ANY_LEAF(size=1, mode="on", in_q=2), "Leaf: no member 'in_q'"),
        (lambda: ANY_ASK("a"), "Ask takes its members as keywords"),
        (lambda: ANY_TELL(1, arguments=2), "Tell takes its members as keywords"),
        (lambda: Leaf(size=1, mode="on").evolve(colour="red"), "Leaf: no member 'colour'"),
    ],
)
def test_constructor_with_wrong_members_raises_programmer_error(make: Any, text: str) -> None:
    with pytest.raises(ProgrammerError, match=text):
        make()


def test_values_are_immutable_equal_hashable_and_copyable() -> None:
    leaf = Leaf(size=1, mode="on")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        leaf.size = 2  # type: ignore[misc]
    assert leaf == Leaf(size=1, mode="on")
    assert hash(leaf) == hash(Leaf(size=1, mode="on"))
    assert leaf != Wide(size=1, mode="on", ratio=1.0)
    assert copy.deepcopy(leaf) == leaf
    assert pickle.loads(pickle.dumps(leaf)) == leaf  # noqa: S301
    assert leaf.evolve(mode="off") == Leaf(size=1, mode="off")


def test_repr_shows_present_members_and_no_secret() -> None:
    assert repr(Leaf(size=1, mode="on")) == "Leaf(size=1, mode='on')"
    assert "unknown={'a': 1}" in repr(Leaf(size=1, mode="on").with_unknown({"a": 1}))

    class Login(Command[None], wire_name="login"):
        user: str
        password: str

    assert repr(Login(user="u", password="opensesame")).endswith("Login(user='u', password=<hidden>)")


def test_events_that_differ_in_timestamp_are_equal() -> None:
    event = HappenedEvent(leaf=Leaf(size=1, mode="on"))
    assert event.stamped(3.5).timestamp == 3.5
    assert event.stamped(3.5) == event
    assert event != HappenedEvent(leaf=Leaf(size=2, mode="on"))


def test_alias_resolves_to_the_same_type_everywhere() -> None:
    assert resolve("Ref", __name__) == Node | str
    assert resolve("list[Ref] | None", __name__) == list[Node | str] | None
