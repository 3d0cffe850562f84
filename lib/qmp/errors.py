# SPDX-License-Identifier: BSD-2-Clause
"""What can go wrong between us and a monitor.

The tree is drawn in `hvkit.errors`. Facts are attributes, and everything given to a constructor is plain data, so that
an error survives pickling and a trip through somebody's RPC.
"""

from collections.abc import Mapping, Sequence

from hvkit.errors import HypervisorError, ProgrammerError


class QmpError(HypervisorError):
    """Raised when a conversation with a monitor fails."""


class ConnectError(QmpError):
    """Raised when a monitor could not be made usable; nothing was executed and nothing is left open.

    Attributes:
        address: where we tried to connect, as text.
        reason: what was wrong.
    """

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(address, reason)
        self.address = address
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.address}: {self.reason}"


class AgentNotResponding(ConnectError):
    """Raised when a guest agent does not answer; what was to be executed was not sent.

    The guest has not booted or is stopped, no agent runs in it, or another client holds the agent's socket: from the
    host these look the same. An agent that does answer, but refuses, raises `AgentCommandDisabled`.
    """


class ConnectionLost(QmpError):
    """Raised when an established connection ends while something was expected of it.

    Attributes:
        address: the monitor's address, as text.
        reason: how it ended.
        commands: wire names of the commands that were sent and not answered. QEMU may or may not have executed them.
    """

    def __init__(self, address: str, reason: str, commands: Sequence[str] = ()) -> None:
        commands = tuple(commands)
        super().__init__(address, reason, commands)
        self.address = address
        self.reason = reason
        self.commands = commands

    def __str__(self) -> str:
        fate = f"; fate unknown: {', '.join(self.commands)}" if self.commands else ""
        return f"{self.address}: {self.reason}{fate}"


class CommandTimeout(QmpError):
    """Raised when no reply came before the deadline; whether QEMU executes the command is unknown, if it was sent.

    The connection stays usable: the late reply is dropped when it comes. From a peer that does not echo ids it must
    come before any other command can be answered: while `replies_owed` is not 0, better open the connection again.

    Attributes:
        command: wire name of the command.
        timeout_s: the deadline that passed, in seconds.
        replies_owed: to how many earlier commands a peer that does not echo ids still owes the reply.
        was_sent: False where not one byte of the command was sent, so that it is not executed.
    """

    def __init__(self, command: str, timeout_s: float, replies_owed: int = 0, was_sent: bool = True) -> None:
        super().__init__(command, timeout_s, replies_owed, was_sent)
        self.command = command
        self.timeout_s = timeout_s
        self.replies_owed = replies_owed
        self.was_sent = was_sent

    def __str__(self) -> str:
        if not self.was_sent:
            return f"{self.command}: not sent within {self.timeout_s:g} s: the peer does not read"
        text = f"{self.command}: no reply within {self.timeout_s:g} s; its fate is unknown"
        if self.replies_owed:
            text += f". The peer echoes no ids and owes {self.replies_owed} earlier replies: open the connection again"
        return text


class AgentProgramTimeout(CommandTimeout):
    """Raised when a program in the guest did not end in time. It goes on running: the agent cannot end it.

    Attributes:
        pid: of the program in the guest; `guest-exec-status` tells of it once it has ended.
    """

    def __init__(self, command: str, timeout_s: float, pid: int) -> None:
        super().__init__(command, timeout_s)
        self.args = (command, timeout_s, pid)
        self.pid = pid

    def __str__(self) -> str:
        return f"{self.command}: process {self.pid} of the guest did not end within {self.timeout_s:g} s"


class AgentFreezeExpired(QmpError):
    """Raised when the guest's filesystems were thawed too early; they are not frozen any more.

    Attributes:
        limit_s: the limit of the freeze, in seconds.
        reason: why they were thawed.
    """

    def __init__(self, limit_s: float, reason: str) -> None:
        super().__init__(limit_s, reason)
        self.limit_s = limit_s
        self.reason = reason

    def __str__(self) -> str:
        return f"the guest's filesystems did not stay frozen: {self.reason}"


class NotInThisQemu(QmpError):
    """Raised when a QEMU lacks what it is asked for; nothing was sent.

    Attributes:
        missing: what it lacks, by path (see `hvkit.qmp.introspection`), with a remark such as ``since 8.1``.
        version: its version as text.
    """

    def __init__(self, missing: Mapping[str, str], version: str) -> None:
        missing = dict(missing)
        super().__init__(missing, version)
        self.missing = missing
        self.version = version

    def __str__(self) -> str:
        lacks = (f"{path} ({remark})" if remark else path for path, remark in self.missing.items())
        return f"QEMU {self.version} does not have {', '.join(lacks)}"


class EventTimeout(QmpError):
    """Raised when no event that was waited for came in time.

    Attributes:
        events: wire names of the events waited for; empty where it was any.
        timeout_s: how long the wait was, in seconds.
    """

    def __init__(self, events: Sequence[str], timeout_s: float) -> None:
        events = tuple(events)
        super().__init__(events, timeout_s)
        self.events = events
        self.timeout_s = timeout_s

    def __str__(self) -> str:
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

    def __str__(self) -> str:
        return f"job {self.job_id}: not done within {self.timeout_s:g} s; it continues"


class ProtocolError(QmpError):
    """Raised when the peer breaks the protocol: sound JSON that means nothing here, or a message without end."""


class DataError(QmpError, ProgrammerError):
    """Raised when data is not JSON, or does not have the shape of its type.

    Attributes:
        path: where the misfit is, in wire names, for example ``query-block[3].inserted.image.virtual-size``; empty
            where the data is not JSON at all.
        problem: what is wrong there.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}" if self.path else self.problem


class CommandError(QmpError):
    """Raised when QEMU answers a command with an error.

    Attributes:
        command: wire name of the command.
        error_class: the QAPI error class, `GenericError` for most.
        description: QEMU's own text; empty where it sent none.
    """

    def __init__(self, command: str, error_class: str, description: str) -> None:
        super().__init__(command, error_class, description)
        self.command = command
        self.error_class = error_class
        self.description = description

    def __str__(self) -> str:
        return f"{self.command}: {self.description or self.error_class}"


class CommandNotFound(CommandError):
    """Raised when this QEMU does not have the command, or has it disabled."""


class AgentCommandDisabled(CommandNotFound):
    """Raised when a guest agent has the command and will not execute it.

    It was configured so, or the guest's filesystems are frozen, which disables most commands; the description says it.
    """


class DeviceNotFound(CommandError):
    """Raised when no device of that name exists."""


class DeviceNotActive(CommandError):
    """Raised when the device exists but is not in a state to do this."""


class KvmMissingCapability(CommandError):
    """Raised when the command needs something that this host's KVM does not have."""


class JobError(QmpError):
    """Raised when a job failed, or is not there.

    Attributes:
        job_id: the job's id.
        error: what went wrong, in QEMU's own words.
    """

    def __init__(self, job_id: str, error: str) -> None:
        super().__init__(job_id, error)
        self.job_id = job_id
        self.error = error

    def __str__(self) -> str:
        return f"job {self.job_id}: {self.error}"


class JobCancelled(JobError):
    """Raised when a job was cancelled before it was done."""


#: The error classes that QAPI tells apart; every other one is a plain `CommandError`.
#: Source: QAPI module `error`, definition `QapiErrorClass`.
COMMAND_ERRORS: dict[str, type[CommandError]] = {
    "CommandNotFound": CommandNotFound,
    "DeviceNotFound": DeviceNotFound,
    "DeviceNotActive": DeviceNotActive,
    "KVMMissingCap": KvmMissingCapability,
}


def command_error(command: str, error_class: str, description: str) -> CommandError:
    """Build the error of the right class for an error reply."""
    # Old agents gave it another error class; all of them say it with these words.
    if command.startswith("guest-") and f"{command} has been disabled" in description:
        return AgentCommandDisabled(command, error_class, description)
    return COMMAND_ERRORS.get(error_class, CommandError)(command, error_class, description)
