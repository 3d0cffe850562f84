# SPDX-License-Identifier: BSD-2-Clause
"""`passed` and `fdset` against stubs: timeouts and lost connections."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from hvkit.errors import ProgrammerError
from hvkit.qmp import CommandTimeout, ConnectionLost, QmpConnection
from hvkit.qmp.descriptors import fdset, passed
from hvkit.qmp.schema import (
    QueryStatus,
)
from hvkit.testing import CLOSE, SILENCE, QmpStub

OK: Final[dict[str, Any]] = {"return": {}}


@pytest.fixture
def unlinked(tmp_path: Path) -> Iterator[int]:
    """A descriptor of an unlinked file."""
    path = tmp_path / "disk"
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.truncate(fd, 1 << 20)
    path.unlink()
    yield fd
    os.close(fd)


def test_passed_after_getfd_timeout_sends_closefd(tmp_path: Path, unlinked: int) -> None:
    path = tmp_path / "qmp.sock"
    script = [
        ({"execute": "getfd", "arguments": {"fdname": "mine"}}, SILENCE),
        ({"execute": "closefd", "arguments": {"fdname": "mine"}}, OK),
        ({"execute": "query-status"}, {"return": {"status": "running", "running": True}}),
    ]
    with QmpStub(path, script), QmpConnection(path, deadlines={"getfd": 0.1}) as connection:
        with pytest.raises(CommandTimeout) as caught, passed(connection, unlinked, "mine"):
            pytest.fail("the block must not be entered")
        assert caught.value.command == "getfd"
        assert connection.execute(QueryStatus()).running


def test_fdset_after_add_fd_timeout_sends_remove_fd(tmp_path: Path, unlinked: int) -> None:
    path = tmp_path / "qmp.sock"
    script = [
        (None, {"return": {"fdset-id": 1, "fd": 9}}),
        (None, SILENCE),
        (None, {"error": {"class": "GenericError", "desc": "File descriptor named 'fdset-id:1' not found"}}),
    ]
    with QmpStub(path, script) as stub, QmpConnection(path, deadlines={"add-fd": 0.1}) as connection:
        with pytest.raises(CommandTimeout) as caught, fdset(connection, unlinked, unlinked):
            pytest.fail("the block must not be entered")
        assert caught.value.command == "add-fd"
    _, first, second, third = stub.requests
    assert [each["execute"] for each in (first, second, third)] == ["add-fd", "add-fd", "remove-fd"]
    assert len({each["arguments"]["fdset-id"] for each in (first, second, third)}) == 1


def test_passed_with_lost_connection_raises_the_error_of_the_block(tmp_path: Path, unlinked: int) -> None:
    path = tmp_path / "qmp.sock"
    with QmpStub(path, [(None, OK), (None, CLOSE)]), QmpConnection(path) as connection:
        with pytest.raises(ZeroDivisionError) as caught, passed(connection, unlinked):
            raise ZeroDivisionError
        assert "QEMU may still have the passed descriptors open" in caught.value.__notes__[0]


def test_passed_with_failed_closefd_raises_connection_lost(tmp_path: Path, unlinked: int) -> None:
    path = tmp_path / "qmp.sock"
    with QmpStub(path, [(None, OK), (None, CLOSE)]), QmpConnection(path) as connection:  # noqa: SIM117
        with pytest.raises(ConnectionLost, match="closefd"), passed(connection, unlinked):
            pass


def test_fdset_without_descriptors_raises_programmer_error(tmp_path: Path) -> None:
    with pytest.raises(ProgrammerError), fdset(QmpConnection(tmp_path / "qmp.sock")):
        pass
