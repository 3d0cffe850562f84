# SPDX-License-Identifier: BSD-2-Clause
"""A unix socket that waits to be called; what threads and tasks have in common of that. Nothing here waits."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hvkit.errors import ProgrammerError
from hvkit.qmp.errors import ConnectError


class ListeningSocket:
    """A unix socket on which monitors call us. It listens from construction to `close`.

    The socket is made readable by its owner only. A file that is left at its path by a listener that was killed is in
    the way; whoever made it removes it.

    Args:
        path: where to listen.
        options: of the connections that are made.

    Raises:
        ConnectError: it is not possible to listen there.
    """

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        self._path = Path(path)
        self._options = options
        self._is_closed = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            previous = os.umask(0o077)
            try:
                self._socket.bind(os.fspath(path))
            finally:
                os.umask(previous)
            self._socket.listen(1)
        except OSError as error:
            self._socket.close()
            raise ConnectError(os.fspath(path), f"cannot listen: {error.strerror or error}") from error

    def _check_open(self) -> None:
        if self._is_closed:
            raise ProgrammerError(f"{self._path}: accept() after close()")

    def _nobody(self, timeout: float) -> ConnectError:
        return ConnectError(str(self._path), f"nobody called within {timeout:g} s")

    def _no_accept(self, error: OSError) -> ConnectError:
        """Return what to raise where the kernel gives no connection."""
        if self._is_closed:
            return ConnectError(str(self._path), "the listener was closed")
        return ConnectError(str(self._path), f"cannot accept: {error.strerror or error}")

    def close(self) -> None:
        """Stop listening and remove the socket; connections that were made live on. Closing again does nothing.

        Whoever waits for a call gets ConnectError.
        """
        if not self._is_closed:
            self._is_closed = True
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes threads that wait
            self._socket.close()
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
