# SPDX-License-Identifier: BSD-2-Clause
"""`SchemaGraph`: malformed, recursive and damaged schemas."""

from __future__ import annotations

import contextlib
import copy
import functools
import operator
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded_schemas import NEW

from hvkit.qmp import (
    NULL,
    DataError,
    QemuVersion,
    QmpError,
)
from hvkit.qmp.introspection import Introspection
from hvkit.qmp.schema import (
    BlockdevAdd,
    BlockdevOptionsNull,
    BlockdevOptionsQcow2,
)

SMALL: Final[list[dict[str, Any]]] = [
    {"name": "stop", "meta-type": "command", "arg-type": "0", "ret-type": "0"},
    {"name": "0", "meta-type": "object", "members": []},
]


def null_node(**members: Any) -> BlockdevOptionsNull:
    return BlockdevOptionsNull(driver="null-co", **members)


@pytest.mark.parametrize("reply", [None, 5, "x", {}, [5], [[]], [{}], [{"name": "x"}], [{"name": [], "meta-type": 1}]])
def test_introspection_of_malformed_reply_raises_data_error(reply: Any) -> None:
    if reply == {}:
        assert Introspection(reply, QemuVersion(8, 0, 0)).commands() == ()
        return
    with pytest.raises(DataError, match="query-qmp-schema"):
        Introspection(reply, QemuVersion(8, 0, 0))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"stop": {"arg-type": "nowhere"}}, "there is no type 'nowhere'"),
        ({"stop": {"arg-type": 5}}, "expected str, got int"),
        ({"0": {"members": [{"name": "x"}]}}, "member is missing"),
        ({"0": {"members": [{"name": "x", "type": "nowhere"}]}}, "there is no type 'nowhere'"),
    ],
)
def test_missing_with_damaged_schema_names_the_damage(changes: Mapping[str, Mapping[str, Any]], problem: str) -> None:
    damaged = [{**each, **changes.get(each["name"], {})} for each in copy.deepcopy(SMALL)]
    peer = Introspection(damaged, QemuVersion(8, 0, 0))
    with pytest.raises(DataError, match=problem):
        peer.missing("stop", {"x": 1})


def test_introspection_of_recursive_types_terminates() -> None:
    entities = [
        {"name": "stop", "meta-type": "command", "arg-type": "0", "ret-type": "a"},
        {"name": "a", "meta-type": "array", "element-type": "b"},
        {"name": "b", "meta-type": "alternate", "members": [{"type": "a"}, {"type": "b"}]},
        {
            "name": "0",
            "meta-type": "object",
            "tag": "t",
            "variants": [{"case": "c", "type": "0"}],
            "members": [{"name": "x", "type": "b"}],
        },
        {"name": "z", "meta-type": "of-the-future"},
    ]
    peer = Introspection(entities, QemuVersion(8, 0, 0))
    assert not peer.has("stop->/x")
    assert not peer.has("stop/x/y")
    assert [each.path for each in peer.missing("stop", {"t": "c", "q": 1, "x": [[[]]]})] != []


ENTITIES: Final = {entity["name"]: entity for entity in NEW._graph.reply}


#: Some of the entities that the arguments of blockdev-add consist of.
BLOCKDEV_ADD_ENTITIES: Final = sorted(
    {
        "blockdev-add",
        *(
            entity.name
            for step in ("", "/driver", "/driver=qcow2/file", "/driver=raw/offset")
            for name in NEW._get(f"blockdev-add{step}").types
            for entity in (NEW._graph.entity(name), *NEW._graph.expand(name))
        ),
    }
)


JUNK: Final[Any] = [None, 5, "", "x", "driver", "str", [], {}, [{}], {"name": "x"}, *BLOCKDEV_ADD_ENTITIES]


def places_in(data: Any) -> Iterator[tuple[str | int, ...]]:
    """Yield the keys that lead to each place in plain data."""
    items: Any = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (key,)
        yield from ((key, *inner) for inner in places_in(value))


PLACES: Final = [(name, *place) for name in BLOCKDEV_ADD_ENTITIES for place in places_in(ENTITIES[name])]


@given(st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(JUNK)), min_size=1, max_size=3))
def test_introspection_of_any_damage_raises_only_qmp_errors(damages: list[tuple[tuple[Any, ...], Any]]) -> None:
    damaged = {
        name: copy.deepcopy(entity) if name in BLOCKDEV_ADD_ENTITIES else entity for name, entity in ENTITIES.items()
    }
    for (*way, last), junk in damages:
        with contextlib.suppress(LookupError, TypeError):  # an earlier damage removed the place
            functools.reduce(operator.getitem, way, damaged)[last] = junk
    try:
        peer = Introspection(list(damaged.values()), QemuVersion(11, 1, 0))
    except DataError:
        return
    command = BlockdevAdd(BlockdevOptionsQcow2(file=null_node(), backing=NULL, cache_size=1))
    for ask in (
        lambda: peer.has("blockdev-add/driver=qcow2/file/driver=nbd/server/type=unix/path"),
        lambda: peer.members("blockdev-add/driver=qcow2"),
        lambda: peer.values("blockdev-add/driver"),
        lambda: peer.features("blockdev-add/driver=file"),
        lambda: peer.missing(command),
    ):
        with contextlib.suppress(QmpError):
            ask()
