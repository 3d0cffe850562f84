# SPDX-License-Identifier: BSD-2-Clause
"""Reads and types at the tiny guest's serial console."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import socket
import threading
from types import TracebackType
from typing import Final, Self

#: Waits are this long because TCG on a busy machine is that slow; nobody waits longer than needed.
BOOT_TIMEOUT_S: Final = 90.0
ANSWER_TIMEOUT_S: Final = 30.0

_CONNECT_TIMEOUT_S: Final = 5.0
_RECEIVE_SIZE: Final = 4096
_READY: Final = r"GUEST-READY [\d.]+"
#: What the shell asks the terminal before each prompt (where is the cursor?) stands in front of it.
_PROMPT: Final = r"tiny# "
_LAST_WORDS: Final = 2000


class GuestConsole:
    """A client of the serial port's socket that always reads, from its connection on until the other end closes.

    It must: some 280 characters that nobody reads fill the socket, and then the guest stands still in its next printk.
    QEMU serves one client at a time, and drops what the guest says to nobody.

    What is waited for is searched for behind what was found before.

    Args:
        path: the socket, which QEMU listens on.
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
        """All that the guest has said."""
        with self._changed:
            return self._transcript

    def wait_for(self, pattern: str, timeout_s: float = ANSWER_TIMEOUT_S) -> re.Match[str]:
        """Wait until the guest has said something.

        Args:
            pattern: a regular expression of what.
            timeout_s: seconds it may take.

        Raises:
            AssertionError: it did not; its last words are in the text.
        """
        wanted = re.compile(pattern, re.DOTALL)
        with self._changed:
            self._changed.wait_for(lambda: self._has_ended or self._search(wanted), timeout_s)
            found = self._search(wanted)
            if not found:
                problem = "the console ended" if self._has_ended else f"not within {timeout_s:g} s"
                raise AssertionError(f"no {pattern!r}: {problem}; it said: {self._transcript[-_LAST_WORDS:]}")
            self._found_to = found.end()
            return found

    def wait_until_ready(self, timeout_s: float = BOOT_TIMEOUT_S) -> None:
        """Wait until the guest is up and its shell reads: what is typed before that is lost.

        Raises:
            AssertionError: it did not come up.
        """
        self.wait_for(_READY, timeout_s)
        self.wait_for(_PROMPT)

    def run(self, command: str, timeout_s: float = ANSWER_TIMEOUT_S) -> str:
        """Type a command, in one line, and return what it says, without the last line's end.

        Raises:
            AssertionError: it takes too long, or does not exit with 0.
        """
        assert "\n" not in command
        self._commands += 1
        # The quotes tell the marks from the echo of their being typed.
        self.send(f"echo '<begin'-{self._commands}; {command}; echo '<end'-{self._commands} $?\n")
        self.wait_for(f"<begin-{self._commands}\r\n")
        found = self.wait_for(rf"(.*?)(?:\r\n)?<end-{self._commands} (\d+)\r\n", timeout_s)
        output = found[1].replace("\r", "")
        assert found[2] == "0", f"{command!r} exits with {found[2]}: {output}"
        return output

    def send(self, text: str) -> None:
        """Type, and wait for nothing."""
        self._socket.sendall(text.encode())

    def close(self) -> None:
        """Disconnect. Closing again does nothing."""
        with contextlib.suppress(OSError):  # the other end was faster
            self._socket.shutdown(socket.SHUT_RDWR)  # ends the reader's wait, which close() does not
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
