# SPDX-License-Identifier: BSD-2-Clause
"""A file that remembers what was said, for whoever has to find out why."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import Any

from hvkit.qmp import log


class Transcript:
    """Appends messages to a file, one JSON object a line.

    Each is written at once and by a single write, so that what a process said last is there when it was killed, and
    several connections may share a file. The file is made readable by its owner only.

    Args:
        path: of the file; it is made where it is missing.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)

    def add(self, direction: str, message: Mapping[str, Any]) -> None:
        """Append a message; where the file cannot be written a warning is logged, and the conversation goes on.

        Args:
            direction: ``->`` for one we sent, ``<-`` for one we received.
            message: without its secrets.
        """
        line = json.dumps({"time": time.time(), "direction": direction, "message": message}) + "\n"
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            log.warning(self._path, "cannot write the transcript: %s", error.strerror)
        except ValueError as error:  # a path that cannot be one: a null byte in it
            log.warning(repr(self._path), "cannot write the transcript: %s", error)
