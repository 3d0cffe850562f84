# SPDX-License-Identifier: BSD-2-Clause
"""Wait for a QEMU that connects to us: ``-chardev socket,path=...,reconnect-ms=1000`` without ``server=on``."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hvkit.errors import ProgrammerError
from hvkit.qmp.connection import QmpConnection
from hvkit.qmp.deadlines import QUICK
from hvkit.qmp.errors import ConnectError


class QmpListener:
    """A unix socket on which monitors call us. It listens from construction to `close`.

    The socket is made readable by its owner only. A file that is left at its path by a listener that was killed is in
    the way; whoever made it removes it.

    Args:
        path: where to listen.
        options: of the connections that are made, as for `QmpConnection`.

    Raises:
        ConnectError: it is not possible to listen there.
    """

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        self._path = Path(path)
        self._options = options
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

    def accept(self, *, timeout: float = QUICK.timeout_s) -> QmpConnection:
        """Wait for a monitor to call, and return the connection to it, ready for commands.

        Args:
            timeout: seconds to wait for the call, `math.inf` for no end; and as many again for the negotiation.

        Raises:
            ConnectError: nobody called in time, or what called is no monitor.
            ProgrammerError: the listener is closed.
        """
        if self._socket.fileno() < 0:
            raise ProgrammerError(f"{self._path}: accept() after close()")
        try:
            self._socket.settimeout(timeout if timeout <= threading.TIMEOUT_MAX else None)
            connected, _ = self._socket.accept()
        except TimeoutError as error:
            raise ConnectError(str(self._path), f"nobody called within {timeout:g} s") from error
        except OSError as error:
            raise ConnectError(str(self._path), f"cannot accept: {error.strerror or error}") from error
        connection = QmpConnection.from_socket(connected, **self._options)
        connection.connect(timeout=timeout)
        return connection

    def close(self) -> None:
        """Stop listening and remove the socket; connections that were made live on. Closing again does nothing."""
        if self._socket.fileno() >= 0:
            self._socket.close()
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
