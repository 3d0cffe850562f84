# SPDX-License-Identifier: BSD-2-Clause
"""A guest in one boot sector, for tests on real QEMU.

It prints a greeting on its serial port, halts, powers off when the power button is pressed, and releases every PCI
device that it is asked to release. Options make it panic or reboot instead of powering off, or dirty memory.

It needs no kernel and boots in less than a second on the machines ``pc`` and ``q35``, with KVM and TCG. It halts the
CPU between timer ticks, so an idle guest uses almost no CPU time.
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
#: SeaBIOS needs a disk of about a cylinder.
DISK_BYTES: Final = 1 << 20

#: Address at which a BIOS loads the boot sector.
_ORIGIN: Final = 0x7C00

#: I/O ports of the ACPI power management registers that SeaBIOS sets up, on both machines.
#: Source: ACPI specification, 4.8.3 "PM1 Event Grouping" and 4.8.4 "PM1 Control Registers".
_PM1_STATUS: Final = 0x600
_PM1_ENABLE: Final = 0x602
_PM1_CONTROL: Final = 0x604
#: The power button bit in the high byte of PM1_STATUS and PM1_ENABLE.
_POWER_BUTTON_HIGH: Final = 0x01
#: Sleep enable with sleep type 0, which is "soft off" on both machines.
_SLEEP: Final = 0x2000

#: I/O ports of the ACPI PCI hotplug registers by machine, and the number of buses to check.
#: Source: QEMU's docs/specs/acpi_pci_hotplug.
_HOTPLUG_REGISTERS: Final = {"pc": 0xAE00, "q35": 0x0CC0}
_HOTPLUG_BUSES: Final = 32
#: Offsets: slots of the selected bus with an unplug request, slots to eject, and the bus selector.
_HOTPLUG_DOWN, _HOTPLUG_EJECT, _HOTPLUG_BUS = 0x04, 0x08, 0x10

_SERIAL_DATA: Final = 0x3F8
_SERIAL_STATUS: Final = 0x3FD
#: The status bit for an empty transmit buffer.
_SERIAL_EMPTY: Final = 0x20

#: I/O port and value that report a panic to QEMU. Source: QEMU's docs/specs/pvpanic.
_PANIC_PORT: Final = 0x505
_PANICKED: Final = 0x01
#: Reset control register of both chipsets, and the value that resets the machine.
_RESET_PORT: Final = 0xCF9
_RESET: Final = 0x06
#: Number of memory passes between two device checks; a power of two.
_WRITINGS: Final = 64


class PowerdownAction(enum.Enum):
    """The guest's reaction to the power button."""

    POWER_OFF = "power-off"
    PANIC = "panic"
    REBOOT = "reboot"


class _Code:
    """An assembler for 16-bit x86: machine code, labels, and references to labels."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._labels: dict[str, int] = {}
        self._references: list[tuple[int, int, str]] = []

    def emit(self, *code: int) -> None:
        self._bytes += bytes(code)

    def emit_word(self, opcode: int, value: int) -> None:
        """Emit an instruction with a 16-bit operand, such as ``mov dx, value`` (BA)."""
        self.emit(opcode, value & 0xFF, value >> 8)

    def label(self, name: str) -> None:
        self._labels[name] = len(self._bytes)

    def jump(self, opcode: int, label: str) -> None:
        """Emit a jump with an 8-bit displacement."""
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
        """Resolve the labels and return the code. Displacements are relative to the next instruction."""
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
    dirties_memory: bool = False,
    on_powerdown: PowerdownAction = PowerdownAction.POWER_OFF,
) -> bytes:
    """Assemble the boot sector.

    Args:
        greeting: the line to print when the power button is enabled.
        farewell: the line to print when the power button was pressed.
        dirties_memory: rewrite half a MiB of memory with changing values instead of halting.
        on_powerdown: the action after the farewell.

    Raises:
        ProgrammerError: the code and texts exceed a sector.
    """
    code = _Code()
    _emit_setup(code)
    _emit_main_loop(code, dirties_memory=dirties_memory)
    _emit_farewell(code, on_powerdown)
    _emit_release(code)
    _emit_print(code)
    code.text("greeting", f"{greeting}\r\n")
    code.text("farewell", f"{farewell}\r\n")
    linked = code.link()
    if len(linked) > SECTOR_BYTES - 2:
        raise ProgrammerError(f"the guest has {len(linked)} bytes, a boot sector has room for {SECTOR_BYTES - 2}")
    return linked.ljust(SECTOR_BYTES - 2, b"\0") + b"\x55\xaa"


def _emit_setup(code: _Code) -> None:
    """Set up the segments and the stack, enable the power button, and print the greeting."""
    code.emit(0xFA)  # cli             no interrupts while the stack moves
    code.emit(0x31, 0xC0)  # xor ax, ax
    code.emit(0x8E, 0xD8)  # mov ds, ax
    code.emit(0x8E, 0xD0)  # mov ss, ax
    code.emit_word(0xBC, _ORIGIN)  # mov sp, origin  the stack grows down from the code
    code.emit(0xFC)  # cld

    code.emit_word(0xBA, _PM1_ENABLE)  # mov dx, enable  a disabled button sets no status
    code.emit(0xED)  # in ax, dx
    code.emit(0x80, 0xCC, _POWER_BUTTON_HIGH)  # or ah, button
    code.emit(0xEF)  # out dx, ax
    code.load_address("greeting")
    code.call("print")


def _emit_main_loop(code: _Code, *, dirties_memory: bool) -> None:
    """Release devices on request, until the power button is pressed."""
    code.label("sleep")
    code.emit(0xFB)  # sti
    if dirties_memory:
        _emit_writing(code)
    else:
        code.emit(0xF4)  # hlt             until the clock ticks, 18 times a second
    for registers in _HOTPLUG_REGISTERS.values():
        code.emit_word(0xBB, registers)  # mov bx, registers
        code.call("release")
    code.emit_word(0xBA, _PM1_STATUS)  # mov dx, status
    code.emit(0xED)  # in ax, dx
    code.emit(0xF6, 0xC4, _POWER_BUTTON_HIGH)  # test ah, button
    code.jump(0x74, "sleep")  # jz sleep


def _emit_farewell(code: _Code, action: PowerdownAction) -> None:
    """Print the farewell, act, and halt."""
    code.load_address("farewell")
    code.call("print")
    match action:
        case PowerdownAction.POWER_OFF:
            code.emit_word(0xBA, _PM1_CONTROL)  # mov dx, control
            code.emit_word(0xB8, _SLEEP)  # mov ax, sleep
            code.emit(0xEF)  # out dx, ax
        case PowerdownAction.PANIC:
            code.emit_word(0xBA, _PANIC_PORT)  # mov dx, port
            code.emit(0xB0, _PANICKED)  # mov al, panicked
            code.emit(0xEE)  # out dx, al
        case PowerdownAction.REBOOT:
            code.emit_word(0xBA, _RESET_PORT)  # mov dx, port
            code.emit(0xB0, _RESET)  # mov al, reset
            code.emit(0xEE)  # out dx, al
    code.label("off")
    code.emit(0xF4)  # hlt
    code.jump(0xEB, "off")  # jmp off


def _emit_release(code: _Code) -> None:
    """Eject the devices with an unplug request from all buses; bx has the address of the registers."""
    code.label("release")
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


def _emit_print(code: _Code) -> None:
    """Print the text at si on the serial port."""
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


def _emit_writing(code: _Code) -> None:
    """Write a new value to the segments 1000 to 8000 (hex). The slower device check follows only every few passes."""
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
    dirties_memory: bool = False,
    on_powerdown: PowerdownAction = PowerdownAction.POWER_OFF,
) -> Path:
    """Write a raw disk image with the guest, and return its path. An existing file is replaced.

    Args:
        path: the file to write.
        size_bytes: the size of the disk, including the boot sector. The rest is a hole.
        dirties_memory: rewrite memory instead of halting; see `build_boot_sector`.
        on_powerdown: the action when the power button is pressed.
    """
    path = Path(path)
    with path.open("wb") as disk:
        disk.write(build_boot_sector(dirties_memory=dirties_memory, on_powerdown=on_powerdown))
        disk.truncate(size_bytes)
    return path
