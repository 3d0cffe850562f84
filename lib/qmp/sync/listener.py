# SPDX-License-Identifier: BSD-2-Clause
"""A listener for QEMU processes that connect to hvkit.

Such a QEMU has the option ``-chardev socket,path=...,reconnect-ms=1000``, without ``server=on``.
"""

from __future__ import annotations

from hvkit.qmp.common.listener import BaseListener
from hvkit.qmp.deadlines import LONGEST_POLL_S
from hvkit.qmp.sync.connection import QmpConnection


class QmpListener(BaseListener):
    """A unix socket to which monitors connect; it listens from construction to `close`.

    Only the owner can use the socket. The path must not exist: a socket left there by a process that was killed has to
    be removed first.

    Args:
        path: path of the socket.
        options: options of the connections that `accept` returns, as for `QmpConnection`.

    Raises:
        ConnectError: the socket cannot be created.
    """

    def accept(self, *, timeout: float | None = None) -> QmpConnection:
        """Wait for a monitor to connect, and return the connection to it, ready for commands.

        Args:
            timeout: seconds to wait for the monitor, and as many again for the negotiation; None: 5, `math.inf`: no
                limit.

        Raises:
            ConnectError: no monitor connected in time, the negotiation failed, or the listener was closed.
            ProgrammerError: the listener was closed before, or the timeout is not a number.
        """
        timeout_s = self._begin_accept(timeout)
        try:
            self._socket.settimeout(max(timeout_s, 0.0) if timeout_s <= LONGEST_POLL_S else None)
            connected, _ = self._socket.accept()
        except (TimeoutError, BlockingIOError) as error:  # BlockingIOError: the timeout is 0
            raise self._timeout_error(timeout_s) from error
        except OSError as error:
            raise self._accept_error(error) from error
        connection = QmpConnection.from_socket(connected, **self._options)
        connection.connect(timeout=timeout_s)
        return connection
