# SPDX-License-Identifier: BSD-2-Clause
"""Exceptions of the hypervisor interface. The whole tree is drawn in `hvkit.errors`.

Facts are attributes. Constructor arguments are plain data, so that an exception survives pickling and RPC.
"""

import contextlib
import enum
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import attrs

from hvkit.errors import HypervisorError


class PluginError(HypervisorError):
    """Raised when a hypervisor is unknown, or its plugin cannot be loaded.

    Attributes:
        hypervisor: the requested name.
        reason: what is wrong with it.
    """

    def __init__(self, hypervisor: str, reason: str) -> None:
        super().__init__(hypervisor, reason)
        self.hypervisor = hypervisor
        self.reason = reason

    def __str__(self) -> str:
        return f"hypervisor {self.hypervisor!r}: {self.reason}"


class ProgramError(HypervisorError):
    """Raised when the program that runs instances cannot be used: missing, too old, or another program.

    Attributes:
        program: its path.
        reason: what is wrong with it.
        log: the last lines of its output; empty if there is none.
    """

    def __init__(self, program: str, reason: str, log: str = "") -> None:
        super().__init__(program, reason, log)
        self.program = program
        self.reason = reason
        self.log = log

    def __str__(self) -> str:
        return _with_log(self.reason, self.log)


class ParameterError(HypervisorError):
    """Raised when a parameter, or a member of an instance or a device, cannot be used. Nothing was changed.

    Attributes:
        name: the parameter or member, such as ``disk_cache`` or ``Instance.memory_mib``.
        value: the value given, as text; empty if the name itself is the problem.
        problem: what is wrong with it.
        close_matches: similar names or values that are valid, best first.
    """

    def __init__(self, name: str, value: object, problem: str, close_matches: Sequence[str] = ()) -> None:
        value = value if isinstance(value, (str, int, float, type(None))) else repr(value)
        close_matches = tuple(close_matches)
        super().__init__(name, value, problem, close_matches)
        self.name = name
        self.value = value
        self.problem = problem
        self.close_matches = close_matches

    def __str__(self) -> str:
        hint = f"; did you mean {' or '.join(self.close_matches)}?" if self.close_matches else ""
        return f"{self.name}: {self.problem}{hint}"


class InstanceError(HypervisorError):
    """Raised when an operation on one instance failed. Base of every error about an instance.

    Attributes:
        instance: the name of the instance.
        reason: what went wrong, without the name of the instance.
    """

    #: Names the operation in the text of the error.
    _subject: ClassVar[str] = ""

    def __init__(self, instance: str, reason: str) -> None:
        super().__init__(instance, reason)
        self.instance = instance
        self.reason = reason

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.instance, self._subject, self.reason)))


class InstanceNotFound(InstanceError):
    """Raised when there is no instance of that name on this node."""

    def __init__(self, instance: str) -> None:
        super().__init__(instance, "no such instance on this node")
        self.args = (instance,)


class InstanceStateError(InstanceError):
    """Raised when the state of an instance does not allow the operation. Nothing was changed.

    Also raised when a process survives SIGKILL, so that a stop or a failed start cannot end it. The state is then
    ``unresponsive``.

    Attributes:
        state: the state of the instance, the value of an `InstanceState`.
        problem: the operation that is not possible in that state.
    """

    def __init__(self, instance: str, state: str, problem: str) -> None:
        super().__init__(instance, f"{problem} (it is {state})")
        self.args = (instance, state, problem)
        self.state = state
        self.problem = problem


class InstanceBusy(InstanceError):
    """Raised when another operation holds the lock of an instance for too long. Nothing was changed.

    Attributes:
        holder: pid of the lock holder; None if that is not known.
    """

    def __init__(self, instance: str, holder: int | None = None) -> None:
        operation = "another operation" + (f" (process {holder})" if holder else "")
        super().__init__(instance, f"locked by {operation}; try again later")
        self.args = (instance, holder)
        self.holder = holder


class InstanceStartError(InstanceError):
    """Raised when an instance did not start. Nothing of the start is left.

    Attributes:
        log: the last lines of QEMU's output; empty if there is none.
    """

    _subject = "did not start"

    def __init__(self, instance: str, reason: str, log: str = "") -> None:
        super().__init__(instance, reason)
        self.args = (instance, reason, log)
        self.log = log

    def __str__(self) -> str:
        return _with_log(super().__str__(), self.log)


class RuntimeStateError(InstanceError):
    """Raised when the state file of an instance, or another of its files, cannot be read or written.

    Attributes:
        path: the file.
    """

    def __init__(self, instance: str, path: str, reason: str) -> None:
        super().__init__(instance, reason)
        self.args = (instance, path, reason)
        self.path = path

    def __str__(self) -> str:
        return f"{self.instance}: {self.path}: {self.reason}"


class HotplugCause(enum.Enum):
    """The cause of a `HotplugError`, which tells whether to retry.

    Attributes:
        UNFIT: the instance has no such device, has it already, or cannot change it. The device was not changed.
        REFUSED: QEMU or the node refused. Retry once the reason is removed.
        GUEST_REFUSED: the guest refused to release the device.
        GUEST_SILENT: the guest did not respond in time, and may do so later. A retry may succeed.
        UNKNOWN: QEMU does not answer. The next operation on the devices of the instance reconciles the outcome.
    """

    UNFIT = "unfit"
    REFUSED = "refused"
    GUEST_REFUSED = "guest-refused"
    GUEST_SILENT = "guest-silent"
    UNKNOWN = "unknown"


class HotplugError(InstanceError):
    """Raised when a device of a running instance could not be added, removed or changed.

    Attributes:
        device: the id of the device in QEMU.
        reason: what went wrong, and the state of the device if it changed.
        cause: what caused it.
    """

    def __init__(
        self, instance: str, device: str, reason: str, cause: HotplugCause | str = HotplugCause.REFUSED
    ) -> None:
        super().__init__(instance, reason)
        cause = HotplugCause(cause)
        self.args = (instance, device, reason, cause.value)
        self.device = device
        self.cause = cause

    def __str__(self) -> str:
        return f"{self.instance}: device {self.device}: {self.reason}"


class BackupError(InstanceError):
    """Raised when disks could not be backed up."""

    _subject = "backup"


class SnapshotError(InstanceError):
    """Raised when a snapshot or an overlay could not be created, used or deleted."""

    _subject = "snapshot"


class CaptureError(InstanceError):
    """Raised when a screenshot or a memory dump of an instance could not be taken."""

    _subject = "capture"


class MigrationError(InstanceError):
    """Raised when a migration could not be started, or failed."""

    _subject = "migration"


class ObstacleKind(enum.Enum):
    """The subject of a `MigrationObstacle`.

    Attributes:
        VERSION: the QEMU program: missing, or older than on the source.
        MACHINE: the machine type.
        ACCELERATOR: the accelerator, KVM or TCG.
        CPU: the CPU model, or features that this node lacks.
        MEMORY: the amount of memory, or its backend.
        VCPUS: the number or the topology of the vCPUs.
        DEVICES: the number or the kinds of devices.
        DISK: a disk that cannot be used on this node.
        PARAMETER: any other parameter.
    """

    VERSION = "version"
    MACHINE = "machine"
    ACCELERATOR = "accelerator"
    CPU = "cpu"
    MEMORY = "memory"
    VCPUS = "vcpus"
    DEVICES = "devices"
    DISK = "disk"
    PARAMETER = "parameter"


@attrs.frozen
class MigrationObstacle:
    """One reason why an instance cannot migrate to a node.

    Attributes:
        kind: the subject.
        reason: the reason, as text.
    """

    kind: ObstacleKind
    reason: str


class MigrationRefused(MigrationError):
    """Raised when a node cannot provide the machine that an instance has on its source. Nothing was changed.

    Attributes:
        obstacles: all reasons, not only the first one.
    """

    def __init__(self, instance: str, obstacles: Sequence[MigrationObstacle]) -> None:
        super().__init__(instance, "; ".join(obstacle.reason for obstacle in obstacles))
        self.args = (instance, tuple(obstacles))
        self.obstacles = tuple(obstacles)


class AdoptionError(HypervisorError):
    """Raised when an external instance cannot be inspected or adopted. It keeps running.

    Attributes:
        monitor: the path of its monitor.
        reason: what prevents it.
    """

    def __init__(self, monitor: str, reason: str) -> None:
        super().__init__(monitor, reason)
        self.monitor = monitor
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.monitor}: cannot be adopted: {self.reason}"


class NotSupported(HypervisorError):
    """Raised when a hypervisor does not have a capability. Nothing was changed.

    Attributes:
        hypervisor: its name.
        capability: the value of the `Capability` it lacks.
    """

    def __init__(self, hypervisor: str, capability: str) -> None:
        super().__init__(hypervisor, capability)
        self.hypervisor = hypervisor
        self.capability = capability

    def __str__(self) -> str:
        return f"hypervisor {self.hypervisor!r} does not support {self.capability}"


@contextlib.contextmanager
def translate_errors(make: Callable[[str], HypervisorError]) -> Iterator[None]:
    """Translate failures of lower layers inside the block into one error about the instance.

    An `InstanceError` or a `ParameterError` passes unchanged: it names its subject already, and the same condition has
    to raise the same class from every method. Every other `HypervisorError`, and `OSError`, becomes ``make(reason)``.

    Args:
        make: makes the error from the reason, such as ``functools.partial(BackupError, "web1")``.
    """
    try:
        yield
    except (InstanceError, ParameterError):
        raise
    except (HypervisorError, OSError) as error:
        raise make(reason_of(error)) from error


def reason_of(error: Exception) -> str:
    """Return the text of an error without the instance or the monitor that it is about.

    The text becomes the reason of another error about the same instance, which names the instance itself.
    """
    if isinstance(error, RuntimeStateError):
        return f"{error.path}: {error.reason}"
    return str(getattr(error, "reason", "") or error)


def _with_log(text: str, log: str) -> str:
    return f"{text}: {' | '.join(log.splitlines())}" if log else text
