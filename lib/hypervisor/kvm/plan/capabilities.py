# SPDX-License-Identifier: BSD-2-Clause
"""Capabilities of a QEMU program, and the choice of the accelerator.

`hvkit.hypervisor.kvm.host.probe` queries the capabilities.
"""

import difflib
from collections.abc import Mapping
from typing import Any, Final, Literal, Self

import attrs

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.topology import Chipset

#: The oldest supported QEMU.
OLDEST_VERSION: Final = (7, 2, 0)

#: The prefixes of versioned machine types, and their chipsets.
_MACHINE_PREFIXES: Final = {"pc-q35-": Chipset.Q35, "pc-i440fx-": Chipset.PC}


#: The attributes of `Capabilities` that are sets of names.
_SETS: Final = ("devices", "objects", "commands", "cpu_models", "options")


@attrs.frozen(kw_only=True)
class MachineType:
    """A machine type of a QEMU program.

    Attributes:
        name: its full name, with a version if it has one.
        alias: its short name in this program; empty for none.
        cpu_max: the largest number of vCPUs.
        is_deprecated: whether QEMU will remove it.
    """

    name: str
    alias: str = ""
    cpu_max: int
    is_deprecated: bool = False

    @property
    def chipset(self) -> Chipset | None:
        """The chipset; None for a machine that is neither q35 nor pc."""
        return next((board for prefix, board in _MACHINE_PREFIXES.items() if self.name.startswith(prefix)), None)


@attrs.frozen(kw_only=True)
class Capabilities:
    """The capabilities of a QEMU program.

    Attributes:
        binary: the path of the program.
        version: major, minor, micro.
        package: the version of the distribution's package; empty for none.
        target: the architecture of its guests, such as ``x86_64``.
        has_kvm: whether it was built with KVM, which does not mean that KVM works on this node.
        machines: its machine types.
        devices: the names of its device models.
        objects: the names of its user-creatable objects.
        commands: the wire names of its QMP commands.
        cpu_models: the names of its CPU models; empty if it does not list them.
        options: the members of its command line options as ``option.member``, such as ``run-with.user``. Options whose
            members QEMU does not list are missing.
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
        """The version as text, such as ``7.2.0``."""
        return ".".join(map(str, self.version))

    def find_machine(self, wanted: str) -> MachineType:
        """Return the machine type with a name or alias.

        Raises:
            ParameterError: the program does not have it, or it is neither a q35 nor a pc machine.
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
        """Check that the program has the device model that the value of a parameter needs.

        Raises:
            ParameterError: it does not.
        """
        if driver not in self.devices:
            raise ParameterError(
                parameter,
                value,
                f"{value!r} needs a device that {self.binary} {self.version_text} does not have: {driver}",
            )

    def check_cpu_model(self, model: str) -> None:
        """Check that the program has a CPU model.

        Raises:
            ParameterError: it does not.
        """
        if self.cpu_models and model not in self.cpu_models:
            matches = difflib.get_close_matches(model, self.cpu_models, n=2)
            raise ParameterError(
                "cpu_type", model, f"{self.binary} {self.version_text} has no CPU model {model!r}", matches
            )

    def to_plain(self) -> dict[str, Any]:
        """Return the capabilities as plain data in a deterministic order."""

        def plain(_owner: Any, _field: Any, value: Any) -> Any:
            return sorted(value) if isinstance(value, frozenset) else value

        return attrs.asdict(self, value_serializer=plain)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Return the capabilities that `to_plain` converted, also after a round trip through JSON.

        Raises:
            KeyError, TypeError, ValueError: the data has another form.
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


@attrs.frozen(kw_only=True)
class KvmHost:
    """The state of KVM on this node.

    Attributes:
        problem: why /dev/kvm is not usable; empty if it is.
        is_emulated: whether KVM works without hardware virtualization, by emulating instructions. Such a KVM is
            sufficient for firmware and tests. It is a hundred times slower than TCG, too incomplete for real guests,
            and QEMU aborts with the CPU models `host` and `max`.
    """

    problem: str = ""
    is_emulated: bool = False


@attrs.frozen(kw_only=True)
class Accelerator:
    """The accelerator of an instance, and the reason for its choice.

    Attributes:
        name: its name in QEMU.
        best_cpu: the CPU model with all features that it supports.
        reason: why it was chosen, as text for operators.
    """

    name: Literal["kvm", "tcg"]
    best_cpu: str
    reason: str


def _tcg(reason: str) -> Accelerator:
    return Accelerator(name="tcg", best_cpu="max", reason=reason)


def choose_accelerator(kvm_flag: str, host: KvmHost, capabilities: Capabilities) -> Accelerator:
    """Choose the accelerator of an instance.

    Args:
        kvm_flag: the value of the parameter.
        host: the state of KVM, from `hvkit.hypervisor.kvm.host.probe.read_kvm_host`.
        capabilities: of the program.

    Raises:
        ParameterError: `kvm_flag` requires KVM, and it is not usable.
    """
    if kvm_flag == "disabled":
        return _tcg("kvm_flag disables KVM")
    problem = host.problem
    if not capabilities.has_kvm:
        problem = f"{capabilities.binary} was built without KVM"
    if kvm_flag == "enabled":
        if problem:
            raise ParameterError("kvm_flag", kvm_flag, f"KVM is required and not usable: {problem}")
        if host.is_emulated:
            return Accelerator(
                name="kvm",
                best_cpu="qemu64",
                reason="kvm_flag requires KVM; it has no hardware virtualization here: guests are slow and may stop",
            )
        return Accelerator(name="kvm", best_cpu="host", reason="kvm_flag requires KVM")
    if problem:
        return _tcg(f"no KVM: {problem}")
    if host.is_emulated:
        problem = "KVM has no hardware virtualization (neither kvm_intel nor kvm_amd is in use) and is slower than TCG"
        return _tcg(f"no KVM: {problem}")
    return Accelerator(name="kvm", best_cpu="host", reason="/dev/kvm works")
