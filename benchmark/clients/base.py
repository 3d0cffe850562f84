# SPDX-License-Identifier: BSD-2-Clause
"""The interface of the measured clients."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from benchmark.meter import Meter, repeat

NODE_NAME: Final = "disk0"
RECEIVE_BYTES: Final = 65536
#: The command with which the stub server sends events.
FLOOD: Final = "x-flood"


def disk_options(image: Path) -> dict[str, Any]:
    """Return the arguments of a `blockdev-add` of a qcow2 image with O_DIRECT."""
    cache = {"direct": True, "no-flush": False}
    file = {"driver": "file", "filename": str(image), "cache": cache, "discard": "unmap"}
    return {"driver": "qcow2", "node-name": NODE_NAME, "cache": cache, "discard": "unmap", "file": file}


class Client(abc.ABC):
    """A client with at most one connection, used as its documentation recommends."""

    name: ClassVar[str]

    def prepare(self) -> None:  # noqa: B027 - optional
        """Set process-wide options before a turn."""

    @abc.abstractmethod
    def connect(self, path: Path) -> None:
        """Connect and negotiate."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close the connection."""

    @abc.abstractmethod
    def query_status(self) -> object:
        """Execute `query-status` and return its result in the form that this client provides."""

    @abc.abstractmethod
    def execute(self, command: str, arguments: dict[str, Any]) -> object:
        """Execute any command and return its result."""

    def add_disk(self, image: Path) -> None:
        """Execute `blockdev-add`."""
        self.execute("blockdev-add", disk_options(image))

    def delete_disk(self) -> None:
        """Execute `blockdev-del`."""
        self.execute("blockdev-del", {"node-name": NODE_NAME})

    def query_all(self, paths: Sequence[Path]) -> None:
        """Connect to many monitors, execute `query-status` on each and close, in the fastest way this client offers."""
        self.prepare()
        for path in paths:
            self.connect(path)
            self.query_status()
            self.close()

    def query_status_turn(self, meter: Meter, calls: int) -> None:
        """Execute `query-status` a number of times."""
        self.prepare()
        repeat(self.query_status)(meter, calls)

    def connect_turn(self, path: Path, meter: Meter, calls: int) -> None:
        """Connect a number of times; closing is not measured."""
        self.prepare()
        for _ in range(calls):
            with meter:
                self.connect(path)
            self.close()

    def add_disk_turn(self, image: Path, meter: Meter, calls: int) -> None:
        """Add an image a number of times; deleting it is not measured."""
        self.prepare()
        for _ in range(calls):
            with meter:
                self.add_disk(image)
            self.delete_disk()


class EventClient(Client):
    """A client that is measured while it receives events."""

    #: The part of the events that this client receives; slow clients receive fewer.
    event_share: ClassVar[float] = 1.0

    @abc.abstractmethod
    def take_events(self, meter: Meter, count: int) -> None:
        """Let the stub server send events, and take them one by one."""
