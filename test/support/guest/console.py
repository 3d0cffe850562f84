# SPDX-License-Identifier: BSD-2-Clause
"""A client of the tiny guest's serial console."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import socket
import threading
from types import TracebackType
from typing import Final, Self

#: Timeouts for TCG on a busy machine. The waits end as soon as the guest answers.
BOOT_TIMEOUT_S: Final = 90.0
ANSWER_TIMEOUT_S: Final = 30.0

_CONNECT_TIMEOUT_S: Final = 5.0
_RECEIVE_SIZE: Final = 4096
_READY: Final = r"GUEST-READY [\d.]+"
#: The shell prints a query of the cursor position before each prompt.
_PROMPT: Final = r"tiny# "
_SHOWN_LENGTH: Final = 2000


class GuestConsole:
    """A client of the serial port's socket. A thread reads continuously until QEMU closes the connection.

    It must read, because about 280 unread characters fill the socket and block the guest in printk. QEMU serves one
    client at a time, and discards output while no client is connected.

    Each search starts after the previous match.

    Args:
        path: the socket on which QEMU listens.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.settimeout(_CONNECT_TIMEOUT_S)
            self._socket.connect(os.fspath(path))
            self._socket.settimeout(None)
        except OSError:
            self._socket.close()
            raise
        self._changed = threading.Condition()
        self._transcript = ""
        self._found_to = 0
        self._has_ended = False
        self._commands = 0
        self._reader = threading.Thread(target=self._read, name=f"console {os.fspath(path)}", daemon=True)
        self._reader.start()

    @property
    def transcript(self) -> str:
        """The complete output of the guest."""
        with self._changed:
            return self._transcript

    def wait_for(self, pattern: str, timeout_s: float = ANSWER_TIMEOUT_S) -> re.Match[str]:
        """Wait until the output matches a pattern.

        Args:
            pattern: a regular expression.
            timeout_s: maximum wait in seconds.

        Raises:
            AssertionError: no match before the timeout. The text contains the end of the output.
        """
        wanted = re.compile(pattern, re.DOTALL)
        with self._changed:
            self._changed.wait_for(lambda: self._has_ended or self._search(wanted), timeout_s)
            found = self._search(wanted)
            if not found:
                problem = "the console ended" if self._has_ended else f"not within {timeout_s:g} s"
                raise AssertionError(f"no {pattern!r}: {problem}; output: {self._transcript[-_SHOWN_LENGTH:]}")
            self._found_to = found.end()
            return found

    def wait_until_ready(self, timeout_s: float = BOOT_TIMEOUT_S) -> None:
        """Wait until the guest has booted and the shell reads input. Earlier input is lost.

        Raises:
            AssertionError: the guest did not boot in time.
        """
        self.wait_for(_READY, timeout_s)
        self.wait_for(_PROMPT)

    def run(self, command: str, timeout_s: float = ANSWER_TIMEOUT_S) -> str:
        """Run a one-line command in the shell, and return its output without the last newline.

        Raises:
            AssertionError: the command exceeds the timeout, or its exit status is not 0.
        """
        assert "\n" not in command
        self._commands += 1
        # The quotes distinguish the output of the marks from the echo of the command line.
        self.send(f"echo '<begin'-{self._commands}; {command}; echo '<end'-{self._commands} $?\n")
        self.wait_for(f"<begin-{self._commands}\r\n")
        found = self.wait_for(rf"(.*?)(?:\r\n)?<end-{self._commands} (\d+)\r\n", timeout_s)
        output = found[1].replace("\r", "")
        assert found[2] == "0", f"{command!r} exits with {found[2]}: {output}"
        return output

    def send(self, text: str) -> None:
        """Send text without waiting."""
        self._socket.sendall(text.encode())

    def close(self) -> None:
        """Disconnect. Closing again does nothing."""
        with contextlib.suppress(OSError):  # QEMU closed the connection first
            self._socket.shutdown(socket.SHUT_RDWR)  # close() does not wake the reader thread
        self._reader.join()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _search(self, wanted: re.Pattern[str]) -> re.Match[str] | None:
        return wanted.search(self._transcript, self._found_to)

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        while received := self._receive():
            with self._changed:
                self._transcript += decoder.decode(received)
                self._changed.notify_all()
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(_RECEIVE_SIZE)
        except OSError:  # QEMU was killed
            return b""
