# SPDX-License-Identifier: BSD-2-Clause
"""A guest in one sector: it greets on its serial port, sleeps, powers off when its power button is pressed, and lets go
of every PCI device that it is asked for. It can be made to panic or to reboot instead of powering off.

It needs no kernel, no download and no second, on the machines ``pc`` and ``q35``, under KVM and TCG alike. Between two
ticks of its clock it sleeps, so that it costs the node nothing.
"""

from __future__ import annotations

import enum
import os
from pathlib import Path
from typing import Final

from hvkit.errors import ProgrammerError

GREETING: Final = "HVKIT-GUEST-READY"
FAREWELL: Final = "HVKIT-GUEST-OFF"

SECTOR_BYTES: Final = 512
#: The BIOS wants a disk to have at least some of a cylinder.
DISK_BYTES: Final = 1 << 20

#: Where a BIOS loads the first sector of a disk.
_ORIGIN: Final = 0x7C00

#: Where SeaBIOS puts the ACPI power management registers, on both machines.
#: Source: ACPI specification, 4.8.3 "PM1 Event Grouping" and 4.8.4 "PM1 Control Registers".
_PM1_STATUS: Final = 0x600
_PM1_ENABLE: Final = 0x602
_PM1_CONTROL: Final = 0x604
#: The bit of the power button in PM1_STATUS and PM1_ENABLE, as it stands in their high byte.
_POWER_BUTTON_HIGH: Final = 0x01
#: Sleep enable, with sleep type 0: "soft off" on both machines.
_SLEEP: Final = 0x2000

#: Where each machine has the registers of ACPI's PCI hotplug, and how many buses are looked at.
#: Source: QEMU's docs/specs/acpi_pci_hotplug.
_HOTPLUG_REGISTERS: Final = {"pc": 0xAE00, "q35": 0x0CC0}
_HOTPLUG_BUSES: Final = 32
#: From there: the slots of the bus that the node wants back, those that are let go of, and which bus that is.
_HOTPLUG_DOWN, _HOTPLUG_EJECT, _HOTPLUG_BUS = 0x04, 0x08, 0x10

_SERIAL_DATA: Final = 0x3F8
_SERIAL_STATUS: Final = 0x3FD
#: The serial port takes another byte.
_SERIAL_EMPTY: Final = 0x20


#: Where a guest tells QEMU that it panicked, and how. Source: QEMU's docs/specs/pvpanic.
_PANIC_PORT: Final = 0x505
_PANICKED: Final = 0x01
#: The reset control register of both chipsets, and the value that resets the processors and the machine.
_RESET_PORT: Final = 0xCF9
_RESET: Final = 0x06
#: How often a restless guest writes to its memory before it looks at its devices; a power of two.
_WRITINGS: Final = 64


class Farewell(enum.Enum):
    """What the guest does when its power button is pressed."""

    POWER_OFF = "power-off"
    PANIC = "panic"
    REBOOT = "reboot"


class _Code:
    """Machine code of a 16-bit x86 in the making: bytes, labels, and places where a label's address belongs."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._labels: dict[str, int] = {}
        self._references: list[tuple[int, int, str]] = []

    def emit(self, *code: int) -> None:
        self._bytes += bytes(code)

    def emit_word(self, opcode: int, value: int) -> None:
        """Emit an instruction whose operand is a word, such as ``mov dx, value`` (BA)."""
        self.emit(opcode, value & 0xFF, value >> 8)

    def label(self, name: str) -> None:
        self._labels[name] = len(self._bytes)

    def jump(self, opcode: int, label: str) -> None:
        """Emit a jump with a distance of one byte."""
        self.emit(opcode, 0)
        self._references.append((len(self._bytes), 1, label))

    def call(self, label: str) -> None:
        self.emit(0xE8, 0, 0)  # call label
        self._references.append((len(self._bytes), 2, label))

    def text(self, label: str, text: str) -> None:
        self.label(label)
        self._bytes += text.encode("ascii") + b"\0"

    def load_address(self, label: str) -> None:
        self.emit(0xBE, 0, 0)  # mov si, label
        self._references.append((len(self._bytes), 0, label))

    def link(self) -> bytes:
        """Fill in the addresses. Jumps count from the instruction after them."""
        for end, size, label in self._references:
            target = self._labels[label]
            if size:
                self._bytes[end - size : end] = (target - end).to_bytes(size, "little", signed=True)
            else:
                self._bytes[end - 2 : end] = (_ORIGIN + target).to_bytes(2, "little")
        return bytes(self._bytes)


def build_boot_sector(
    greeting: str = GREETING,
    farewell: str = FAREWELL,
    *,
    is_restless: bool = False,
    then: Farewell = Farewell.POWER_OFF,
) -> bytes:
    """Assemble the guest.

    Args:
        greeting: the line that it prints when its power button works.
        farewell: the line that it prints when that was pressed.
        is_restless: keep writing half a MiB of its memory, each time something else, instead of sleeping.
        then: what it does after that line.

    Raises:
        ProgrammerError: the texts do not fit into the sector.
    """
    code = _Code()
    code.emit(0xFA)  # cli             no interrupts while the stack moves
    code.emit(0x31, 0xC0)  # xor ax, ax
    code.emit(0x8E, 0xD8)  # mov ds, ax
    code.emit(0x8E, 0xD0)  # mov ss, ax
    code.emit_word(0xBC, _ORIGIN)  # mov sp, origin  the stack grows down from the code
    code.emit(0xFC)  # cld

    code.emit_word(0xBA, _PM1_ENABLE)  # mov dx, enable  a button that is not enabled leaves no trace
    code.emit(0xED)  # in ax, dx
    code.emit(0x80, 0xCC, _POWER_BUTTON_HIGH)  # or ah, button
    code.emit(0xEF)  # out dx, ax
    code.load_address("greeting")
    code.call("print")

    code.label("sleep")
    code.emit(0xFB)  # sti
    if is_restless:
        _emit_writing(code)
    else:
        code.emit(0xF4)  # hlt             until the clock ticks, 18 times a second
    for registers in _HOTPLUG_REGISTERS.values():
        code.emit_word(0xBB, registers)  # mov bx, registers
        code.call("let go")
    code.emit_word(0xBA, _PM1_STATUS)  # mov dx, status
    code.emit(0xED)  # in ax, dx
    code.emit(0xF6, 0xC4, _POWER_BUTTON_HIGH)  # test ah, button
    code.jump(0x74, "sleep")  # jz sleep

    code.load_address("farewell")
    code.call("print")
    _emit_farewell(code, then)
    code.label("off")
    code.emit(0xF4)  # hlt
    code.jump(0xEB, "off")  # jmp off

    code.label("let go")
    code.emit(0x31, 0xC9)  # xor cx, cx
    code.label("bus")
    code.emit(0x8D, 0x57, _HOTPLUG_BUS)  # lea dx, [bx + bus]
    code.emit(0x66, 0x0F, 0xB7, 0xC1)  # movzx eax, cx
    code.emit(0x66, 0xEF)  # out dx, eax
    code.emit(0x8D, 0x57, _HOTPLUG_DOWN)  # lea dx, [bx + down]
    code.emit(0x66, 0xED)  # in eax, dx
    code.emit(0x66, 0x85, 0xC0)  # test eax, eax
    code.jump(0x74, "keep")  # jz keep
    code.emit(0x8D, 0x57, _HOTPLUG_EJECT)  # lea dx, [bx + eject]
    code.emit(0x66, 0xEF)  # out dx, eax
    code.label("keep")
    code.emit(0x41)  # inc cx
    code.emit(0x83, 0xF9, _HOTPLUG_BUSES)  # cmp cx, buses
    code.jump(0x72, "bus")  # jb bus
    code.emit(0xC3)  # ret

    code.label("print")
    code.emit(0xAC)  # lodsb
    code.emit(0x84, 0xC0)  # test al, al
    code.jump(0x74, "printed")  # jz printed
    code.emit(0x88, 0xC4)  # mov ah, al
    code.emit_word(0xBA, _SERIAL_STATUS)  # mov dx, status
    code.label("full")
    code.emit(0xEC)  # in al, dx
    code.emit(0xA8, _SERIAL_EMPTY)  # test al, empty
    code.jump(0x74, "full")  # jz full
    code.emit_word(0xBA, _SERIAL_DATA)  # mov dx, data
    code.emit(0x88, 0xE0)  # mov al, ah
    code.emit(0xEE)  # out dx, al
    code.jump(0xEB, "print")  # jmp print
    code.label("printed")
    code.emit(0xC3)  # ret

    code.text("greeting", f"{greeting}\r\n")
    code.text("farewell", f"{farewell}\r\n")
    linked = code.link()
    if len(linked) > SECTOR_BYTES - 2:
        raise ProgrammerError(f"the guest has {len(linked)} bytes, {SECTOR_BYTES - 2} fit into a sector")
    return linked.ljust(SECTOR_BYTES - 2, b"\0") + b"\x55\xaa"


def _emit_farewell(code: _Code, then: Farewell) -> None:
    match then:
        case Farewell.POWER_OFF:
            code.emit_word(0xBA, _PM1_CONTROL)  # mov dx, control
            code.emit_word(0xB8, _SLEEP)  # mov ax, sleep
            code.emit(0xEF)  # out dx, ax
        case Farewell.PANIC:
            code.emit_word(0xBA, _PANIC_PORT)  # mov dx, port
            code.emit(0xB0, _PANICKED)  # mov al, panicked
            code.emit(0xEE)  # out dx, al
        case Farewell.REBOOT:
            code.emit_word(0xBA, _RESET_PORT)  # mov dx, port
            code.emit(0xB0, _RESET)  # mov al, reset
            code.emit(0xEE)  # out dx, al


def _emit_writing(code: _Code) -> None:
    """Write to the segments from 1000 to 8000, each time another value; what follows, which is slower, comes rarely."""
    code.label("writing")
    code.emit(0x45)  # inc bp
    code.emit_word(0xBB, 0x1000)  # mov bx, 1000
    code.label("segment")
    code.emit(0x8E, 0xC3)  # mov es, bx
    code.emit(0x31, 0xFF)  # xor di, di
    code.emit(0x89, 0xE8)  # mov ax, bp
    code.emit_word(0xB9, 0x8000)  # mov cx, words
    code.emit(0xF3, 0xAB)  # rep stosw
    code.emit(0x81, 0xC3, 0x00, 0x10)  # add bx, 1000
    code.emit(0x81, 0xFB, 0x00, 0x90)  # cmp bx, 9000
    code.jump(0x72, "segment")  # jb segment
    code.emit(0xF7, 0xC5, _WRITINGS - 1, 0x00)  # test bp, writings - 1
    code.jump(0x75, "writing")  # jnz writing


def write_disk(
    path: str | os.PathLike[str],
    *,
    size_bytes: int = DISK_BYTES,
    is_restless: bool = False,
    then: Farewell = Farewell.POWER_OFF,
) -> Path:
    """Write the guest to a raw disk image, replacing what is there, and return its path.

    Args:
        path: the file to write.
        size_bytes: the disk's size, the guest's sector included; the rest is a hole.
        is_restless: keep it writing its memory, as `build_boot_sector` says.
        then: what it does when its power button is pressed.
    """
    path = Path(path)
    with path.open("wb") as disk:
        disk.write(build_boot_sector(is_restless=is_restless, then=then))
        disk.truncate(size_bytes)
    return path
