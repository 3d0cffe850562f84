# SPDX-License-Identifier: BSD-2-Clause
"""What a QEMU program can do, and what we make of it. `hvkit.hypervisor.kvm.host.probe` asks the program itself."""

import difflib
from collections.abc import Mapping
from typing import Any, Final, Literal, Self

import attrs

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.topology import Chipset

#: The oldest QEMU that is supported.
OLDEST_VERSION: Final = (7, 2, 0)

#: A versioned machine type begins with this, by chipset.
_MACHINE_PREFIXES: Final = {"pc-q35-": Chipset.Q35, "pc-i440fx-": Chipset.PC}


#: The members of `Capabilities` that are sets of names.
_SETS: Final = ("devices", "objects", "commands", "cpu_models", "options")


@attrs.frozen(kw_only=True)
class MachineType:
    """A kind of machine that a QEMU program can model.

    Attributes:
        name: its full name, with a version where it has one.
        alias: the short name that means it in this program; empty where there is none.
        cpu_max: how many processors it can have.
        is_deprecated: whether QEMU will drop it.
    """

    name: str
    alias: str = ""
    cpu_max: int
    is_deprecated: bool = False

    @property
    def chipset(self) -> Chipset | None:
        """The board; None for a machine that is no PC we know."""
        return next((board for prefix, board in _MACHINE_PREFIXES.items() if self.name.startswith(prefix)), None)


@attrs.frozen(kw_only=True)
class Capabilities:
    """What a QEMU program can do.

    Attributes:
        binary: the program.
        version: major, minor, micro.
        package: what its builder calls it; empty for nothing.
        target: the architecture of its guests, such as ``x86_64``.
        has_kvm: whether it was built with KVM; that says nothing of this host.
        machines: its machine types.
        devices: names of the devices it has.
        objects: names of the objects that a user can make in it.
        commands: wire names of its QMP commands.
        cpu_models: names of its CPU models; none where it does not list them.
        options: members of its command line options, each as ``option.member``, such as ``run-with.user``. Options that
            QEMU does not tell the members of are not here.
    """

    binary: str
    version: tuple[int, int, int]
    package: str = ""
    target: str
    has_kvm: bool
    machines: tuple[MachineType, ...]
    devices: frozenset[str]
    objects: frozenset[str]
    commands: frozenset[str]
    cpu_models: frozenset[str]
    options: frozenset[str] = frozenset()

    @property
    def version_text(self) -> str:
        """The version as people write it."""
        return ".".join(map(str, self.version))

    def find_machine(self, wanted: str) -> MachineType:
        """Return the machine type of a name or short name.

        Raises:
            ParameterError: this program does not have it, or it is no PC.
        """
        by_name = {machine.name: machine for machine in self.machines}
        by_name |= {machine.alias: machine for machine in self.machines if machine.alias}
        machine = by_name.get(wanted)
        if machine is None:
            matches = difflib.get_close_matches(wanted, by_name, n=2)
            raise ParameterError(
                "machine_version", wanted, f"{self.binary} {self.version_text} has no machine type {wanted!r}", matches
            )
        if machine.chipset is None:
            raise ParameterError("machine_version", wanted, f"{wanted!r} is neither a q35 nor a pc machine")
        return machine

    def check_device(self, driver: str, parameter: str, value: str) -> None:
        """Refuse a parameter's value if it needs a device that this program does not have.

        Raises:
            ParameterError: it does not have it.
        """
        if driver not in self.devices:
            raise ParameterError(
                parameter,
                value,
                f"{value!r} needs a device that {self.binary} {self.version_text} does not have: {driver}",
            )

    def check_cpu_model(self, model: str) -> None:
        """Refuse a CPU model that this program does not have.

        Raises:
            ParameterError: it does not have it.
        """
        if self.cpu_models and model not in self.cpu_models:
            matches = difflib.get_close_matches(model, self.cpu_models, n=2)
            raise ParameterError(
                "cpu_type", model, f"{self.binary} {self.version_text} has no CPU model {model!r}", matches
            )

    def to_plain(self) -> dict[str, Any]:
        """Return all of it as plain data, in an order that does not depend on anything."""

        def plain(_owner: Any, _field: Any, value: Any) -> Any:
            return sorted(value) if isinstance(value, frozenset) else value

        return attrs.asdict(self, value_serializer=plain)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Return what `to_plain` made of it, or `json` of that.

        Raises:
            KeyError, TypeError, ValueError: it was made of something else.
        """
        major, minor, micro = plain["version"]
        return cls(
            **{
                **plain,
                "version": (major, minor, micro),
                "machines": tuple(MachineType(**machine) for machine in plain["machines"]),
                **{name: frozenset(plain[name]) for name in _SETS},
            }
        )


# ---- acceleration


@attrs.frozen(kw_only=True)
class KvmHost:
    """What this host has of KVM.

    Attributes:
        problem: why /dev/kvm cannot be used, in words; empty where it can.
        is_emulated: whether it works by emulating instructions, as without the processor's own virtualization: right
            for firmware and tests, a hundred times slower than TCG and not complete enough for a real guest, nor for
            the CPU models `host` and `max`, on which QEMU aborts.
    """

    problem: str = ""
    is_emulated: bool = False


@attrs.frozen(kw_only=True)
class Accelerator:
    """How the guest's instructions are run, and why that way.

    Attributes:
        name: QEMU's name.
        best_cpu: the CPU model that has all that it offers.
        reason: for the user to read.
    """

    name: Literal["kvm", "tcg"]
    best_cpu: str
    reason: str


def _tcg(reason: str) -> Accelerator:
    return Accelerator(name="tcg", best_cpu="max", reason=reason)


def choose_accelerator(kvm_flag: str, host: KvmHost, capabilities: Capabilities) -> Accelerator:
    """Choose an accelerator.

    Args:
        kvm_flag: value of the parameter.
        host: what this host has, from `hvkit.hypervisor.kvm.host.probe.read_kvm_host`.
        capabilities: what the program has.

    Raises:
        ParameterError: KVM is demanded and cannot be used.
    """
    if kvm_flag == "disabled":
        return _tcg("KVM is disabled by kvm_flag")
    problem = host.problem
    if not capabilities.has_kvm:
        problem = f"{capabilities.binary} was built without KVM"
    if kvm_flag == "enabled":
        if problem:
            raise ParameterError("kvm_flag", kvm_flag, f"KVM is demanded and cannot be used: {problem}")
        if host.is_emulated:
            return Accelerator(
                name="kvm",
                best_cpu="qemu64",
                reason="KVM is demanded by kvm_flag; this host's only emulates: it is slow, and guests may stop",
            )
        return Accelerator(name="kvm", best_cpu="host", reason="KVM is demanded by kvm_flag")
    if problem:
        return _tcg(f"no KVM: {problem}")
    if host.is_emulated:
        return _tcg("no KVM: this host's only emulates, slower than TCG (neither kvm_intel nor kvm_amd drives it)")
    return Accelerator(name="kvm", best_cpu="host", reason="/dev/kvm works")
