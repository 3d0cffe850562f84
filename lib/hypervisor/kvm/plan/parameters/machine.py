# SPDX-License-Identifier: BSD-2-Clause
"""Parameters: the machine as such, and the program that models it."""

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

#: Options that would take an instance out of our hands: what it is called, how it is watched, how it starts, and what
#: is remembered of it and compared before it moves.
_RESERVED_OPTIONS: Final = frozenset(
    {
        *("name", "uuid", "pidfile", "daemonize", "run-with", "runas", "chroot", "nographic"),
        *("S", "incoming", "loadvm", "preconfig", "only-migratable", "action", "no-shutdown", "no-reboot"),
        *("readconfig", "writeconfig", "h", "help", "version"),
        *("D", "trace", "sandbox", "m", "smp", "cpu", "accel", "enable-kvm"),
    }
)

#: Options whose first member may be the type of the machine.
_MACHINE_OPTIONS: Final = frozenset({"machine", "M"})


def parse_extra(text: str) -> tuple[str, ...]:
    """Take apart the extra arguments of `kvm_extra`, which are written as for a shell.

    Raises:
        ParameterError: a quote is not closed, or an option is one that only hvkit may give.
    """
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise ParameterError("kvm_extra", text, f"cannot be taken apart into words: {error}") from error
    for word, following in zip(words, (*words, "")[1:], strict=True):
        if _is_option(word, _MACHINE_OPTIONS) and _names_machine(following):
            problem = f"{word} {following}: the type of a machine is machine_version's to say"
            raise ParameterError("kvm_extra", text, problem)
        if _is_option(word, _RESERVED_OPTIONS):
            raise ParameterError("kvm_extra", text, f"{word} is not for extra arguments: hvkit decides it")
        if not word.isprintable():
            raise ParameterError("kvm_extra", text, f"an argument has a character that cannot be printed: {word!r}")
    return words


def _is_option(word: str, names: frozenset[str]) -> bool:
    # QEMU takes two hyphens for one.
    return word.startswith("-") and word.lstrip("-") in names


def _names_machine(text: str) -> bool:
    first, *_ = members = text.split(",")
    return "=" not in first or any(member.startswith("type=") for member in members)


PARAMETERS: Final = (
    Parameter(
        name="kvm_path",
        kind=str,
        default="/usr/bin/qemu-system-x86_64",
        doc="The QEMU program.",
        syntax=ABSOLUTE_PATH,
    ),
    Parameter(
        name="machine_version",
        kind=str,
        default="q35",
        doc="Machine type: q35, pc, or a versioned one of either, such as pc-q35-7.2. An instance keeps the version"
        " that it was started with.",
        syntax=Check("one word without commas", lambda value: WORD.accepts(value) and "," not in value),
    ),
    Parameter(
        name="kvm_flag",
        kind=str,
        default="",
        doc="Acceleration: enabled demands KVM, disabled does without; empty uses KVM where it really works.",
        syntax=one_of("", "enabled", "disabled"),
        advice=lambda value: "instructions of the guest take many times as long" if value == "disabled" else None,
    ),
    Parameter(
        name="acpi",
        kind=bool,
        default=True,
        doc="Whether the guest has ACPI. Without it there is no power button, and stopping is always hard.",
        advice=lambda value: None if value else "the guest cannot be asked to shut down: it has no power button",
    ),
    Parameter(
        name="firmware",
        kind=str,
        default="bios",
        doc="What the machine starts with: QEMU's own BIOS, UEFI, or UEFI with Secure Boot and the usual keys. "
        "UEFI is the first that this node's descriptions of firmware have for the machine type; each instance has "
        "variables of its own, which outlive it.",
        syntax=one_of("bios", *UEFI_KINDS),
    ),
    Parameter(
        name="tpm",
        kind=bool,
        default=False,
        doc="Whether it has a TPM 2.0, by swtpm. What that keeps outlives the instance.",
    ),
    Parameter(
        name="virtio_rng",
        kind=bool,
        default=False,
        doc="Whether the guest gets random numbers from the host.",
    ),
    Parameter(
        name="vsock_cid",
        kind=int,
        default=0,
        doc="Context id for sockets between guest and host: 3 or more, and no other guest's. 0: no vsock.",
        syntax=Check("0, or 3 to 4294967294", lambda value: value == 0 or 3 <= value <= 0xFFFFFFFE),
    ),
    Parameter(
        name="use_localtime",
        kind=bool,
        default=False,
        doc="Whether the guest's clock starts with local time, not UTC.",
    ),
    Parameter(
        name="reboot_behavior",
        kind=str,
        default="reboot",
        doc="What a reboot by the guest does: it reboots, or it shuts the instance down (exit).",
        syntax=one_of("reboot", "exit"),
    ),
    Parameter(
        name="user_shutdown",
        kind=bool,
        default=False,
        doc="Whether the guest's user may shut it down from within, and it stays so: then `is_user_shutdown` is told.",
    ),
    Parameter(
        name="hotplug_ports",
        kind=int,
        default=4,
        doc="On q35, how many disks and NICs can be added to those that the instance starts with. Each takes half a"
        " millisecond of the start, used or not.",
        syntax=between(0, MAX_PORTS),
    ),
    Parameter(
        name="kvm_pci_reservations",
        kind=int,
        default=FIRST_SLOT,
        doc="How many slots of the root PCI bus are kept from disks and NICs. The board and devices of hvkit's own "
        "have the first dozen in any case, those of kvm_extra the rest.",
        syntax=between(0, MAX_RESERVED_SLOTS),
        advice=lambda value: f"the first {FIRST_SLOT} are kept in any case" if value < FIRST_SLOT else None,
    ),
    Parameter(
        name="kvm_extra",
        kind=str,
        default="",
        doc="More arguments for QEMU, written as for a shell. They come after all others. What hvkit has to know, and "
        "has a parameter for, is refused: names, monitors' files, the sandbox, processors, memory.",
        syntax=Check("arguments written as for a shell", passes(parse_extra)),
        advice=lambda value: "hvkit does not know what these arguments do to hotplug and migration" if value else None,
    ),
)
