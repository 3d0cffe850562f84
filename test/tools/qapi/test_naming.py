# SPDX-License-Identifier: BSD-2-Clause
"""Python names for names in the schema."""

from __future__ import annotations

import pytest

from tools.qapi.naming import camel_case, default_wire_name, event_class_name, member_name


@pytest.mark.parametrize(
    ("wire_name", "kind", "name"),
    [
        ("node-name", "struct", "node_name"),
        ("oem_id", "struct", "oem_id"),
        ("in", "struct", "in_"),
        ("str", "struct", "str_"),
        ("tag", "union", "tag_"),
        ("tag", "struct", "tag"),
        ("timestamp", "event", "timestamp_"),
        ("unknown", "command", "unknown_"),
        ("UUID", "command", "UUID"),
    ],
)
def test_member_name_avoids_keywords_and_attributes(wire_name: str, kind: str, name: str) -> None:
    assert member_name(wire_name, kind) == name


def test_default_wire_name_replaces_underscores() -> None:
    assert default_wire_name("node_name") == "node-name"
    assert default_wire_name("in_") == "in"
    assert default_wire_name("oem_id") != "oem_id"


@pytest.mark.parametrize("wire_name", ["4k", "_x", "x.y"])
def test_member_name_of_invalid_identifier_raises_value_error(wire_name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a Python name"):
        member_name(wire_name, "struct")


def test_camel_case_and_event_class_name_give_class_names() -> None:
    assert camel_case("query-cpus-fast") == "QueryCpusFast"
    assert camel_case("block_set_io_throttle") == "BlockSetIoThrottle"
    assert camel_case("x-query-virtio") == "XQueryVirtio"
    assert event_class_name("BLOCK_IO_ERROR") == "BlockIoErrorEvent"
