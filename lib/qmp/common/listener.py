# SPDX-License-Identifier: BSD-2-Clause
"""The listening unix socket of a listener. No method waits."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hvkit.errors import ProgrammerError
from hvkit.qmp.common.transport import check_socket_path
from hvkit.qmp.deadlines import QUICK, check_timeout
from hvkit.qmp.errors import ConnectError


class BaseListener:
    """A unix socket to which monitors connect; it listens from construction to `close`.

    Only the owner can use the socket. The path must not exist: a socket left there by a process that was killed has to
    be removed first.

    Args:
        path: path of the socket.
        options: options of the connections that `accept` returns.

    Raises:
        ConnectError: the socket cannot be created.
    """

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        try:
            check_socket_path(os.fsdecode(path))
        except ValueError as error:
            raise ConnectError(os.fspath(path), f"cannot listen: {error}") from error
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

    def _begin_accept(self, timeout: float | None) -> float:
        """Return the timeout in seconds.

        Raises:
            ProgrammerError: the listener is closed, or the timeout is not a number.
        """
        if self._is_closed:
            raise ProgrammerError(f"{self._path}: accept() after close()")
        if timeout is None:
            return QUICK.timeout_s
        check_timeout(timeout)
        return timeout

    def _timeout_error(self, timeout_s: float) -> ConnectError:
        return ConnectError(str(self._path), f"no monitor connected within {timeout_s:g} s")

    def _accept_error(self, error: OSError) -> ConnectError:
        if self._is_closed:
            return ConnectError(str(self._path), "the listener was closed")
        return ConnectError(str(self._path), f"cannot accept: {error.strerror or error}")

    def close(self) -> None:
        """Stop listening and remove the socket; accepted connections stay open. Does nothing if it is closed.

        A waiting `accept` raises ConnectError.
        """
        if not self._is_closed:
            self._is_closed = True
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes waiting threads
            self._socket.close()
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
