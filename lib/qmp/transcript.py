# SPDX-License-Identifier: BSD-2-Clause
"""A transcript file of QMP messages, for debugging."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import Any

from hvkit.qmp import log


class Transcript:
    """A file to which messages are appended, one JSON object per line.

    Each message is written at once, with a single write: the file is complete even if the process is killed, and
    several connections may share it. The file is created readable by its owner only.

    Args:
        path: of the file; created if missing.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)

    def add(self, direction: str, message: Mapping[str, Any]) -> None:
        """Append a message. If the file cannot be written, log a warning.

        Args:
            direction: ``->`` for a message sent, ``<-`` for a message received.
            message: the message, with secrets redacted.
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
        except ValueError as error:  # the path contains a null byte
            log.warning(repr(self._path), "cannot write the transcript: %s", error)
