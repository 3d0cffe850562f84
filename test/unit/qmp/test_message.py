# SPDX-License-Identifier: BSD-2-Clause
from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hvkit.errors import ProgrammerError
from hvkit.qmp import DataError, GenericEvent, QemuVersion, QmpMessage, message
from hvkit.qmp.base import Event
from hvkit.qmp.converter import structure
from hvkit.qmp.message import parse_greeting, structure_event

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize("data", [None, [], "{}", 3, QmpMessage({})])
def test_message_from_other_than_dict_raises_type_error(data: Any) -> None:
    with pytest.raises(TypeError):
        QmpMessage(data)


def test_message_reads_and_changes_like_a_dict() -> None:
    message = QmpMessage({"execute": "stop"})
    assert message["execute"] == "stop"
    assert message["absent"] is None
    message["id"] = 3
    assert "id" in message
    assert "absent" not in message
    assert len(message) == 2
    assert list(message) == ["execute", "id"]
    del message["id"]
    assert message == QmpMessage({"execute": "stop"})
    assert message == {"execute": "stop"}
    assert message != {"execute": "cont"}
    assert message != "stop"
    with pytest.raises(KeyError):
        del message["id"]


@given(st.dictionaries(st.text(), JSON).map(lambda data: json.dumps(data).encode()) | st.binary())
@example(b'{"a": NaN}')
@example(b'{"a": "\\ud800"}')
@example(b'{"a": 1, "a": 2}')
@example(b"[" * 2000)
@example(b'{"most": 18446744073709551615, "least": -9223372036854775808}')
def test_orjson_and_standard_library_decode_the_same(line: bytes) -> None:
    """A line that one of them rejects gives the same error, whether or not the extra `fast` is installed."""

    def decoded() -> object:
        try:
            return message.decode(line)
        except DataError as error:
            return str(error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(message, "loads", pytest.importorskip("orjson").loads)
        fast = decoded()
        patch.setattr(message, "loads", message.loads_standard)
        assert decoded() == fast


@pytest.mark.parametrize("reader", ["standard", "orjson"])
def test_integers_of_64_bits_are_exact(reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """QAPI has no longer integers; orjson returns them as floats, which no member of type int accepts."""
    loads = message.loads_standard if reader == "standard" else pytest.importorskip("orjson").loads
    monkeypatch.setattr(message, "loads", loads)
    for number in (2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)):
        assert structure(message.decode(b'{"return": %d}' % number)["return"], int) == number
    if reader == "orjson":
        with pytest.raises(DataError, match="expected int"):
            structure(message.decode(b'{"return": %d}' % 2**64)["return"], int)


def test_orjson_is_imported_after_the_first_lines() -> None:
    program = """if True:
        import sys
        from hvkit.qmp import QmpMessage
        for number in range(100):
            assert QmpMessage.build_from_json_string(b'{"a": %d}' % number) == {"a": number}
            if number == 10:
                assert "orjson" not in sys.modules
        assert "orjson" in sys.modules"""
    pytest.importorskip("orjson")
    subprocess.run([sys.executable, "-c", program], check=True)


@given(st.dictionaries(st.text(), JSON))
def test_message_survives_encoding_on_one_line(data: dict[str, Any]) -> None:
    message = QmpMessage(data)
    assert len(str(message).splitlines()) == 1
    assert message.to_bytes() == str(message).encode()
    assert json.loads(str(message)) == data
    assert QmpMessage.build_from_json_string(str(message)) == message
    assert QmpMessage.build_from_json_string(message.to_bytes()) == message


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "nothing", b"\xff{}", "{} {}"])
def test_decode_of_invalid_line_raises_data_error(text: str | bytes) -> None:
    with pytest.raises(DataError) as caught:
        QmpMessage.build_from_json_string(text)
    assert isinstance(caught.value, ProgrammerError)


def test_encode_of_invalid_data_raises_programmer_error() -> None:
    with pytest.raises(ProgrammerError, match="cannot be sent as JSON"):
        str(QmpMessage({"a": {1, 2}}))


def test_repr_of_message_hides_passwords() -> None:
    message = QmpMessage({"execute": "set_password", "arguments": {"protocol": "vnc", "password": "opensesame"}})
    assert "opensesame" not in repr(message)
    secret = QmpMessage({"execute": "object-add", "arguments": {"qom-type": "secret", "id": "s", "data": "opensesame"}})
    assert "opensesame" not in repr(secret)
    assert "opensesame" in str(secret)


def test_version_compares_with_tuples() -> None:
    greeting = parse_greeting({"QMP": {"version": {"qemu": {"major": 11, "minor": 1, "micro": 3}, "package": "p"}}})
    assert greeting.version == QemuVersion(11, 1, 3, "p")
    assert greeting.version >= (10, 0)
    assert str(greeting.version) == "11.1.3"


def test_parse_greeting_accepts_missing_members() -> None:
    greeting = parse_greeting({"QMP": {"version": {"qemu": {"major": "7"}, "package": 3}, "capabilities": "oob"}})
    assert greeting.version == (0, 0, 0, "")
    assert greeting.capabilities == ()


class BalloonLikeEvent(Event, wire_name="BALLOON_LIKE"):
    actual: int


@pytest.mark.parametrize(
    ("stamp", "seconds"),
    [
        ({"seconds": 12, "microseconds": 500_000}, 12.5),
        ({"seconds": -1, "microseconds": -1}, None),
        ({"seconds": 10**400, "microseconds": 0}, None),
        ({"seconds": "12"}, None),
        (None, None),
        ([], None),
    ],
)
def test_event_has_the_timestamp_of_its_message(stamp: Any, seconds: float | None) -> None:
    event = structure_event({"event": "BALLOON_LIKE", "data": {"actual": 5}, "timestamp": stamp}, BalloonLikeEvent)
    assert event == BalloonLikeEvent(actual=5)
    assert event.timestamp == seconds


def test_event_without_data_has_empty_data() -> None:
    assert structure_event({"event": "NEW"}, None) == GenericEvent(name="NEW", data={})


def test_event_with_invalid_data_names_the_place() -> None:
    with pytest.raises(DataError, match=r"BALLOON_LIKE\.actual: expected int, got str"):
        structure_event({"event": "BALLOON_LIKE", "data": {"actual": "5"}}, BalloonLikeEvent)
