# SPDX-License-Identifier: BSD-2-Clause
"""How connections of threads begin and end, whoever else connects or closes them meanwhile."""

from __future__ import annotations

from types import TracebackType
from typing import Self, TypeVar

from hvkit.errors import ProgrammerError
from hvkit.qmp.common.connection import Endpoint
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.sync.session import Session
from hvkit.qmp.sync.transport import Transport, connect

S = TypeVar("S", bound=Session)


class BlockingEndpoint(Endpoint[S]):
    """Our end of a connection that threads share."""

    def connect(self, *, timeout: float | None = None) -> None:
        """Connect; afterwards commands can be executed. After a failure nothing is left open.

        Args:
            timeout: seconds for all of it; None: the connection's own, or 5.

        Raises:
            ConnectError: there is nobody to talk to.
            ProgrammerError: it is connected already or another thread is connecting it, or it was made of a socket
                that has been used up.
        """
        me = object()
        try:
            with self._guard:
                if self._connecting is not None:
                    raise ProgrammerError(f"{self._name}: connect() while another thread connects")
                deadline = self._begin_connecting(timeout)
                given = self._take_given()
                self._connecting = me
            transport = connect(self._address, deadline) if given is None else Transport(given, self._name)
            session = self._new_session(transport)
            with self._guard:
                if self._connecting is me:
                    self._session = session  # from here on close() ends it
                else:
                    session.end("the connection was closed")
            self._negotiate(session, deadline)
        finally:
            if self._connecting is me:
                self._connecting = None

    def _new_session(self, transport: Transport) -> S:
        """Begin a life of the connection over a transport, which it owns from now on."""
        raise NotImplementedError

    def _negotiate(self, session: S, deadline: Deadline) -> None:
        try:
            session.negotiate(deadline)
        except BaseException:
            if self._session is session:
                self._session = None
            raise

    def close(self) -> None:
        """Close the connection; whoever waits on it gets ConnectionLost. Closing again does nothing."""
        with self._guard:
            self._connecting = None
            session = self._detach()
        if session is not None:
            session.end("the connection was closed")

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
