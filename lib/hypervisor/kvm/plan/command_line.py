# SPDX-License-Identifier: BSD-2-Clause
"""Rendering of a `MachinePlan` as the command line of QEMU 7.2 and newer.

Options that accept JSON (-object, -blockdev, -netdev, -device) are rendered as JSON, where nothing needs escaping. The
other options are QEMU's ``key=value`` text, in which commas are doubled.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from hvkit.hypervisor.kvm.plan.confinement import Confinement
from hvkit.hypervisor.kvm.plan.display import VNC_BASE_PORT, VncServer
from hvkit.hypervisor.kvm.plan.machine import MachinePlan, SocketChardev
from hvkit.hypervisor.kvm.plan.machine_devices import TPM_ID, VDAGENT_ID
from hvkit.qmp.converter import unstructure

#: The trace event that logs each shutdown request with the number of its cause. A QEMU without tracing warns that it
#: does not have the event. Source: QEMU, softmmu/trace-events, since 9.0 system/trace-events.
SHUTDOWN_TRACE: Final = "qemu_system_shutdown_request"


def build_argv(plan: MachinePlan) -> list[str]:
    """Return the command line of a machine.

    The machine starts paused, or waiting for an incoming migration. It opens no display window. Default devices and
    configuration files are disabled, so that it has only the devices of the plan.
    """
    return [
        plan.binary,
        *("-no-user-config", "-nodefaults"),
        *(("-incoming", "defer") if plan.is_incoming else ("-S",)),
        *("-display", "none"),
        *("-name", f"guest={_escape(plan.name)}"),
        *("-uuid", str(plan.uuid)),
        *_confinement(plan.confinement),
        *_file_sets(plan),
        *_machine(plan),
        *_monitors(plan),
        *_chardevs(plan),
        *_display(plan),
        *_devices(plan),
        *_linux_boot(plan),
        *(("-pidfile", plan.pid_file) if plan.pid_file else ()),
        *plan.extra,
    ]


def _escape(value: str) -> str:
    """Escape a value for ``key=value,...`` text."""
    return value.replace(",", ",,")


def _json(value: Any) -> str:
    return json.dumps(unstructure(value), separators=(",", ":"))


def _confinement(confinement: Confinement) -> Iterator[str]:
    if confinement.is_sandboxed:
        # A QEMU that changes its account itself needs the system calls that elevateprivileges=deny forbids.
        denied = ["obsolete", "spawn", "resourcecontrol"]
        denied += [] if confinement.drops_account_itself else ["elevateprivileges"]
        yield from ("-sandbox", ",".join(["on", *(f"{what}=deny" for what in denied)]))
    account = confinement.account if confinement.drops_account_itself else None
    user = f"{account.uid}:{account.gid}" if account is not None else ""
    if confinement.has_run_with:
        members = {"chroot": confinement.root_dir, "user": user}
        if any(members.values()):
            yield from ("-run-with", ",".join(f"{name}={_escape(value)}" for name, value in members.items() if value))
        return
    if confinement.root_dir:
        yield from ("-chroot", confinement.root_dir)
    if user:
        yield from ("-runas", user)


def _file_sets(plan: MachinePlan) -> Iterator[str]:
    for files in plan.file_sets:
        for descriptor in files.descriptors:
            yield from ("-add-fd", f"fd={descriptor},set={files.number},opaque={_escape(files.label)}")


def _machine(plan: MachinePlan) -> Iterator[str]:
    machine = [plan.machine.name]
    if not plan.has_acpi:
        machine.append("acpi=off")
    for backend in plan.memory.backends:
        yield from ("-object", _json(backend))
    if plan.memory.backends and not plan.memory.nodes:
        machine.append(f"memory-backend={plan.memory.backends[0].id}")
    if plan.firmware is not None:
        yield from ("-blockdev", _json(plan.firmware.code), "-blockdev", _json(plan.firmware.variables))
        machine += [f"pflash0={plan.firmware.code.node_name}", f"pflash1={plan.firmware.variables.node_name}"]
        if plan.firmware.is_secure:
            machine.append("smm=on")
            yield from ("-global", "driver=cfi.pflash01,property=secure,value=on")
    yield from ("-machine", ",".join(machine))
    yield from ("-accel", plan.accelerator.name)
    yield from ("-cpu", plan.processors.model)
    yield from ("-smp", _smp(plan))
    yield from ("-m", _memory(plan))
    for number, node in enumerate(plan.memory.nodes):
        yield from ("-numa", f"node,nodeid={number},cpus={node.first_cpu}-{node.last_cpu},memdev={node.memory}")
    if plan.has_local_time:
        yield from ("-rtc", "base=localtime")
    yield from ("-action", f"reboot={plan.on_reboot},shutdown=pause,panic=pause")
    yield from ("-trace", f"enable={SHUTDOWN_TRACE}")


def _smp(plan: MachinePlan) -> str:
    processors = plan.processors
    shape = {"sockets": processors.sockets, "cores": processors.cores, "threads": processors.threads}
    words = [f"cpus={processors.count}"]
    if processors.maximum > processors.count:
        words.append(f"maxcpus={processors.maximum}")
    return ",".join([*words, *(f"{name}={number}" for name, number in shape.items() if number)])


def _memory(plan: MachinePlan) -> str:
    words = [f"size={plan.memory_mib}M"]
    if plan.memory_slots:
        words.append(f"slots={plan.memory_slots}")
    if plan.memory_max_mib > plan.memory_mib:
        words.append(f"maxmem={plan.memory_max_mib}M")
    return ",".join(words)


def _chardev(chardev: SocketChardev) -> str:
    listener = chardev.listener
    place = f"fd={listener}" if isinstance(listener, int) else f"path={_escape(listener)}"
    log = f",logfile={_escape(chardev.log_file)},logappend=on" if chardev.log_file else ""
    role = "" if chardev.is_connected else ",server=on,wait=off"
    return f"socket,id={chardev.id},{place}{role}{log}"


def _monitors(plan: MachinePlan) -> Iterator[str]:
    for monitor in plan.monitors:
        yield from ("-chardev", _chardev(monitor.chardev))
        if monitor.qom is None:
            yield from ("-mon", f"chardev={monitor.chardev.id},mode=control")
        else:
            yield from ("-object", _json(monitor.qom))


def _chardevs(plan: MachinePlan) -> Iterator[str]:
    for chardev in plan.chardevs:
        yield from ("-chardev", _chardev(chardev))
        if chardev.id == TPM_ID:
            yield from ("-tpmdev", f"emulator,id={TPM_ID},chardev={chardev.id}")


def _display(plan: MachinePlan) -> Iterator[str]:
    display = plan.display
    for qom in display.objects:
        yield from ("-object", _json(qom))
    if display.vnc is not None:
        yield from ("-vnc", _vnc(display.vnc))
    if display.spice:
        yield from ("-spice", ",".join(f"{name}={_escape(value)}" for name, value in display.spice.items()))
        if "agent-mouse" not in display.spice:
            yield from ("-chardev", f"spicevmc,id={VDAGENT_ID},name=vdagent")
    if display.keymap:
        yield from ("-k", display.keymap)
    if display.audio is not None:
        yield from ("-audiodev", _json(display.audio))


def _vnc(server: VncServer) -> str:
    if server.path:
        words = [f"unix:{_escape(server.path)}"]
    else:
        host = f"[{server.host}]" if ":" in server.host else server.host
        words = [f"{host}:{server.first_port - VNC_BASE_PORT}"]
        if server.last_port > server.first_port:
            words.append(f"to={server.last_port - VNC_BASE_PORT}")
    if server.has_password:
        words.append("password=on")
    if server.tls:
        words.append(f"tls-creds={server.tls}")
    return ",".join(words)


def _devices(plan: MachinePlan) -> Iterator[str]:
    for qom in (*plan.objects, *plan.dimm_backends):
        yield from ("-object", _json(qom))
    for device in (*plan.plugged_devices, *plan.devices):
        yield from ("-device", _json(device))
    for drive in plan.drives:
        for node in drive.nodes:
            yield from ("-blockdev", _json(node))
        if drive.floppy_boot_index is not None:
            yield from ("-global", f"driver=isa-fdc,property=bootindexA,value={drive.floppy_boot_index}")
        for device in drive.devices:
            yield from ("-device", _json(device))
    for disk in plan.disks:
        for node in disk.nodes:
            yield from ("-blockdev", _json(node))
        yield from ("-device", _json(disk.device))
    for nic in plan.nics:
        yield from ("-netdev", _json(nic.netdev))
        yield from ("-device", _json(nic.device))


def _linux_boot(plan: MachinePlan) -> Iterator[str]:
    if plan.linux is None:
        return
    yield from ("-kernel", plan.linux.kernel)
    if plan.linux.initrd:
        yield from ("-initrd", plan.linux.initrd)
    if plan.linux.arguments:
        yield from ("-append", plan.linux.arguments)
