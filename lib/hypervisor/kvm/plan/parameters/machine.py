# SPDX-License-Identifier: BSD-2-Clause
"""Parameters: machine and QEMU program."""

import shlex
from typing import Final

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.firmware import UEFI_KINDS
from hvkit.hypervisor.kvm.plan.parameters.checks import WORD, passes
from hvkit.hypervisor.kvm.plan.topology import FIRST_SLOT, MAX_PORTS, MAX_RESERVED_SLOTS
from hvkit.hypervisor.parameters import (
    ABSOLUTE_PATH,
    Check,
    Parameter,
    between,
    one_of,
)

#: Options that hvkit sets itself: names, monitoring, start, and everything that is persisted and compared before a
#: migration.
_RESERVED_OPTIONS: Final = frozenset(
    {
        *("name", "uuid", "pidfile", "daemonize", "run-with", "runas", "chroot", "nographic"),
        *("S", "incoming", "loadvm", "preconfig", "only-migratable", "action", "no-shutdown", "no-reboot"),
        *("readconfig", "writeconfig", "h", "help", "version"),
        *("D", "trace", "sandbox", "m", "smp", "cpu", "accel", "enable-kvm"),
    }
)

#: Options whose first member may be a machine type.
_MACHINE_OPTIONS: Final = frozenset({"machine", "M"})


def parse_extra(text: str) -> tuple[str, ...]:
    """Parse the additional arguments in `kvm_extra`, which use shell syntax.

    Raises:
        ParameterError: a quote is not closed, or an option is reserved for hvkit.
    """
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise ParameterError("kvm_extra", text, f"invalid shell syntax: {error}") from error
    for word, following in zip(words, (*words, "")[1:], strict=True):
        if _is_option(word, _MACHINE_OPTIONS) and _names_machine(following):
            problem = f"{word} {following} sets the machine type; use machine_version"
            raise ParameterError("kvm_extra", text, problem)
        if _is_option(word, _RESERVED_OPTIONS):
            raise ParameterError("kvm_extra", text, f"the option {word} is reserved for hvkit")
        if not word.isprintable():
            raise ParameterError("kvm_extra", text, f"an argument has a character that is not printable: {word!r}")
    return words


def _is_option(word: str, names: frozenset[str]) -> bool:
    # QEMU accepts one hyphen or two.
    return word.startswith("-") and word.lstrip("-") in names


def _names_machine(text: str) -> bool:
    first, *_ = members = text.split(",")
    return "=" not in first or any(member.startswith("type=") for member in members)


PARAMETERS: Final = (
    Parameter(
        name="kvm_path",
        kind=str,
        default="/usr/bin/qemu-system-x86_64",
        doc="Path of the QEMU program.",
        syntax=ABSOLUTE_PATH,
    ),
    Parameter(
        name="machine_version",
        kind=str,
        default="q35",
        doc="Machine type: q35, pc, or a versioned type such as pc-q35-7.2. An instance keeps its version until it is "
        "stopped, also in migrations.",
        syntax=Check("text without spaces or commas", lambda value: WORD.accepts(value) and "," not in value),
    ),
    Parameter(
        name="kvm_flag",
        kind=str,
        default="",
        doc="Accelerator: enabled requires KVM, disabled uses TCG. Empty: KVM with hardware virtualization, else TCG.",
        syntax=one_of("", "enabled", "disabled"),
        advice=lambda value: "without KVM the guest is many times slower" if value == "disabled" else None,
    ),
    Parameter(
        name="acpi",
        kind=bool,
        default=True,
        doc="Whether the guest has ACPI. Without it a graceful shutdown is not possible.",
        advice=lambda value: None if value else "a graceful shutdown is not possible: the guest has no power button",
    ),
    Parameter(
        name="firmware",
        kind=str,
        default="bios",
        doc="Firmware: the BIOS of QEMU, UEFI, or UEFI with Secure Boot and enrolled keys. UEFI firmware is the first "
        "match for the machine type among the firmware descriptions of the node. Each instance has its own UEFI "
        "variables, which outlive it.",
        syntax=one_of("bios", *UEFI_KINDS),
    ),
    Parameter(
        name="tpm",
        kind=bool,
        default=False,
        doc="Whether the instance has a TPM 2.0, provided by swtpm. The state of the TPM outlives the instance.",
    ),
    Parameter(
        name="virtio_rng",
        kind=bool,
        default=False,
        doc="Whether the guest has a virtio-rng device, with random numbers from the node.",
    ),
    Parameter(
        name="vsock_cid",
        kind=int,
        default=0,
        doc="Context id (CID) of the guest for vsock, unique on the node. 0: no vsock.",
        syntax=Check("0, or 3 to 4294967294", lambda value: value == 0 or 3 <= value <= 0xFFFFFFFE),
    ),
    Parameter(
        name="use_localtime",
        kind=bool,
        default=False,
        doc="Whether the clock of the guest starts with local time, not UTC.",
    ),
    Parameter(
        name="reboot_behavior",
        kind=str,
        default="reboot",
        doc="Effect of a reboot by the guest: the guest reboots, or the instance shuts down (exit).",
        syntax=one_of("reboot", "exit"),
    ),
    Parameter(
        name="user_shutdown",
        kind=bool,
        default=False,
        doc="Whether users of the guest may shut it down permanently. A shutdown by the guest is then reported as "
        "`is_user_shutdown`.",
    ),
    Parameter(
        name="hotplug_ports",
        kind=int,
        default=4,
        doc="On q35, the number of disks and NICs that can be hot-added. Each adds half a millisecond to the start.",
        syntax=between(0, MAX_PORTS),
    ),
    Parameter(
        name="kvm_pci_reservations",
        kind=int,
        default=FIRST_SLOT,
        doc="Number of slots of the root PCI bus that disks and NICs do not use. Built-in devices use the first twelve;"
        " the others are for devices in kvm_extra.",
        syntax=between(0, MAX_RESERVED_SLOTS),
        advice=lambda value: f"the first {FIRST_SLOT} slots are always reserved" if value < FIRST_SLOT else None,
    ),
    Parameter(
        name="kvm_extra",
        kind=str,
        default="",
        doc="Additional arguments for QEMU, in shell syntax, after all others. Options that hvkit sets itself are "
        "rejected, such as -name, -sandbox, -cpu, -smp and -m.",
        syntax=Check("arguments in shell syntax without options that are reserved for hvkit", passes(parse_extra)),
        advice=lambda value: "hvkit does not know how these arguments affect hotplug and migration" if value else None,
    ),
)
