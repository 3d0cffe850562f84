# SPDX-License-Identifier: BSD-2-Clause
"""The simulated machine, by its commands and by a clock that the tests turn."""

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
from hvkit.testing.simulator.refusal import QmpRefusal

MIB = 1 << 20
KNOBS = Behavior(guest_boot_delay_s=1, guest_shutdown_delay_s=1, guest_unplug_delay_s=1)


@attrs.define
class MemoryImage:
    """An image that is on no disk."""

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
    """A machine, and what a test does to it."""

    def __init__(self, *arguments: str, knobs: Behavior = KNOBS, machine: str = "q35") -> None:
        self.host = FakeHost()
        options = parse_options(["-S", "-M", machine, "-m", "256", "-smp", "2", *arguments])
        self.machine = Machine(options, knobs, self.host, thread_ids=[11, 12])
        self.now = 0.0

    def ask(self, name: str, **arguments: Any) -> Any:
        return commands.execute(self.machine, name, {key.replace("_", "-"): item for key, item in arguments.items()})

    def refusal(self, name: str, **arguments: Any) -> str:
        with pytest.raises(QmpRefusal) as caught:
            self.ask(name, **arguments)
        return caught.value.description

    def events(self, after_s: float = 0.0) -> list[Event]:
        """Let time pass, and return what was reported."""
        self.now += after_s
        self.machine.advance(self.now)
        return self.machine.take_events()

    def boot(self) -> None:
        """Let it run until the guest is up; nothing is left to report."""
        self.ask("cont")
        self.events(1)


DISK = (
    *("-device", '{"driver":"pcie-root-port","id":"rp0","bus":"pcie.0"}'),
    *("-blockdev", '{"driver":"file","node-name":"f0","filename":"/raw"}'),
    *("-blockdev", '{"driver":"raw","node-name":"d0","file":"f0"}'),
    *("-device", '{"driver":"virtio-blk-pci","id":"disk0","drive":"d0","bus":"rp0","addr":"0x0"}'),
)
BALLOON = ("-device", '{"driver":"virtio-balloon-pci","id":"balloon0"}')


# ---- the run state


def test_a_machine_that_starts_paused_waits_for_cont() -> None:
    bench = Bench()
    assert bench.ask("query-status") == {"status": "prelaunch", "running": False, "singlestep": False}
    bench.ask("cont")
    assert bench.ask("query-status")["status"] == "running"
    assert bench.events() == [ResumeEvent()]


def test_one_that_does_not_runs_at_once() -> None:
    machine = Machine(parse_options(["-M", "q35"]), KNOBS, FakeHost())
    assert machine.status == "running"
    assert machine.take_events() == []


def test_stop_and_cont_report_changes_only() -> None:
    bench = Bench()
    for command in ("cont", "cont", "stop", "stop"):
        bench.ask(command)
    assert bench.events() == [ResumeEvent(), StopEvent()]
    assert bench.ask("query-status")["status"] == "paused"


def test_the_power_button_ends_a_booted_guest() -> None:
    bench = Bench()
    bench.boot()
    bench.ask("system_powerdown")
    assert bench.events() == [PowerdownEvent()]
    assert bench.machine.exit_status is None
    assert bench.events(1) == [ShutdownEvent(guest=True, reason="guest-shutdown")]
    assert bench.machine.exit_status == 0


def test_a_booting_guest_does_not_hear_the_power_button() -> None:
    bench = Bench()
    bench.ask("cont")
    bench.ask("system_powerdown")
    assert bench.events(60) == [ResumeEvent(), PowerdownEvent()]
    assert bench.machine.exit_status is None


def test_a_guest_may_ignore_the_power_button() -> None:
    bench = Bench(knobs=attrs.evolve(KNOBS, guest_ignores_powerdown=True))
    bench.boot()
    bench.ask("system_powerdown")
    bench.events(60)
    assert bench.machine.exit_status is None


def test_a_paused_guest_shuts_down_when_it_goes_on() -> None:
    bench = Bench()
    bench.boot()
    bench.ask("stop")
    bench.ask("system_powerdown")
    bench.events(60)
    assert bench.machine.exit_status is None
    bench.ask("cont")
    assert bench.machine.exit_status == 0


def test_a_machine_can_outlive_its_guest() -> None:
    bench = Bench("-action", "reboot=reset,shutdown=pause")
    bench.boot()
    bench.ask("system_powerdown")
    assert bench.events(1)[-2:] == [ShutdownEvent(guest=True, reason="guest-shutdown"), StopEvent()]
    assert bench.ask("query-status")["status"] == "shutdown"
    assert bench.refusal("cont") == "Resetting the Virtual Machine is required"
    bench.ask("system_reset")
    assert bench.ask("query-status")["status"] == "prelaunch"


def test_set_action_changes_that_later() -> None:
    bench = Bench()
    bench.ask("set-action", shutdown="pause")
    bench.boot()
    bench.ask("system_powerdown")
    bench.events(1)
    assert bench.machine.exit_status is None


def test_a_reset_stops_what_the_guest_was_about_to_do() -> None:
    bench = Bench()
    bench.boot()
    bench.ask("system_powerdown")
    bench.ask("system_reset")
    assert bench.events(60)[-1] == ResetEvent(guest=False, reason="host-qmp-system-reset")
    assert bench.machine.exit_status is None


def test_a_reset_may_be_the_end() -> None:
    bench = Bench("-no-reboot")
    bench.ask("system_reset")
    assert bench.events() == [ShutdownEvent(guest=False, reason="host-qmp-system-reset")]
    assert bench.machine.exit_status == 0


def test_quit_and_signals_end_it() -> None:
    for end, event in (
        (Machine.quit, ShutdownEvent(guest=False, reason="host-qmp-quit")),
        (Machine.take_signal, ShutdownEvent(guest=False, reason="host-signal")),
    ):
        bench = Bench()
        end(bench.machine)
        assert bench.events() == [event]
        assert bench.machine.exit_status == 0


# ---- memory


def test_the_guest_gives_memory_back_step_by_step() -> None:
    bench = Bench(*BALLOON)
    bench.boot()
    bench.ask("balloon", value=64 * MIB)
    assert bench.ask("query-balloon") == {"actual": 256 * MIB}
    assert bench.events(0.15) == [BalloonChangeEvent(actual=192 * MIB)]
    assert bench.events(0.1) == []
    assert bench.ask("query-balloon") == {"actual": 128 * MIB}
    assert bench.events(1) == [BalloonChangeEvent(actual=64 * MIB)]


def test_more_than_all_memory_is_all_memory() -> None:
    bench = Bench(*BALLOON)
    bench.boot()
    bench.ask("balloon", value=128 * MIB)
    bench.events(5)
    bench.ask("balloon", value=1024 * MIB)
    bench.events(5)
    assert bench.ask("query-balloon") == {"actual": 256 * MIB}


def test_no_balloon_no_ballooning() -> None:
    bench = Bench()
    for name, arguments in (("query-balloon", {}), ("balloon", {"value": MIB})):
        with pytest.raises(QmpRefusal) as caught:
            bench.ask(name, **arguments)
        assert caught.value.error_class == "DeviceNotActive"


# ---- disks


def test_nodes_show_what_is_below_them() -> None:
    bench = Bench()
    bench.ask("blockdev-add", driver="file", node_name="f", filename="/qcow2")
    bench.ask("blockdev-add", driver="qcow2", node_name="q", file="f")
    sizes = {node["node-name"]: node["image"]["virtual-size"] for node in bench.ask("query-named-block-nodes")}
    assert sizes == {"f": 64 * MIB, "q": 128 * MIB}


def test_a_node_described_inside_another_goes_with_it() -> None:
    bench = Bench()
    bench.ask("blockdev-add", driver="raw", node_name="r", file={"driver": "file", "filename": "/raw"})
    assert len(bench.ask("query-named-block-nodes")) == 2
    bench.ask("blockdev-del", node_name="r")
    assert bench.ask("query-named-block-nodes") == []
    assert not bench.host.images["/raw"].is_open


def test_used_nodes_stay() -> None:
    bench = Bench(*DISK)
    assert bench.refusal("blockdev-del", node_name="d0") == "Node d0 is in use"
    assert bench.refusal("blockdev-del", node_name="f0") == "Block device f0 is in use"
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
def test_refuses_nodes_as_qemu_does(arguments: dict[str, Any], description: str) -> None:
    bench = Bench(*DISK)
    assert bench.refusal("blockdev-add", **arguments) == description


def test_a_node_can_be_described_in_words() -> None:
    bench = Bench("-blockdev", "driver=raw,node-name=r,read-only=on,size=1048576,file.driver=file,file.filename=/raw")
    (node,) = [node for node in bench.ask("query-named-block-nodes") if node["node-name"] == "r"]
    assert (node["ro"], node["image"]["virtual-size"]) == (True, MIB)
    with pytest.raises(OptionError, match="expected: boolean"):
        Bench("-blockdev", "driver=raw,node-name=r,read-only=perhaps,file.driver=file,file.filename=/raw")


def test_a_node_can_be_resized() -> None:
    bench = Bench(*DISK)
    bench.ask("block_resize", node_name="d0", size=256 * MIB)
    (block,) = bench.ask("query-block")
    assert block["inserted"]["image"]["virtual-size"] == 256 * MIB
    assert block["qdev"] == "/machine/peripheral/disk0/virtio-backend"


# ---- devices


def plug_disk(bench: Bench, bus: str = "rp0") -> None:
    bench.ask("device_add", driver="virtio-blk-pci", id="disk1", drive="d1", bus=bus)


def bench_with_free_port(**keywords: Any) -> Bench:
    return Bench(
        *("-device", '{"driver":"pcie-root-port","id":"rp0","bus":"pcie.0"}'),
        *("-blockdev", '{"driver":"file","node-name":"d1","filename":"/raw"}'),
        **keywords,
    )


def test_q35_is_hotplugged_through_root_ports_one_device_each() -> None:
    bench = bench_with_free_port()
    refused = "Bus 'pcie.0' does not support hotplugging"
    assert bench.refusal("device_add", driver="virtio-rng-pci", id="r") == refused
    plug_disk(bench)
    assert "virtio-rng-pci" in bench.refusal("device_add", driver="virtio-rng-pci", id="r", bus="rp0")
    assert "slot 1 is not valid" in bench.refusal("device_add", driver="virtio-rng-pci", id="r", bus="rp0", addr="0x1")


def test_pc_is_hotplugged_on_its_bus() -> None:
    bench = Bench(machine="pc")
    bench.ask("device_add", driver="virtio-rng-pci", id="r", addr="0x5")
    assert "in use by virtio-rng-pci,id=r" in bench.refusal("device_add", driver="virtio-rng-pci", id="s", addr="5")


def test_a_running_guest_lets_a_device_go() -> None:
    bench = bench_with_free_port()
    plug_disk(bench)
    bench.boot()
    bench.ask("device_del", id="disk1")
    assert bench.events(0.5) == []
    assert bench.refusal("blockdev-del", node_name="d1") == "Node d1 is in use"
    path = "/machine/peripheral/disk1"
    assert bench.events(0.5) == [
        DeviceDeletedEvent(path=f"{path}/virtio-backend"),
        DeviceDeletedEvent(device="disk1", path=path),
    ]
    bench.ask("blockdev-del", node_name="d1")
    bench.ask("device_add", driver="virtio-rng-pci", id="rng1", bus="rp0")


def test_a_guest_that_boots_misses_the_request_and_hears_the_next() -> None:
    bench = bench_with_free_port()
    plug_disk(bench)
    bench.ask("cont")
    bench.ask("device_del", id="disk1")
    assert bench.events(60) == [ResumeEvent()]
    bench.ask("device_del", id="disk1")
    assert len(bench.events(1)) == 2


def test_a_guest_may_keep_a_device_until_it_is_reset() -> None:
    bench = bench_with_free_port(knobs=attrs.evolve(KNOBS, guest_ignores_unplug=True))
    plug_disk(bench)
    bench.boot()
    bench.ask("device_del", id="disk1")
    assert bench.events(60) == []
    bench.ask("system_reset")
    assert [type(event) for event in bench.events(1)] == [ResetEvent, DeviceDeletedEvent, DeviceDeletedEvent]


def test_a_scsi_disk_needs_no_guest_to_go() -> None:
    bench = Bench(
        *("-device", "virtio-scsi-pci,id=scsi0"),
        *("-blockdev", '{"driver":"file","node-name":"d1","filename":"/raw"}'),
        *("-device", '{"driver":"scsi-hd","id":"sd1","drive":"d1","bus":"scsi0.0","channel":0,"scsi-id":1,"lun":0}'),
    )
    bench.ask("device_del", id="sd1")
    assert bench.events() == [DeviceDeletedEvent(device="sd1", path="/machine/peripheral/sd1")]
    assert not bench.host.images["/raw"].is_locked


def test_network_backends_serve_one_nic_each() -> None:
    bench = Bench(machine="pc")
    bench.ask("netdev_add", type="user", id="n0")
    assert bench.refusal("netdev_add", type="user", id="n0") == "Duplicate ID 'n0'"
    missing = bench.refusal("device_add", driver="virtio-net-pci", id="a", netdev="n1")
    assert missing == "Property 'virtio-net-device.netdev' can't find value 'n1'"
    bench.ask("device_add", driver="virtio-net-pci", id="a", netdev="n0")
    assert "it's in use" in bench.refusal("device_add", driver="e1000", id="b", netdev="n0")
    bench.ask("netdev_del", id="n0")
    assert bench.refusal("netdev_del", id="n0") == "Device 'n0' not found"


def test_a_tap_has_to_be_inherited() -> None:
    bench = Bench()
    bench.ask("netdev_add", type="tap", id="n0", fd="5")
    assert "Bad file descriptor" in bench.refusal("netdev_add", type="tap", id="n1", fd="6")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
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
def test_a_machine_that_cannot_be_made_is_a_complaint(arguments: list[str], complaint: str) -> None:
    with pytest.raises(OptionError) as caught:
        Bench(*arguments)
    assert complaint in str(caught.value)


# ---- what it says of itself


def test_every_query_without_arguments_fits_its_type() -> None:
    bench = Bench(*DISK, *BALLOON, "-object", '{"qom-type":"iothread","id":"io0"}')
    asked = 0
    for name in commands.names:
        if name.startswith("query-"):
            reply = bench.ask(name)
            assert unstructure(structure(reply, schema.command(name).reply_type)) == reply
            asked += 1
    assert asked > 15


def test_processors_are_threads_that_exist() -> None:
    assert [each["thread-id"] for each in Bench().ask("query-cpus-fast")] == [11, 12]


def test_commands_it_does_not_have_are_refused() -> None:
    bench = Bench()
    with pytest.raises(QmpRefusal) as caught:
        bench.ask("migrate")
    assert caught.value.error_class == "CommandNotFound"
    assert {"query-status", "quit", "qmp_capabilities"} <= {each["name"] for each in bench.ask("query-commands")}
    assert bench.refusal("query-status", no=1) == "Parameter 'no' is unexpected"
    assert bench.refusal("device_del") == "Parameter 'id' is missing"


def test_objects_are_listed() -> None:
    bench = Bench(*DISK)
    bench.ask("object-add", qom_type="iothread", id="io0")
    assert bench.refusal("object-add", qom_type="iothread", id="io0").startswith("attempt to add duplicate")
    listed = bench.ask("qom-list", path="/objects")
    assert {"name": "io0", "type": "child<iothread>"} in listed
    bench.ask("object-del", id="io0")
    assert bench.refusal("object-del", id="io0") == "object 'io0' not found"
    assert {"name": "disk0", "type": "child<virtio-blk-pci>"} in bench.ask("qom-list", path="/machine/peripheral")
    assert bench.ask("qom-get", path="/machine", property="type") == "pc-q35-7.2-machine"


def test_a_disk_behind_a_port_is_behind_it() -> None:
    (bus,) = Bench(*DISK).ask("query-pci")
    (port,) = bus["devices"]
    assert [device["qdev_id"] for device in port["pci_bridge"]["devices"]] == ["disk0"]
