# SPDX-License-Identifier: BSD-2-Clause
"""Wait for a QEMU that connects to us: ``-chardev socket,path=...,reconnect-ms=1000`` without ``server=on``."""

from __future__ import annotations

import threading

from hvkit.qmp.common.listener import ListeningSocket
from hvkit.qmp.deadlines import QUICK
from hvkit.qmp.sync.connection import QmpConnection


class QmpListener(ListeningSocket):
    """A unix socket on which monitors call us. It listens from construction to `close`.

    The socket is made readable by its owner only. A file that is left at its path by a listener that was killed is in
    the way; whoever made it removes it.

    Args:
        path: where to listen.
        options: of the connections that are made, as for `QmpConnection`.

    Raises:
        ConnectError: it is not possible to listen there.
    """

    def accept(self, *, timeout: float = QUICK.timeout_s) -> QmpConnection:
        """Wait for a monitor to call, and return the connection to it, ready for commands.

        Args:
            timeout: seconds to wait for the call, `math.inf` for no end; and as many again for the negotiation.

        Raises:
            ConnectError: nobody called in time, or what called is no monitor, or the listener was closed meanwhile.
            ProgrammerError: the listener is closed.
        """
        self._check_open()
        try:
            self._socket.settimeout(timeout if timeout <= threading.TIMEOUT_MAX else None)
            connected, _ = self._socket.accept()
        except TimeoutError as error:
            raise self._nobody(timeout) from error
        except OSError as error:
            raise self._no_accept(error) from error
        connection = QmpConnection.from_socket(connected, **self._options)
        connection.connect(timeout=timeout)
        return connection
