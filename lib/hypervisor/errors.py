# SPDX-License-Identifier: BSD-2-Clause
"""What can go wrong between a caller and a hypervisor.

The tree is drawn in `hvkit.errors`. Facts are attributes, and everything given to a constructor is plain data, so that
an error survives pickling and a trip through somebody's RPC.
"""

import enum
from collections.abc import Sequence

import attrs

from hvkit.errors import HypervisorError


class PluginError(HypervisorError):
    """Raised when a hypervisor is not known, or is known and cannot be loaded.

    Attributes:
        hypervisor: the name that was asked for.
        reason: what is wrong with it.
    """

    def __init__(self, hypervisor: str, reason: str) -> None:
        super().__init__(hypervisor, reason)
        self.hypervisor = hypervisor
        self.reason = reason

    def __str__(self) -> str:
        return f"hypervisor {self.hypervisor!r}: {self.reason}"


class ParameterError(HypervisorError):
    """Raised when a parameter, or a member of an instance, a disk or a NIC, cannot be used; nothing was changed.

    Attributes:
        name: which one, such as ``disk_cache`` or ``Instance.memory_mib``.
        value: what was given, as text; empty where the name itself is the problem.
        problem: what is wrong with it.
        close_matches: what was perhaps meant, best first.
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


class InstanceNotFound(HypervisorError):
    """Raised when no instance of that name is known here.

    Attributes:
        instance: the name.
    """

    def __init__(self, instance: str) -> None:
        super().__init__(instance)
        self.instance = instance

    def __str__(self) -> str:
        return f"{self.instance}: no such instance here"


class InstanceStateError(HypervisorError):
    """Raised when an instance is not in a state that allows what was asked; nothing was changed.

    Attributes:
        instance: the name.
        state: the state it is in, the value of an `InstanceState`.
        problem: what cannot be done in it.
    """

    def __init__(self, instance: str, state: str, problem: str) -> None:
        super().__init__(instance, state, problem)
        self.instance = instance
        self.state = state
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.instance}: {self.problem} (it is {self.state})"


class InstanceBusy(HypervisorError):
    """Raised when somebody else is working on the instance, for longer than we would wait; nothing was changed.

    Attributes:
        instance: the name.
        holder: the process that holds it; None where that is not known.
    """

    def __init__(self, instance: str, holder: int | None = None) -> None:
        super().__init__(instance, holder)
        self.instance = instance
        self.holder = holder

    def __str__(self) -> str:
        who = f"process {self.holder}" if self.holder else "somebody else"
        return f"{self.instance}: busy: {who} is working on it"


class InstanceStartError(HypervisorError):
    """Raised when an instance did not come up, or the program that was to run it cannot; nothing is left behind.

    Attributes:
        instance: the name; empty where the program was looked at without an instance.
        reason: what went wrong.
        log: the last lines that the hypervisor wrote, empty where it wrote none.
    """

    def __init__(self, instance: str, reason: str, log: str = "") -> None:
        super().__init__(instance, reason, log)
        self.instance = instance
        self.reason = reason
        self.log = log

    def __str__(self) -> str:
        whose = f"{self.instance}: did not start: " if self.instance else ""
        said = f": {' | '.join(self.log.split(chr(10)))}" if self.log else ""
        return f"{whose}{self.reason}{said}"


class HotplugCause(enum.Enum):
    """Who is behind a `HotplugError`, and so what may help.

    Attributes:
        UNFIT: nothing was asked of the machine, for this instance is not one on which that can be done: it has no such
            device, has it already, or has no room.
        REFUSED: the hypervisor or the node said no. StatusSource again helps once the reason is gone.
        GUEST_REFUSED: the guest said no.
        GUEST_SILENT: the guest did not do it in time, and may do it later. StatusSource again may help.
        UNKNOWN: the machine does not answer; whether it was done is settled when it is next plugged on.
    """

    UNFIT = "unfit"
    REFUSED = "refused"
    GUEST_REFUSED = "guest-refused"
    GUEST_SILENT = "guest-silent"
    UNKNOWN = "unknown"


class HotplugError(HypervisorError):
    """Raised when a device of a running instance could not be added, removed or changed.

    Attributes:
        instance: the name.
        device: the device's id, as the hypervisor knows it.
        reason: what went wrong, and what became of the device where that is not "nothing".
        cause: whose doing it is.
    """

    def __init__(
        self, instance: str, device: str, reason: str, cause: HotplugCause | str = HotplugCause.REFUSED
    ) -> None:
        cause = HotplugCause(cause)
        super().__init__(instance, device, reason, cause.value)
        self.instance = instance
        self.device = device
        self.reason = reason
        self.cause = cause

    def __str__(self) -> str:
        return f"{self.instance}: device {self.device}: {self.reason}"


class BackupError(HypervisorError):
    """Raised when disks could not be backed up.

    Attributes:
        instance: the name.
        reason: what went wrong, with the hypervisor's own words where it had some.
    """

    def __init__(self, instance: str, reason: str) -> None:
        super().__init__(instance, reason)
        self.instance = instance
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.instance}: backup: {self.reason}"


class SnapshotError(HypervisorError):
    """Raised when a snapshot could not be taken, used or given up.

    Attributes:
        instance: the name.
        reason: what went wrong, with the hypervisor's own words where it had some.
    """

    def __init__(self, instance: str, reason: str) -> None:
        super().__init__(instance, reason)
        self.instance = instance
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.instance}: snapshot: {self.reason}"


class CaptureError(HypervisorError):
    """Raised when a picture of an instance's screen, or a dump of its memory, could not be taken.

    Attributes:
        instance: the name.
        reason: what went wrong, with the hypervisor's own words where it had some.
    """

    def __init__(self, instance: str, reason: str) -> None:
        super().__init__(instance, reason)
        self.instance = instance
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.instance}: {self.reason}"


class AdoptionError(HypervisorError):
    """Raised when a machine that somebody else started cannot be taken over; it runs on as it did.

    Attributes:
        monitor: where it listens.
        reason: what keeps us from it.
    """

    def __init__(self, monitor: str, reason: str) -> None:
        super().__init__(monitor, reason)
        self.monitor = monitor
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.monitor}: cannot be adopted: {self.reason}"


class MigrationError(HypervisorError):
    """Raised when a migration could not be started, or did not end well.

    Attributes:
        instance: the name.
        reason: what went wrong, with the hypervisor's own words where it had some.
    """

    def __init__(self, instance: str, reason: str) -> None:
        super().__init__(instance, reason)
        self.instance = instance
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.instance}: migration: {self.reason}"


class ObstacleKind(enum.Enum):
    """What keeps an instance from coming to a node.

    Attributes:
        VERSION: the hypervisor's program: missing, or older than on the source.
        MACHINE: the machine type.
        ACCELERATOR: what runs the guest's instructions.
        CPU: the model of its processors, or what this node's own lack.
        MEMORY: how much there is of it, or what holds it.
        VCPUS: how many processors there are, or how they are arranged.
        DEVICES: which devices there are, or of what kind.
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
    """One reason why an instance cannot come to a node.

    Attributes:
        kind: what it is about.
        reason: what is wrong, in words.
    """

    kind: ObstacleKind
    reason: str


class MigrationRefused(MigrationError):
    """Raised when a node cannot be what an instance is on its source; nothing was changed on either.

    Attributes:
        obstacles: every reason, not only the first.
    """

    def __init__(self, instance: str, obstacles: Sequence[MigrationObstacle]) -> None:
        super().__init__(instance, "; ".join(obstacle.reason for obstacle in obstacles))
        self.args = (instance, tuple(obstacles))
        self.obstacles = tuple(obstacles)


class RuntimeStateError(HypervisorError):
    """Raised when what is remembered of an instance cannot be read or written.

    Attributes:
        instance: the name.
        path: the file.
        reason: what is wrong with it.
    """

    def __init__(self, instance: str, path: str, reason: str) -> None:
        super().__init__(instance, path, reason)
        self.instance = instance
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.instance}: {self.path}: {self.reason}"


class NotSupported(HypervisorError):
    """Raised when a hypervisor does not have a capability; nothing was changed.

    Attributes:
        hypervisor: its name.
        capability: the value of the `Capability` it does not declare.
    """

    def __init__(self, hypervisor: str, capability: str) -> None:
        super().__init__(hypervisor, capability)
        self.hypervisor = hypervisor
        self.capability = capability

    def __str__(self) -> str:
        return f"hypervisor {self.hypervisor!r} does not support {self.capability}"
