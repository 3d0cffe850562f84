# SPDX-License-Identifier: BSD-2-Clause
"""The parameters of the KVM hypervisor: the table, and the small languages that some values are written in."""

import shlex
from collections.abc import Mapping
from typing import Any, Final, get_args

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.accounts import can_change_account, find_account
from hvkit.hypervisor.kvm.confinement import parse_account_pool
from hvkit.hypervisor.kvm.firmware import UEFI_KINDS
from hvkit.hypervisor.kvm.topology import MAX_PORTS
from hvkit.hypervisor.node import read_online_cpus
from hvkit.hypervisor.parameters import (
    ABSOLUTE_PATH,
    DIRECTORY,
    EXECUTABLE_FILE,
    READABLE_FILE,
    Check,
    Parameter,
    ParameterTable,
    at_least,
    between,
    one_of,
)
from hvkit.qmp.schema import MigrationCapability

#: Which device each type of disk is.
DISK_DRIVERS: Final[dict[str, str]] = {"paravirtual": "virtio-blk-pci", "ide": "ide-hd", "scsi-hd": "scsi-hd"}

#: Which device each type of SCSI controller is, and how many targets it serves.
SCSI_CONTROLLERS: Final[dict[str, tuple[str, int]]] = {
    "lsi": ("lsi53c895a", 7),
    "virtio-scsi-pci": ("virtio-scsi-pci", 255),
    "megasas": ("megasas", 64),
    "dc390": ("dc390", 7),
}

#: Which device each type of NIC is; those that are not here are their own device.
NIC_DRIVERS: Final[dict[str, str]] = {"paravirtual": "virtio-net-pci"}
NIC_TYPES: Final = (
    *("paravirtual", "e1000", "e1000e", "i82551", "i82557b", "i82559er", "ne2k_pci", "pcnet", "rtl8139", "vmxnet3"),
)

#: Which device each type of display adapter is.
DISPLAY_DRIVERS: Final[dict[str, str]] = {
    "std": "VGA",
    "cirrus": "cirrus-vga",
    "virtio": "virtio-vga",
    "vmware": "vmware-svga",
    "qxl": "qxl-vga",
}

#: Capabilities that take more than switching on: what they are for is not what a migration to another node does.
_OTHER_CAPABILITIES: Final = frozenset({"background-snapshot", "block", "mapped-ram", "x-colo", "x-ignore-shared"})
_SERIAL_SPEEDS: Final = frozenset({4800, 9600, 19200, 38400, 57600, 115200, 230400, 345600, 460800})

#: Options that would take an instance out of our hands: what it is called, how it is watched and how it starts.
_RESERVED_OPTIONS: Final = frozenset(
    {
        *("name", "uuid", "pidfile", "D", "daemonize", "run-with", "runas", "chroot", "nographic"),
        *("S", "incoming", "loadvm", "preconfig", "only-migratable", "action", "no-shutdown", "no-reboot"),
        *("readconfig", "writeconfig", "h", "help", "version"),
    }
)


def parse_extra(text: str) -> tuple[str, ...]:
    """Take apart the extra arguments of `kvm_extra`, which are written as for a shell.

    Raises:
        ParameterError: a quote is not closed, or an option is one that only hvkit may give.
    """
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise ParameterError("kvm_extra", text, f"cannot be taken apart into words: {error}") from error
    for word in words:
        if word.startswith("-") and word.lstrip("-") in _RESERVED_OPTIONS:
            raise ParameterError("kvm_extra", text, f"{word} is not for extra arguments: hvkit decides it")
        if not word.isprintable():
            raise ParameterError("kvm_extra", text, f"an argument has a character that cannot be printed: {word!r}")
    return words


#: The processors of the host that a virtual one may run on; None for all of them.
CpuSet = frozenset[int] | None


def parse_cpu_mask(text: str) -> tuple[CpuSet, ...]:
    """Take apart a `cpu_mask` such as ``0-2:all:1,3``.

    Returns:
        One set for each virtual processor; a single one for the instance as a whole.

    Raises:
        ParameterError: it is written in another way.
    """
    return tuple(_parse_cpu_set(part, text) for part in text.split(":"))


def _parse_cpu_set(part: str, text: str) -> CpuSet:
    if part == "all":
        return None
    cpus: set[int] = set()
    for item in part.split(","):
        first, dash, last = item.partition("-")
        if not (_is_number(first) and (not dash or (_is_number(last) and int(first) <= int(last)))):
            raise ParameterError("cpu_mask", text, f"expected something like 0-2:all:1,3, got {text!r}")
        cpus.update(range(int(first), int(last if dash else first) + 1))
    return frozenset(cpus)


def _has_processors(text: str) -> bool:
    """Whether this node has for each virtual processor one that it may run on; more is what the kernel asks for."""
    return all(cpus is None or cpus & read_online_cpus() for cpus in parse_cpu_mask(text))


def _is_number(text: str) -> bool:
    # Four digits: more processors than any host has, and not so many that a range of them fills the memory.
    return text.isascii() and text.isdigit() and len(text) <= 4


def _passes(parse: Any) -> Any:
    """Make a rule of a parser: text that it refuses is refused."""

    def accepts(value: str) -> bool:
        parse(value)
        return True

    return accepts


def _native_aio_is_direct(parameters: Mapping[str, Any]) -> None:
    if parameters["disk_aio"] == "native" and parameters["disk_cache"] != "none":
        raise ParameterError(
            "disk_aio", "native", "native needs disk_cache none: the kernel has it for direct access only"
        )


def _initrd_has_kernel(parameters: Mapping[str, Any]) -> None:
    if parameters["initrd_path"] and not parameters["kernel_path"]:
        raise ParameterError("initrd_path", parameters["initrd_path"], "there is no kernel_path that it belongs to")


def _account_has_its_source(parameters: Mapping[str, Any]) -> None:
    for model, source in (("user", "security_domain"), ("pool", "security_pool")):
        if (parameters["security_model"] == model) is not bool(parameters[source]):
            problem = f"{source} is for security_model {model}, which is {parameters['security_model']}"
            if parameters["security_model"] == model:
                problem = f"security_model {model} needs it"
            raise ParameterError(source, parameters[source], problem)


def _are_capabilities(text: str) -> bool:
    return set(text.split(":")) <= set(get_args(MigrationCapability)) - _OTHER_CAPABILITIES


def _can_have_account(model: str) -> bool:
    return model == "none" or can_change_account()


_PRINTABLE: Final = Check("printable text on one line", str.isprintable)
_WORD: Final = Check("one word", lambda value: value.isprintable() and " " not in value)

TABLE: Final = ParameterTable(
    (
        Parameter(
            name="kvm_path",
            kind=str,
            default="/usr/bin/qemu-system-x86_64",
            doc="The QEMU program.",
            syntax=ABSOLUTE_PATH,
            node=EXECUTABLE_FILE,
        ),
        Parameter(
            name="machine_version",
            kind=str,
            default="q35",
            doc="Machine type: q35, pc, or a versioned one of either, such as pc-q35-7.2. An instance keeps the version"
            " that it was started with.",
            syntax=Check("one word without commas", lambda value: _WORD.accepts(value) and "," not in value),
        ),
        Parameter(
            name="kvm_flag",
            kind=str,
            default="",
            doc="Acceleration: enabled demands KVM, disabled does without; empty uses KVM where it really works.",
            syntax=one_of("", "enabled", "disabled"),
        ),
        Parameter(
            name="acpi",
            kind=bool,
            default=True,
            doc="Whether the guest has ACPI. Without it there is no power button, and stopping is always hard.",
            advice=lambda value: None if value else "the guest cannot be asked to shut down: it has no power button",
        ),
        Parameter(
            name="cpu_type",
            kind=str,
            default="",
            doc="CPU model, with features as QEMU writes them (Skylake-Server,-hle). Empty and host: all that the "
            "accelerator has to offer.",
            syntax=_WORD,
        ),
        Parameter(
            name="cpu_sockets",
            kind=int,
            default=0,
            doc="Sockets that the processors are in; 0: QEMU decides.",
            syntax=at_least(0),
        ),
        Parameter(name="cpu_cores", kind=int, default=0, doc="Cores of a socket; 0: QEMU decides.", syntax=at_least(0)),
        Parameter(
            name="cpu_threads", kind=int, default=0, doc="Threads of a core; 0: QEMU decides.", syntax=at_least(0)
        ),
        Parameter(
            name="cpu_mask",
            kind=str,
            default="all",
            doc="Processors of the host to run on: all, a list (0-3,6) for the instance, or one list for each virtual "
            "processor with colons between them (0-2:all:1,3).",
            syntax=Check("something like all, 0-3,6 or 0-2:all:1,3", _passes(parse_cpu_mask)),
            node=Check("processors that this node has", _has_processors),
        ),
        Parameter(
            name="mem_path",
            kind=str,
            default="",
            doc="Directory whose files hold the guest's memory, such as a mount of hugetlbfs. Empty: ordinary memory.",
            syntax=ABSOLUTE_PATH,
            node=DIRECTORY,
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
            name="io_threads",
            kind=int,
            default=0,
            doc="Threads that serve virtio disks beside QEMU's main loop; 0: the main loop does.",
            syntax=between(0, 64),
        ),
        Parameter(
            name="kernel_path",
            kind=str,
            default="",
            doc="Kernel to boot directly; boot_order has no say then. Empty: the guest's own boot loader.",
            syntax=ABSOLUTE_PATH,
            node=READABLE_FILE,
        ),
        Parameter(
            name="initrd_path",
            kind=str,
            default="",
            doc="Initial RAM disk for kernel_path.",
            syntax=ABSOLUTE_PATH,
            node=READABLE_FILE,
        ),
        Parameter(
            name="root_path",
            kind=str,
            default="/dev/vda1",
            doc="The guest's root device, for kernel_path. Empty: none.",
            syntax=_PRINTABLE,
        ),
        Parameter(
            name="kernel_args",
            kind=str,
            default="ro",
            doc="More arguments for the kernel of kernel_path.",
            syntax=_PRINTABLE,
        ),
        Parameter(
            name="boot_order",
            kind=str,
            default="disk",
            doc="What to boot from: the first disk or the first NIC.",
            syntax=one_of("disk", "network"),
        ),
        Parameter(
            name="disk_type",
            kind=str,
            default="paravirtual",
            doc="What the guest sees its disks as.",
            syntax=one_of(*DISK_DRIVERS),
        ),
        Parameter(
            name="scsi_controller_type",
            kind=str,
            default="lsi",
            doc="The controller of SCSI disks.",
            syntax=one_of(*SCSI_CONTROLLERS),
            advice=lambda value: (
                "few guests have a driver for it any more; virtio-scsi-pci is the common one"
                if value == "dc390"
                else None
            ),
        ),
        Parameter(
            name="disk_cache",
            kind=str,
            default="default",
            doc="How the host caches disks: none bypasses its page cache, writethrough makes every write wait for the "
            "medium, writeback and default let the guest decide by its flushes.",
            syntax=one_of("default", "none", "writethrough", "writeback"),
        ),
        Parameter(
            name="disk_aio",
            kind=str,
            default="threads",
            doc="How QEMU talks to the host about disks.",
            syntax=one_of("threads", "native", "io_uring"),
        ),
        Parameter(
            name="disk_discard",
            kind=str,
            default="ignore",
            doc="Whether what the guest discards is given back to the host (unmap).",
            syntax=one_of("ignore", "unmap"),
        ),
        Parameter(
            name="nic_type",
            kind=str,
            default="paravirtual",
            doc="What the guest sees its NICs as.",
            syntax=one_of(*NIC_TYPES),
        ),
        Parameter(
            name="virtio_net_queues",
            kind=int,
            default=1,
            doc="Queues of each paravirtual NIC: how many processors can send and receive at the same time.",
            syntax=between(1, 32),
        ),
        Parameter(
            name="vhost_net",
            kind=bool,
            default=True,
            doc="Whether the kernel moves the packets of paravirtual NICs, on a node whose kernel can.",
        ),
        Parameter(
            name="vnet_hdr",
            kind=bool,
            default=True,
            doc="Whether packets carry a virtio header between the guest and its taps, which saves checksums.",
        ),
        Parameter(
            name="network_script",
            kind=str,
            default="",
            doc="Program that is told when the interface of a NIC comes (up) and has gone (down), as its argument, and"
            " everything about the NIC by its environment. Empty: none.",
            syntax=ABSOLUTE_PATH,
            node=EXECUTABLE_FILE,
        ),
        Parameter(
            name="sandbox",
            kind=str,
            default="",
            doc="Whether the kernel refuses QEMU the system calls that it does not need: enabled demands that, disabled"
            " does without; empty: where the QEMU program can.",
            syntax=one_of("", "enabled", "disabled"),
            advice=lambda value: (
                "a guest that takes over QEMU can start programs on this node" if value == "disabled" else None
            ),
        ),
        Parameter(
            name="security_model",
            kind=str,
            default="none",
            doc="Who QEMU runs as: whoever starts it (none), the user security_domain (user), or one of security_pool"
            " that no other instance has (pool).",
            syntax=one_of("none", "user", "pool"),
            node=Check("none: only root can start QEMU as somebody else", _can_have_account),
        ),
        Parameter(
            name="security_domain",
            kind=str,
            default="",
            doc="User of this node that QEMU runs as, for security_model user.",
            syntax=_WORD,
            node=Check("a user of this node other than root", _passes(find_account)),
        ),
        Parameter(
            name="security_pool",
            kind=str,
            default="",
            doc="User ids for security_model pool, such as 60000-60999. Their groups have the same numbers. Nobody else"
            " should have them.",
            syntax=Check("user ids such as 60000-60999", _passes(parse_account_pool)),
        ),
        Parameter(
            name="use_chroot",
            kind=bool,
            default=False,
            doc="Whether QEMU's root directory is an empty one once its machine is made.",
            node=Check("false: only root can change a root directory", lambda value: not value or can_change_account()),
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
            name="vga",
            kind=str,
            default="",
            doc="Display adapter. Empty: none.",
            syntax=one_of("", "none", *DISPLAY_DRIVERS),
        ),
        Parameter(
            name="serial_console",
            kind=bool,
            default=True,
            doc="Whether there is a serial port, with a console to attach to.",
        ),
        Parameter(
            name="serial_speed",
            kind=int,
            default=38400,
            doc="Speed of the serial console in bits per second, for the kernel of kernel_path.",
            syntax=Check("a speed that serial lines have", _SERIAL_SPEEDS.__contains__),
        ),
        Parameter(
            name="use_guest_agent",
            kind=bool,
            default=False,
            doc="Whether there is a port for the QEMU guest agent.",
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
            name="migration_bandwidth",
            kind=int,
            default=32,
            doc="How much a migration sends in a second at most, in MiB; 0: as much as it can.",
            syntax=between(0, 1 << 20),
        ),
        Parameter(
            name="migration_downtime",
            kind=int,
            default=30,
            doc="For how many milliseconds the guest may stand still at the end of a migration.",
            syntax=between(0, 2_000_000),
        ),
        Parameter(
            name="migration_caps",
            kind=str,
            default="",
            doc="Capabilities that both ends of a migration switch on, with colons between them"
            " (auto-converge:multifd).",
            syntax=Check("migration capabilities of QEMU with colons between them", _are_capabilities),
        ),
        Parameter(
            name="kvm_extra",
            kind=str,
            default="",
            doc="More arguments for QEMU, written as for a shell. They come after all others.",
            syntax=Check("arguments written as for a shell", _passes(parse_extra)),
            advice=lambda value: (
                "hvkit does not know what these arguments do to hotplug and migration" if value else None
            ),
        ),
    ),
    rules=(_native_aio_is_direct, _initrd_has_kernel, _account_has_its_source),
)
