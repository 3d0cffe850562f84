# SPDX-License-Identifier: BSD-2-Clause
"""Parser of QEMU's command line: argv to `Options`, or QEMU's error message. Pure."""

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import attrs

_SUFFIXES: Final = {"k": 10, "m": 20, "g": 30, "t": 40}
_MEBIBYTE: Final = 20

#: Options that the simulator accepts and ignores, without and with an argument.
_IGNORED_FLAGS: Final = frozenset({"nodefaults", "no-user-config", "enable-kvm", "no-hpet", "nographic", "no-acpi"})
_IGNORED_OPTIONS: Final = frozenset(
    (
        *("append", "audio", "bios", "boot", "cpu", "D", "d", "display", "fsdev", "fw_cfg", "global", "k", "L"),
        *("mem-path", "monitor", "msg", "net", "nic", "numa", "overcommit", "parallel", "rtc", "run-with", "sandbox"),
        *("set", "smbios", "spice", "trace", "vga", "vnc", "watchdog-action"),
    )
)


class OptionError(Exception):
    """Raised when the command line is invalid, with QEMU's error message."""


@attrs.frozen
class Description:
    """The object that an option such as -device describes.

    Attributes:
        option: the option and its argument, as QEMU quotes them in an error message.
        data: the properties as plain data.
        is_json: whether the argument is JSON. In the key=value form all values are strings.
    """

    option: str
    data: dict[str, Any]
    is_json: bool


@attrs.frozen(kw_only=True)
class Chardev:
    """A character device: the backend of a monitor or a serial port.

    Attributes:
        option: the option that defines it.
        label: the id.
        backend: socket, stdio, file, null ...
        path: the path of the listening socket; empty if `fd` is set.
        fd: an inherited listening socket; None for none.
    """

    option: str
    label: str
    backend: str
    path: str = ""
    fd: int | None = None


@attrs.define(kw_only=True)
class Options:
    """The parsed command line.

    Attributes:
        is_version_asked: print the version and exit.
        is_paused: start with a paused guest.
        uuid: the UUID; zeros if none is given.
        machine: the machine type.
        accelerator: kvm or tcg.
        monitors: labels of the chardevs that serve QMP.
        no_shutdown: keep the process when the guest shuts down.
        no_reboot: exit at a reset.
        is_incoming: wait for an incoming migration.
        required_files: files that must exist, each with the error message for a missing file.
    """

    is_version_asked: bool = False
    is_paused: bool = False
    no_shutdown: bool = False
    no_reboot: bool = False
    is_incoming: bool = False
    name: str = ""
    uuid: str = "00000000-0000-0000-0000-000000000000"
    machine: str = "pc"
    accelerator: str = "tcg"
    memory_bytes: int = 128 << 20
    vcpus: int = 1
    pid_file: str = ""
    nodes: list[Description] = attrs.field(factory=list)
    devices: list[Description] = attrs.field(factory=list)
    netdevs: list[Description] = attrs.field(factory=list)
    objects: list[Description] = attrs.field(factory=list)
    chardevs: dict[str, Chardev] = attrs.field(factory=dict)
    monitors: list[str] = attrs.field(factory=list)
    required_files: list[tuple[str, str]] = attrs.field(factory=list)


def parse_keyval(text: str, implied: str = "") -> dict[str, str]:
    """Split ``key=value,key=value``. Two commas stand for a literal comma.

    Args:
        text: the argument of an option.
        implied: the key of a first value without a key.
    """
    pairs: dict[str, str] = {}
    for index, part in enumerate(text.replace(",,", "\0").split(",")):
        key, equals, value = part.replace("\0", ",").partition("=")
        if equals:
            pairs[key] = value
        elif index == 0 and implied:
            pairs[implied] = key
        elif key:  # a key without a value is a boolean; the prefix "no" is the old spelling of "off"
            pairs[key.removeprefix("no")] = "off" if key.startswith("no") else "on"
    return pairs


def parse_size(text: str, option: str) -> int:
    """Parse a size in bytes. A number without a suffix is in MiB."""
    number, suffix = (text[:-1], text[-1].lower()) if text[-1:].isalpha() else (text, "")
    shift = _SUFFIXES.get(suffix, _MEBIBYTE) if suffix in _SUFFIXES or not suffix else None
    if not number.isdigit() or shift is None:
        raise OptionError(f"{option}: Parameter 'size' expects a non-negative number below 2^64")
    return int(number) << shift


def _describe(option: str, text: str, implied: str) -> Description:
    if not text.startswith("{"):
        return Description(option, _nest(parse_keyval(text, implied)), is_json=False)
    try:
        data = json.loads(text)
    except ValueError:
        raise OptionError(f"{option}: JSON parse error") from None
    return Description(option, data, is_json=True)


def _nest(pairs: dict[str, str]) -> dict[str, Any]:
    """Convert dotted keys to nested objects."""
    nested: dict[str, Any] = {}
    for key, value in pairs.items():
        *outer, last = key.split(".")
        place = nested
        for step in outer:
            place = place.setdefault(step, {})
        place[last] = value
    return nested


class _Parser:
    """Collects options one by one. Each option has a handler method."""

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
        self.options.required_files.append((text, f"could not open {what} '{text}'"))

    def incoming(self, option: str, text: str) -> None:
        self.options.is_incoming = True

    def action(self, option: str, text: str) -> None:
        pairs = parse_keyval(text)
        self.options.no_shutdown |= pairs.get("shutdown") == "pause"
        self.options.no_reboot |= pairs.get("reboot") == "shutdown"

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
        """Add the chardev for a short form such as ``unix:PATH,server=on``, and return its label."""
        backend, _, rest = text.partition(":")
        if backend == "chardev":
            return rest
        pairs = parse_keyval(rest, "path") if backend == "unix" else {}
        self._add_chardev(option, label, {**pairs, "backend": "socket" if backend == "unix" else backend})
        return label

    def flag(self, name: str) -> bool:
        """Handle an option without an argument. Return False if it takes an argument or does not exist."""
        if name == "S":
            self.options.is_paused = True
        elif name == "version":
            self.options.is_version_asked = True
        elif name == "no-shutdown":
            self.options.no_shutdown = True
        elif name == "no-reboot":
            self.options.no_reboot = True
        else:
            return name in _IGNORED_FLAGS
        return True


def _ignore(parser: _Parser, option: str, text: str) -> None:
    """Ignore an option."""


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


#: As in QEMU, chardevs are created first, because other options refer to them.
_ORDER: Final = {"chardev": 0}


def parse_options(arguments: Sequence[str]) -> Options:
    """Parse a command line, without the program name.

    Raises:
        OptionError: an option is unknown, lacks its argument, or has an invalid argument.
    """
    parser = _Parser()
    for name, option, text in sorted(_split(parser, arguments), key=lambda each: _ORDER.get(each[0], 1)):
        _HANDLERS[name](parser, option, text)
    return parser.options


def _split(parser: _Parser, arguments: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield the options with arguments: name, text that QEMU quotes in error messages, argument."""
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
