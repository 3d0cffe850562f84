# SPDX-License-Identifier: BSD-2-Clause
"""QEMU's command line, read: argv in, `Options` or QEMU's own complaint out. Touches nothing."""

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import attrs

_SUFFIXES: Final = {"k": 10, "m": 20, "g": 30, "t": 40}
_MEBIBYTE: Final = 20

#: Options that are accepted and change nothing here, with and without an argument.
_IGNORED_FLAGS: Final = frozenset({"nodefaults", "no-user-config", "enable-kvm", "no-hpet", "nographic", "no-acpi"})
_IGNORED_OPTIONS: Final = frozenset(
    (
        *(
            "append",
            "audio",
            "bios",
            "boot",
            "cpu",
            "D",
            "d",
            "display",
            "fsdev",
            "fw_cfg",
            "global",
            "k",
            "numa",
            "L",
            "mem-path",
        ),
        *(
            "monitor",
            "msg",
            "net",
            "nic",
            "numa",
            "overcommit",
            "parallel",
            "rtc",
            "run-with",
            "sandbox",
            "set",
            "smbios",
        ),
        *("spice", "trace", "vga", "vnc", "watchdog-action"),
    )
)


class OptionError(Exception):
    """Raised when the command line is wrong, with what QEMU prints then."""


@attrs.frozen
class Described:
    """Something that an option describes.

    Attributes:
        option: the option and its argument, as QEMU quotes them in a complaint.
        data: the description, plain data.
        is_json: whether it was written as JSON; the members of the other form are all strings.
    """

    option: str
    data: dict[str, Any]
    is_json: bool


@attrs.frozen(kw_only=True)
class Chardev:
    """A character device: the other end of a monitor or of a serial port.

    Attributes:
        option: the option that asked for it.
        label: its id.
        backend: socket, stdio, file, null ...
        path: where a socket listens; empty where `fd` says it.
        fd: the listening socket that was inherited; None for none.
    """

    option: str
    label: str
    backend: str
    path: str = ""
    fd: int | None = None


@attrs.define(kw_only=True)
class Options:
    """What a command line asks for.

    Attributes:
        is_version_asked: print the version, do nothing else.
        is_paused: the machine starts paused.
        uuid: the machine's; zeros where none is given.
        machine: the machine type.
        accelerator: kvm or tcg.
        monitors: labels of the chardevs that speak QMP.
        is_kept_after_shutdown: the process outlives the guest's shutdown.
        is_ended_by_reboot: a reset ends the process.
        is_incoming: waits for a migration.
        files: files that have to be there, with the complaint where one is missing.
    """

    is_version_asked: bool = False
    is_paused: bool = False
    is_kept_after_shutdown: bool = False
    is_ended_by_reboot: bool = False
    is_incoming: bool = False
    name: str = ""
    uuid: str = "00000000-0000-0000-0000-000000000000"
    machine: str = "pc"
    accelerator: str = "tcg"
    memory_bytes: int = 128 << 20
    vcpus: int = 1
    pid_file: str = ""
    nodes: list[Described] = attrs.field(factory=list)
    devices: list[Described] = attrs.field(factory=list)
    netdevs: list[Described] = attrs.field(factory=list)
    objects: list[Described] = attrs.field(factory=list)
    chardevs: dict[str, Chardev] = attrs.field(factory=dict)
    monitors: list[str] = attrs.field(factory=list)
    files: list[tuple[str, str]] = attrs.field(factory=list)


def parse_keyval(text: str, implied: str = "") -> dict[str, str]:
    """Split ``key=value,key=value``; two commas are one that is meant.

    Args:
        text: the argument of an option.
        implied: the key of a first value that has none.
    """
    pairs: dict[str, str] = {}
    for index, part in enumerate(text.replace(",,", "\0").split(",")):
        key, equals, value = part.replace("\0", ",").partition("=")
        if equals:
            pairs[key] = value
        elif index == 0 and implied:
            pairs[implied] = key
        elif key:  # a word alone is a switch; the oldest spelling of "off" begins with no
            pairs[key.removeprefix("no")] = "off" if key.startswith("no") else "on"
    return pairs


def parse_size(text: str, option: str) -> int:
    """Read a size that is in MiB where it does not say otherwise."""
    number, suffix = (text[:-1], text[-1].lower()) if text[-1:].isalpha() else (text, "")
    shift = _SUFFIXES.get(suffix, _MEBIBYTE) if suffix in _SUFFIXES or not suffix else None
    if not number.isdigit() or shift is None:
        raise OptionError(f"{option}: Parameter 'size' expects a non-negative number below 2^64")
    return int(number) << shift


def _describe(option: str, text: str, implied: str) -> Described:
    if not text.startswith("{"):
        return Described(option, _nest(parse_keyval(text, implied)), is_json=False)
    try:
        data = json.loads(text)
    except ValueError:
        raise OptionError(f"{option}: JSON parse error") from None
    return Described(option, data, is_json=True)


def _nest(pairs: dict[str, str]) -> dict[str, Any]:
    """Turn dotted keys into objects."""
    nested: dict[str, Any] = {}
    for key, value in pairs.items():
        *outer, last = key.split(".")
        place = nested
        for step in outer:
            place = place.setdefault(step, {})
        place[last] = value
    return nested


class _Parser:
    """Takes options one by one. A handler is named after its option."""

    def __init__(self) -> None:
        self.options = Options()
        self._monitor_count = 0

    def describe_node(self, option: str, text: str) -> None:
        self.options.nodes.append(_describe(option, text, "driver"))

    def describe_device(self, option: str, text: str) -> None:
        self.options.devices.append(_describe(option, text, "driver"))

    def describe_netdev(self, option: str, text: str) -> None:
        self.options.netdevs.append(_describe(option, text, "type"))

    def describe_object(self, option: str, text: str) -> None:
        self.options.objects.append(_describe(option, text, "qom-type"))

    def name(self, option: str, text: str) -> None:
        self.options.name = parse_keyval(text, "guest").get("guest", "")

    def uuid(self, option: str, text: str) -> None:
        try:
            self.options.uuid = str(uuid.UUID(text))
        except ValueError:
            raise OptionError(f"{option}: failed to parse UUID string: wrong format") from None

    def machine(self, option: str, text: str) -> None:
        pairs = parse_keyval(text, "type")
        self.options.machine = pairs.get("type", self.options.machine)
        self.options.accelerator = pairs.get("accel", self.options.accelerator)

    def accelerator(self, option: str, text: str) -> None:
        name = parse_keyval(text, "accel").get("accel", "")
        if name not in ("kvm", "tcg"):
            raise OptionError(f"{option}: invalid accelerator {name}")
        self.options.accelerator = name

    def memory(self, option: str, text: str) -> None:
        self.options.memory_bytes = parse_size(parse_keyval(text, "size").get("size", "128"), option)

    def processors(self, option: str, text: str) -> None:
        count = parse_keyval(text, "cpus").get("cpus", "1")
        if not count.isdigit() or not int(count):
            raise OptionError(f"{option}: Invalid CPU topology")
        self.options.vcpus = int(count)

    def pid_file(self, option: str, text: str) -> None:
        self.options.pid_file = text

    def boot_file(self, option: str, text: str) -> None:
        what = "kernel file" if option.startswith("-kernel") else "initrd file"
        self.options.files.append((text, f"could not open {what} '{text}'"))

    def incoming(self, option: str, text: str) -> None:
        self.options.is_incoming = True

    def action(self, option: str, text: str) -> None:
        pairs = parse_keyval(text)
        self.options.is_kept_after_shutdown |= pairs.get("shutdown") == "pause"
        self.options.is_ended_by_reboot |= pairs.get("reboot") == "shutdown"

    def chardev(self, option: str, text: str) -> None:
        pairs = parse_keyval(text, "backend")
        if "id" not in pairs or "backend" not in pairs:
            raise OptionError(f"{option}: chardev: no id or backend specified")
        self._add_chardev(option, pairs["id"], pairs)

    def _add_chardev(self, option: str, label: str, pairs: dict[str, str]) -> None:
        fd = pairs.get("fd")
        if fd is not None and not fd.isdigit():
            raise OptionError(f"{option}: File descriptor '{fd}' is not a socket")
        if pairs["backend"] == "socket" and fd is None and not pairs.get("path"):
            raise OptionError(f"{option}: chardev: socket: no path given")
        self.options.chardevs[label] = Chardev(
            option=option,
            label=label,
            backend=pairs["backend"],
            path=pairs.get("path", ""),
            fd=int(fd) if fd is not None else None,
        )

    def monitor(self, option: str, text: str) -> None:
        pairs = parse_keyval(text, "chardev")
        label = pairs.get("chardev", "")
        if label not in self.options.chardevs:
            raise OptionError(f'{option}: chardev "{label}" not found')
        if pairs.get("mode") == "control":
            self.options.monitors.append(label)

    def qmp(self, option: str, text: str) -> None:
        label = f"compat_monitor{self._monitor_count}"
        self._monitor_count += 1
        self.options.monitors.append(self._compat_chardev(option, label, text))

    def serial(self, option: str, text: str) -> None:
        if text != "none":
            self._compat_chardev(option, f"serial{len(self.options.chardevs)}", text)

    def _compat_chardev(self, option: str, label: str, text: str) -> str:
        """Make the chardev that a short form stands for, ``unix:PATH,server=on`` for one, and return its label."""
        backend, _, rest = text.partition(":")
        if backend == "chardev":
            return rest
        pairs = parse_keyval(rest, "path") if backend == "unix" else {}
        self._add_chardev(option, label, {**pairs, "backend": "socket" if backend == "unix" else backend})
        return label

    def flag(self, name: str) -> bool:
        """Take an option that has no argument; say whether it is one."""
        if name == "S":
            self.options.is_paused = True
        elif name == "version":
            self.options.is_version_asked = True
        elif name == "no-shutdown":
            self.options.is_kept_after_shutdown = True
        elif name == "no-reboot":
            self.options.is_ended_by_reboot = True
        else:
            return name in _IGNORED_FLAGS
        return True


def _ignore(parser: _Parser, option: str, text: str) -> None:
    """Take an option that changes nothing here."""


_HANDLERS: Final[dict[str, Callable[[_Parser, str, str], None]]] = {
    "blockdev": _Parser.describe_node,
    "device": _Parser.describe_device,
    "netdev": _Parser.describe_netdev,
    "object": _Parser.describe_object,
    "name": _Parser.name,
    "uuid": _Parser.uuid,
    "M": _Parser.machine,
    "machine": _Parser.machine,
    "accel": _Parser.accelerator,
    "m": _Parser.memory,
    "smp": _Parser.processors,
    "pidfile": _Parser.pid_file,
    "kernel": _Parser.boot_file,
    "initrd": _Parser.boot_file,
    "incoming": _Parser.incoming,
    "action": _Parser.action,
    "chardev": _Parser.chardev,
    "mon": _Parser.monitor,
    "qmp": _Parser.qmp,
    "serial": _Parser.serial,
    **dict.fromkeys(_IGNORED_OPTIONS, _ignore),
}


#: Things that others refer to come first, as in QEMU, wherever they stand.
_ORDER: Final = {"chardev": 0}


def parse_options(arguments: Sequence[str]) -> Options:
    """Read a command line, without the program's own name.

    Raises:
        OptionError: an option is unknown, lacks its argument, or its argument is wrong.
    """
    parser = _Parser()
    for name, option, text in sorted(_split(parser, arguments), key=lambda each: _ORDER.get(each[0], 1)):
        _HANDLERS[name](parser, option, text)
    return parser.options


def _split(parser: _Parser, arguments: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield the options that have arguments: name, what QEMU quotes, argument."""
    remaining = iter(arguments)
    for word in remaining:
        if not word.startswith("-"):
            raise OptionError(f"{word}: Could not open '{word}': No such file or directory")
        name = word.removeprefix("-").removeprefix("-")
        if parser.flag(name):
            continue
        if name not in _HANDLERS:
            raise OptionError(f"{word}: invalid option")
        text = next(remaining, None)
        if text is None:
            raise OptionError(f"{word}: requires an argument")
        yield name, f"{word} {text}", text
