# SPDX-License-Identifier: BSD-2-Clause
"""The simulated machine, driven by commands and a test clock."""

from typing import Any

import attrs
import pytest

from hvkit.qmp import schema
from hvkit.qmp.base import Event
from hvkit.qmp.converter import structure, unstructure
from hvkit.qmp.schema import (
    BalloonChangeEvent,
    DeviceDeletedEvent,
    PowerdownEvent,
    ResetEvent,
    ResumeEvent,
    ShutdownEvent,
    StopEvent,
)
from hvkit.testing.simulator import Behavior
from hvkit.testing.simulator.commands import commands
from hvkit.testing.simulator.machine import Machine
from hvkit.testing.simulator.options import OptionError, parse_options
from hvkit.testing.simulator.qmp_refusal import QmpRefusal

MIB = 1 << 20
BEHAVIOR = Behavior(guest_boot_delay_s=1, guest_shutdown_delay_s=1, guest_unplug_delay_s=1)


@attrs.define
class MemoryImage:
    """An image without a file."""

    path: str
    size: int = 64 * MIB
    actual_size: int = 0
    qcow2_size: int | None = None
    is_open: bool = True
    is_locked: bool = False

    def lock(self, *, is_shared: bool) -> None:
        self.is_locked = True

    def unlock(self) -> None:
        self.is_locked = False

    def close(self) -> None:
        self.is_open = False


class FakeHost:
    """A host with two images and one inherited descriptor."""

    def __init__(self) -> None:
        self.images = {"/raw": MemoryImage("/raw"), "/qcow2": MemoryImage("/qcow2", qcow2_size=128 * MIB)}

    def open_image(self, path: str, *, is_read_only: bool) -> MemoryImage:
        if path not in self.images:
            raise QmpRefusal(f"Could not open '{path}': No such file or directory")
        return self.images[path]

    def has_fd(self, fd: int) -> bool:
        return fd == 5


class Bench:
    """A machine with a clock that the test advances."""

    def __init__(self, *arguments: str, behavior: Behavior = BEHAVIOR, machine: str = "q35") -> None:
        self.host = FakeHost()
        options = parse_options(["-S", "-M", machine, "-m", "256", "-smp", "2", *arguments])
        self.machine = Machine(options, behavior, self.host, thread_ids=[11, 12])
        self.now = 0.0

    def ask(self, name: str, **arguments: Any) -> Any:
        return commands.execute(self.machine, name, {key.replace("_", "-"): item for key, item in arguments.items()})

    def error_text(self, name: str, **arguments: Any) -> str:
        with pytest.raises(QmpRefusal) as caught:
            self.ask(name, **arguments)
        return caught.value.description

    def events(self, after_s: float = 0.0) -> list[Event]:
        """Advance the clock, and return the events."""
        self.now += after_s
        self.machine.advance(self.now)
        return self.machine.take_events()

    def boot(self) -> None:
        """Run the machine until the guest has booted, and discard the events."""
        self.ask("cont")
        self.events(1)


DISK = (
    *("-device", '{"driver":"pcie-root-port","id":"rp0","bus":"pcie.0"}'),
    *("-blockdev", '{"driver":"file","node-name":"f0","filename":"/raw"}'),
    *("-blockdev", '{"driver":"raw","node-name":"d0","file":"f0"}'),
    *("-device", '{"driver":"virtio-blk-pci","id":"disk0","drive":"d0","bus":"rp0","addr":"0x0"}'),
)
BALLOON = ("-device", '{"driver":"virtio-balloon-pci","id":"balloon0"}')


def test_paused_machine_runs_after_cont() -> None:
    bench = Bench()
    assert bench.ask("query-status") == {"status": "prelaunch", "running": False, "singlestep": False}
    bench.ask("cont")
    assert bench.ask("query-status")["status"] == "running"
    assert bench.events() == [ResumeEvent()]


def test_machine_without_pause_runs_at_once() -> None:
    machine = Machine(parse_options(["-M", "q35"]), BEHAVIOR, FakeHost())
    assert machine.status == "running"
    assert machine.take_events() == []


def test_stop_and_cont_send_events_only_on_change() -> None:
    bench = Bench()
    for command in ("cont", "cont", "stop", "stop"):
        bench.ask(command)
    assert bench.events() == [ResumeEvent(), StopEvent()]
    assert bench.ask("query-status")["status"] == "paused"


def test_powerdown_shuts_down_booted_guest() -> None:
    bench = Bench()
    bench.boot()
    bench.ask("system_powerdown")
    assert bench.events() == [PowerdownEvent()]
    assert bench.machine.exit_status is None
    assert bench.events(1) == [ShutdownEvent(guest=True, reason="guest-shutdown")]
    assert bench.machine.exit_status == 0


def test_powerdown_is_ignored_by_booting_guest() -> None:
    bench = Bench()
    bench.ask("cont")
    bench.ask("system_powerdown")
    assert bench.events(60) == [ResumeEvent(), PowerdownEvent()]
    assert bench.machine.exit_status is None


def test_powerdown_is_ignored_with_guest_ignores_powerdown() -> None:
    bench = Bench(behavior=attrs.evolve(BEHAVIOR, guest_ignores_powerdown=True))
    bench.boot()
    bench.ask("system_powerdown")
    bench.events(60)
    assert bench.machine.exit_status is None


def test_powerdown_of_paused_guest_takes_effect_after_cont() -> None:
    bench = Bench()
    bench.boot()
    bench.ask("stop")
    bench.ask("system_powerdown")
    bench.events(60)
    assert bench.machine.exit_status is None
    bench.ask("cont")
    assert bench.machine.exit_status == 0


def test_no_shutdown_keeps_process_after_guest_shutdown() -> None:
    bench = Bench("-action", "reboot=reset,shutdown=pause")
    bench.boot()
    bench.ask("system_powerdown")
    assert bench.events(1)[-2:] == [ShutdownEvent(guest=True, reason="guest-shutdown"), StopEvent()]
    assert bench.ask("query-status")["status"] == "shutdown"
    assert bench.error_text("cont") == "Resetting the Virtual Machine is required"
    bench.ask("system_reset")
    assert bench.ask("query-status")["status"] == "prelaunch"


def test_set_action_changes_shutdown_action() -> None:
    bench = Bench()
    bench.ask("set-action", shutdown="pause")
    bench.boot()
    bench.ask("system_powerdown")
    bench.events(1)
    assert bench.machine.exit_status is None


def test_reset_cancels_pending_guest_actions() -> None:
    bench = Bench()
    bench.boot()
    bench.ask("system_powerdown")
    bench.ask("system_reset")
    assert bench.events(60)[-1] == ResetEvent(guest=False, reason="host-qmp-system-reset")
    assert bench.machine.exit_status is None


def test_reset_with_no_reboot_exits() -> None:
    bench = Bench("-no-reboot")
    bench.ask("system_reset")
    assert bench.events() == [ShutdownEvent(guest=False, reason="host-qmp-system-reset")]
    assert bench.machine.exit_status == 0


def test_quit_and_signal_exit() -> None:
    for end, event in (
        (Machine.quit, ShutdownEvent(guest=False, reason="host-qmp-quit")),
        (Machine.handle_signal, ShutdownEvent(guest=False, reason="host-signal")),
    ):
        bench = Bench()
        end(bench.machine)
        assert bench.events() == [event]
        assert bench.machine.exit_status == 0


def test_balloon_changes_memory_in_steps() -> None:
    bench = Bench(*BALLOON)
    bench.boot()
    bench.ask("balloon", value=64 * MIB)
    assert bench.ask("query-balloon") == {"actual": 256 * MIB}
    assert bench.events(0.15) == [BalloonChangeEvent(actual=192 * MIB)]
    assert bench.events(0.1) == []
    assert bench.ask("query-balloon") == {"actual": 128 * MIB}
    assert bench.events(1) == [BalloonChangeEvent(actual=64 * MIB)]


def test_balloon_target_is_capped_at_machine_memory() -> None:
    bench = Bench(*BALLOON)
    bench.boot()
    bench.ask("balloon", value=128 * MIB)
    bench.events(5)
    bench.ask("balloon", value=1024 * MIB)
    bench.events(5)
    assert bench.ask("query-balloon") == {"actual": 256 * MIB}


def test_balloon_without_device_raises() -> None:
    bench = Bench()
    for name, arguments in (("query-balloon", {}), ("balloon", {"value": MIB})):
        with pytest.raises(QmpRefusal) as caught:
            bench.ask(name, **arguments)
        assert caught.value.error_class == "DeviceNotActive"


def test_node_size_comes_from_child() -> None:
    bench = Bench()
    bench.ask("blockdev-add", driver="file", node_name="f", filename="/qcow2")
    bench.ask("blockdev-add", driver="qcow2", node_name="q", file="f")
    sizes = {node["node-name"]: node["image"]["virtual-size"] for node in bench.ask("query-named-block-nodes")}
    assert sizes == {"f": 64 * MIB, "q": 128 * MIB}


def test_inline_node_is_removed_with_parent() -> None:
    bench = Bench()
    bench.ask("blockdev-add", driver="raw", node_name="r", file={"driver": "file", "filename": "/raw"})
    assert len(bench.ask("query-named-block-nodes")) == 2
    bench.ask("blockdev-del", node_name="r")
    assert bench.ask("query-named-block-nodes") == []
    assert not bench.host.images["/raw"].is_open


def test_node_in_use_cannot_be_removed() -> None:
    bench = Bench(*DISK)
    assert bench.error_text("blockdev-del", node_name="d0") == "Node d0 is in use"
    assert bench.error_text("blockdev-del", node_name="f0") == "Block device f0 is in use"
    assert bench.host.images["/raw"].is_locked


@pytest.mark.parametrize(
    ("arguments", "description"),
    [
        ({"driver": "file", "filename": "/raw"}, "'node-name' must be specified for the root node"),
        ({"driver": "file", "node-name": "x", "filename": "/no"}, "Could not open '/no': No such file or directory"),
        ({"driver": "file", "node-name": "x"}, "Parameter 'filename' is missing"),
        ({"driver": "file", "node-name": "-x", "filename": "/raw"}, "Invalid node-name: '-x'"),
        ({"driver": "file", "node-name": "x" * 32, "filename": "/raw"}, "Node name too long"),
        ({"driver": "file", "node-name": "f0", "filename": "/raw"}, "Duplicate nodes with node-name='f0'"),
        ({"driver": "raw", "node-name": "x", "file": "no"}, "Cannot find device='no' nor node-name='no'"),
        ({"driver": "qcow2", "node-name": "x", "file": "f0"}, "Image is not in qcow2 format"),
        ({"driver": "no", "node-name": "x"}, "Parameter 'driver' does not accept value 'no'"),
        ({"driver": "raw", "node-name": "x", "file": "f0", "no": 1}, "Parameter 'no' is unexpected"),
        ({"driver": "raw", "node-name": 1, "file": "f0"}, "Invalid parameter type for 'node-name', expected: string"),
        (
            {"driver": "raw", "node-name": "x", "file": {"driver": "file", "filename": "/raw", "no": 1}},
            "Parameter 'file.no' is unexpected",
        ),
    ],
)
def test_invalid_node_raises_qemu_message(arguments: dict[str, Any], description: str) -> None:
    bench = Bench(*DISK)
    assert bench.error_text("blockdev-add", **arguments) == description


def test_node_is_parsed_from_keyval() -> None:
    bench = Bench("-blockdev", "driver=raw,node-name=r,read-only=on,size=1048576,file.driver=file,file.filename=/raw")
    (node,) = [node for node in bench.ask("query-named-block-nodes") if node["node-name"] == "r"]
    assert (node["ro"], node["image"]["virtual-size"]) == (True, MIB)
    with pytest.raises(OptionError, match="expected: boolean"):
        Bench("-blockdev", "driver=raw,node-name=r,read-only=perhaps,file.driver=file,file.filename=/raw")


def test_resize_changes_node_size() -> None:
    bench = Bench(*DISK)
    bench.ask("block_resize", node_name="d0", size=256 * MIB)
    (block,) = bench.ask("query-block")
    assert block["inserted"]["image"]["virtual-size"] == 256 * MIB
    assert block["qdev"] == "/machine/peripheral/disk0/virtio-backend"


def plug_disk(bench: Bench, bus: str = "rp0") -> None:
    bench.ask("device_add", driver="virtio-blk-pci", id="disk1", drive="d1", bus=bus)


def bench_with_free_port(**keywords: Any) -> Bench:
    return Bench(
        *("-device", '{"driver":"pcie-root-port","id":"rp0","bus":"pcie.0"}'),
        *("-blockdev", '{"driver":"file","node-name":"d1","filename":"/raw"}'),
        **keywords,
    )


def test_q35_hotplug_takes_one_device_per_root_port() -> None:
    bench = bench_with_free_port()
    refused = "Bus 'pcie.0' does not support hotplugging"
    assert bench.error_text("device_add", driver="virtio-rng-pci", id="r") == refused
    plug_disk(bench)
    assert "virtio-rng-pci" in bench.error_text("device_add", driver="virtio-rng-pci", id="r", bus="rp0")
    arguments = {"driver": "virtio-rng-pci", "id": "r", "bus": "rp0", "addr": "0x1"}
    assert "slot 1 is not valid" in bench.error_text("device_add", **arguments)


def test_pc_hotplug_uses_root_bus() -> None:
    bench = Bench(machine="pc")
    bench.ask("device_add", driver="virtio-rng-pci", id="r", addr="0x5")
    assert "in use by virtio-rng-pci,id=r" in bench.error_text("device_add", driver="virtio-rng-pci", id="s", addr="5")


def test_unplug_completes_with_running_guest() -> None:
    bench = bench_with_free_port()
    plug_disk(bench)
    bench.boot()
    bench.ask("device_del", id="disk1")
    assert bench.events(0.5) == []
    assert bench.error_text("blockdev-del", node_name="d1") == "Node d1 is in use"
    path = "/machine/peripheral/disk1"
    assert bench.events(0.5) == [
        DeviceDeletedEvent(path=f"{path}/virtio-backend"),
        DeviceDeletedEvent(device="disk1", path=path),
    ]
    bench.ask("blockdev-del", node_name="d1")
    bench.ask("device_add", driver="virtio-rng-pci", id="rng1", bus="rp0")


def test_unplug_during_boot_is_lost_and_can_be_repeated() -> None:
    bench = bench_with_free_port()
    plug_disk(bench)
    bench.ask("cont")
    bench.ask("device_del", id="disk1")
    assert bench.events(60) == [ResumeEvent()]
    bench.ask("device_del", id="disk1")
    assert len(bench.events(1)) == 2


def test_unplug_ignored_by_guest_completes_at_reset() -> None:
    bench = bench_with_free_port(behavior=attrs.evolve(BEHAVIOR, guest_ignores_unplug=True))
    plug_disk(bench)
    bench.boot()
    bench.ask("device_del", id="disk1")
    assert bench.events(60) == []
    bench.ask("system_reset")
    assert [type(event) for event in bench.events(1)] == [ResetEvent, DeviceDeletedEvent, DeviceDeletedEvent]


def test_unplug_of_scsi_disk_needs_no_guest() -> None:
    bench = Bench(
        *("-device", "virtio-scsi-pci,id=scsi0"),
        *("-blockdev", '{"driver":"file","node-name":"d1","filename":"/raw"}'),
        *("-device", '{"driver":"scsi-hd","id":"sd1","drive":"d1","bus":"scsi0.0","channel":0,"scsi-id":1,"lun":0}'),
    )
    bench.ask("device_del", id="sd1")
    assert bench.events() == [DeviceDeletedEvent(device="sd1", path="/machine/peripheral/sd1")]
    assert not bench.host.images["/raw"].is_locked


def test_network_backend_serves_one_nic() -> None:
    bench = Bench(machine="pc")
    bench.ask("netdev_add", type="user", id="n0")
    assert bench.error_text("netdev_add", type="user", id="n0") == "Duplicate ID 'n0'"
    missing = bench.error_text("device_add", driver="virtio-net-pci", id="a", netdev="n1")
    assert missing == "Property 'virtio-net-device.netdev' can't find value 'n1'"
    bench.ask("device_add", driver="virtio-net-pci", id="a", netdev="n0")
    assert "it's in use" in bench.error_text("device_add", driver="e1000", id="b", netdev="n0")
    bench.ask("netdev_del", id="n0")
    assert bench.error_text("netdev_del", id="n0") == "Device 'n0' not found"


def test_tap_needs_inherited_descriptor() -> None:
    bench = Bench()
    bench.ask("netdev_add", type="tap", id="n0", fd="5")
    assert "Bad file descriptor" in bench.error_text("netdev_add", type="tap", id="n1", fd="6")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-M", "no"], "unsupported machine type"),
        (["-device", "no"], "-device no: 'no' is not a valid device model name"),
        (["-device", '{"id":"x"}'], "Parameter 'driver' is missing"),
        (["-device", "scsi-hd"], "No 'SCSI' bus found for device 'scsi-hd'"),
        (["-device", "virtio-rng-pci,bus=no"], "Bus 'no' not found"),
        (["-device", "virtio-rng-pci,id=a", "-device", "virtio-rng-pci,id=a"], "Duplicate device ID 'a'"),
        (["-netdev", '{"type":"user","id":"n","no":1}'], "Parameter 'no' is unexpected"),
        (["-blockdev", '{"driver":"file","node-name":"f","filename":"/no"}'], "No such file or directory"),
        ([*DISK, "-device", "virtio-blk-pci,drive=d0"], "Permission conflict on node 'd0'"),
    ],
)
def test_invalid_machine_raises_option_error(arguments: list[str], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        Bench(*arguments)
    assert message in str(caught.value)


def test_query_replies_match_their_types() -> None:
    bench = Bench(*DISK, *BALLOON, "-object", '{"qom-type":"iothread","id":"io0"}')
    count = 0
    for name in commands.names:
        if name.startswith("query-"):
            reply = bench.ask(name)
            assert unstructure(structure(reply, schema.command(name).reply_type)) == reply
            count += 1
    assert count > 15


def test_cpu_thread_ids_are_given_threads() -> None:
    assert [each["thread-id"] for each in Bench().ask("query-cpus-fast")] == [11, 12]


def test_unknown_command_raises() -> None:
    bench = Bench()
    with pytest.raises(QmpRefusal) as caught:
        bench.ask("migrate")
    assert caught.value.error_class == "CommandNotFound"
    assert {"query-status", "quit", "qmp_capabilities"} <= {each["name"] for each in bench.ask("query-commands")}
    assert bench.error_text("query-status", no=1) == "Parameter 'no' is unexpected"
    assert bench.error_text("device_del") == "Parameter 'id' is missing"


def test_object_add_lists_object() -> None:
    bench = Bench(*DISK)
    bench.ask("object-add", qom_type="iothread", id="io0")
    assert bench.error_text("object-add", qom_type="iothread", id="io0").startswith("attempt to add duplicate")
    listed = bench.ask("qom-list", path="/objects")
    assert {"name": "io0", "type": "child<iothread>"} in listed
    bench.ask("object-del", id="io0")
    assert bench.error_text("object-del", id="io0") == "object 'io0' not found"
    assert {"name": "disk0", "type": "child<virtio-blk-pci>"} in bench.ask("qom-list", path="/machine/peripheral")
    assert bench.ask("qom-get", path="/machine", property="type") == "pc-q35-7.2-machine"


def test_query_pci_lists_disk_behind_root_port() -> None:
    (bus,) = Bench(*DISK).ask("query-pci")
    (port,) = bus["devices"]
    assert [device["qdev_id"] for device in port["pci_bridge"]["devices"]] == ["disk0"]
