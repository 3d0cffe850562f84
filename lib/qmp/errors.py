# SPDX-License-Identifier: BSD-2-Clause
"""Errors of `hvkit.qmp`; `hvkit.errors` shows the whole tree.

Facts are attributes. Constructors take plain data only, so that an error survives pickling and RPC.
"""

from collections.abc import Mapping, Sequence

from hvkit.errors import HypervisorError, ProgrammerError


class QmpError(HypervisorError):
    """Raised when communication with a monitor fails.

    The text of every error starts with the monitor; `reason` is the text without it.

    Attributes:
        monitor: address of the monitor, as text. The connection that raises the error sets it; empty before that.
    """

    monitor = ""

    @property
    def reason(self) -> str:
        """What happened, without the monitor."""
        return Exception.__str__(self)

    def set_monitor(self, monitor: str) -> None:
        """Set the monitor that the error is about, unless it is set already."""
        if not self.monitor:
            self.monitor = monitor

    def __str__(self) -> str:
        return f"{self.monitor}: {self.reason}" if self.monitor else self.reason


class ConnectError(QmpError):
    """Raised when a connection could not be established; no command was executed and nothing is left open.

    Attributes:
        address: address of the monitor, as text.
        reason: why it failed.
    """

    reason = ""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(address, reason)
        self.address = self.monitor = address
        self.reason = reason


class AgentNotResponding(ConnectError):
    """Raised when a guest agent does not answer; the command was not sent.

    The guest has not booted or is stopped, no agent runs in it, or another client uses the agent's socket: on the host
    these look the same. An agent that answers and refuses raises `AgentCommandDisabled`.
    """


class ConnectionLost(QmpError):
    """Raised when an established connection ends before an expected reply or event.

    Attributes:
        address: address of the monitor, as text.
        reason: why the connection ended.
        commands: wire names of the commands that were sent and not answered. QEMU may or may not have executed them.
    """

    reason = ""

    def __init__(self, address: str, reason: str, commands: Sequence[str] = ()) -> None:
        commands = tuple(commands)
        super().__init__(address, reason, commands)
        self.address = self.monitor = address
        self.reason = reason
        self.commands = commands

    def __str__(self) -> str:
        unknown = f"; unknown whether executed: {', '.join(self.commands)}" if self.commands else ""
        return super().__str__() + unknown


class CommandTimeout(QmpError):
    """Raised when no reply came before the deadline; it is unknown whether QEMU executes the command, if it was sent.

    The connection stays usable: a late reply is dropped. A server that does not echo ids must send it before any other
    command can be answered: while `replies_owed` is not 0, connect again instead.

    Attributes:
        command: wire name of the command.
        timeout_s: the timeout, in seconds.
        replies_owed: how many earlier replies are still to come from a server that does not echo ids.
        was_sent: False when no byte of the command was sent, so that QEMU does not execute it.
    """

    def __init__(self, command: str, timeout_s: float, replies_owed: int = 0, was_sent: bool = True) -> None:
        super().__init__(command, timeout_s, replies_owed, was_sent)
        self.command = command
        self.timeout_s = timeout_s
        self.replies_owed = replies_owed
        self.was_sent = was_sent

    @property
    def reason(self) -> str:
        if not self.was_sent:
            return f"{self.command}: not sent within {self.timeout_s:g} s: the server does not read"
        text = f"{self.command}: no reply within {self.timeout_s:g} s; unknown whether it was executed"
        if self.replies_owed:
            text += f". The server echoes no ids and owes {self.replies_owed} earlier replies: connect again"
        return text


class AgentProgramTimeout(CommandTimeout):
    """Raised when a program in the guest did not end in time. It keeps running: the agent cannot end it.

    Attributes:
        pid: process id of the program in the guest; `guest-exec-status` reports it after it has ended.
    """

    def __init__(self, command: str, timeout_s: float, pid: int) -> None:
        super().__init__(command, timeout_s)
        self.args = (command, timeout_s, pid)
        self.pid = pid

    @property
    def reason(self) -> str:
        return f"{self.command}: process {self.pid} of the guest did not end within {self.timeout_s:g} s"


class AgentFreezeExpired(QmpError):
    """Raised when filesystems were thawed before the end of a freeze.

    Attributes:
        limit_s: the limit of the freeze, in seconds.
        reason: why they were thawed.
    """

    reason = ""

    def __init__(self, limit_s: float, reason: str) -> None:
        super().__init__(limit_s, reason)
        self.limit_s = limit_s
        self.reason = reason

    def __str__(self) -> str:
        prefix = f"{self.monitor}: " if self.monitor else ""
        return f"{prefix}the filesystems of the guest did not stay frozen: {self.reason}"


class NotInThisQemu(QmpError):
    """Raised when a QEMU lacks what a command needs; nothing was sent.

    Attributes:
        missing: what it lacks, by path (see `hvkit.qmp.introspection`), with a remark such as ``since 8.1``.
        version: version of this QEMU, as text.
    """

    def __init__(self, missing: Mapping[str, str], version: str) -> None:
        missing = dict(missing)
        super().__init__(missing, version)
        self.missing = missing
        self.version = version

    @property
    def reason(self) -> str:
        lacks = (f"{path} ({remark})" if remark else path for path, remark in self.missing.items())
        return f"QEMU {self.version} does not have {', '.join(lacks)}"


class EventTimeout(QmpError):
    """Raised when no expected event came before the deadline.

    Attributes:
        events: wire names of the expected events; empty for events of any type.
        timeout_s: the timeout, in seconds.
    """

    def __init__(self, events: Sequence[str], timeout_s: float) -> None:
        events = tuple(events)
        super().__init__(events, timeout_s)
        self.events = events
        self.timeout_s = timeout_s

    @property
    def reason(self) -> str:
        return f"no event ({', '.join(self.events) or 'of any type'}) within {self.timeout_s:g} s"


class JobTimeout(EventTimeout):
    """Raised when a job did not end, or did not reach a status, in time; it continues.

    Attributes:
        job_id: the job's id.
    """

    def __init__(self, job_id: str, events: Sequence[str], timeout_s: float) -> None:
        super().__init__(events, timeout_s)
        self.args = (job_id, self.events, timeout_s)
        self.job_id = job_id

    @property
    def reason(self) -> str:
        return f"job {self.job_id}: not done within {self.timeout_s:g} s; it continues"


class ProtocolError(QmpError):
    """Raised when the server violates the protocol: valid JSON that is not a valid message, or an endless message."""


class DataError(QmpError, ProgrammerError):
    """Raised when data is not JSON, or does not have the structure of its type.

    Attributes:
        path: the place of the mismatch in wire names, for example ``query-block[3].inserted.image.virtual-size``; empty
            when the data is not JSON.
        problem: the mismatch.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    @property
    def reason(self) -> str:
        return f"{self.path}: {self.problem}" if self.path else self.problem


class CommandError(QmpError):
    """Raised when QEMU replies with an error.

    Attributes:
        command: wire name of the command.
        error_class: the QAPI error class, mostly `GenericError`.
        description: the text from QEMU; empty if it sent none.
    """

    def __init__(self, command: str, error_class: str, description: str) -> None:
        super().__init__(command, error_class, description)
        self.command = command
        self.error_class = error_class
        self.description = description

    @property
    def reason(self) -> str:
        return f"{self.command}: {self.description or self.error_class}"


class CommandNotFound(CommandError):
    """Raised when this QEMU does not have the command, or has it disabled."""


class AgentCommandDisabled(CommandNotFound):
    """Raised when a guest agent has the command and refuses to execute it.

    Either its configuration says so, or the filesystems of the guest are frozen, which disables most commands; see the
    description.
    """


class DeviceNotFound(CommandError):
    """Raised when no device of that name exists."""


class DeviceNotActive(CommandError):
    """Raised when the device exists but is not in a state that allows the command."""


class KvmMissingCapability(CommandError):
    """Raised when the command needs a capability that KVM on this host does not have."""


class JobError(QmpError):
    """Raised when a job failed or does not exist.

    Attributes:
        job_id: id of the job.
        error: the text from QEMU.
    """

    def __init__(self, job_id: str, error: str) -> None:
        super().__init__(job_id, error)
        self.job_id = job_id
        self.error = error

    @property
    def reason(self) -> str:
        return f"job {self.job_id}: {self.error}"


class JobCancelled(JobError):
    """Raised when a job was cancelled before its end."""


#: The error classes that QAPI distinguishes; all others are a plain `CommandError`.
#: Source: QAPI module `error`, definition `QapiErrorClass`.
COMMAND_ERRORS: dict[str, type[CommandError]] = {
    "CommandNotFound": CommandNotFound,
    "DeviceNotFound": DeviceNotFound,
    "DeviceNotActive": DeviceNotActive,
    "KVMMissingCap": KvmMissingCapability,
}


def command_error(command: str, error_class: str, description: str) -> CommandError:
    """Return the error for an error reply, of the class that fits."""
    # The error class depends on the version of the agent; the text does not.
    if command.startswith("guest-") and f"{command} has been disabled" in description:
        return AgentCommandDisabled(command, error_class, description)
    return COMMAND_ERRORS.get(error_class, CommandError)(command, error_class, description)
