# SPDX-License-Identifier: BSD-2-Clause
"""The command line parser of the simulated QEMU."""

import pytest

from hvkit.testing.simulator.options import OptionError, parse_keyval, parse_options


def test_parse_collects_machine_options() -> None:
    options = parse_options(
        [
            *("-S", "-no-user-config", "-nodefaults", "-display", "none", "-name", "guest=web1,debug-threads=on"),
            *("-uuid", "6F6B3A50-0000-4000-8000-000000000001"),
            *("-machine", "q35,acpi=off", "-accel", "kvm", "-cpu", "max"),
            *("-smp", "cpus=4,cores=2", "-m", "size=1G", "-pidfile", "/run/web1/pid"),
        ]
    )
    assert options.is_paused
    assert (options.name, options.uuid) == ("web1", "6f6b3a50-0000-4000-8000-000000000001")
    assert (options.machine, options.accelerator) == ("q35", "kvm")
    assert (options.vcpus, options.memory_bytes) == (4, 1 << 30)
    assert options.pid_file == "/run/web1/pid"


@pytest.mark.parametrize(
    ("text", "size"), [("256", 256 << 20), ("256M", 256 << 20), ("size=2g", 2 << 30), ("1024k", 1 << 20)]
)
def test_memory_size_defaults_to_mebibytes(text: str, size: int) -> None:
    assert parse_options(["-m", text]).memory_bytes == size


def test_keyval_unescapes_commas_and_reads_booleans() -> None:
    pairs = parse_keyval("socket,path=/a,,b,server,nowait", "backend")
    assert pairs == {"backend": "socket", "path": "/a,b", "server": "on", "wait": "off"}


def test_device_is_parsed_from_json_and_keyval() -> None:
    options = parse_options(
        [
            *("-blockdev", '{"driver":"file","node-name":"f","filename":"/x","read-only":true}'),
            *("-blockdev", "driver=raw,node-name=r,file.driver=file,file.filename=/y"),
            *("-device", "virtio-blk-pci,drive=r"),
            *("-netdev", "user,id=n"),
        ]
    )
    json_node, dotted_node = options.nodes
    assert json_node.data == {"driver": "file", "node-name": "f", "filename": "/x", "read-only": True}
    assert dotted_node.data == {"driver": "raw", "node-name": "r", "file": {"driver": "file", "filename": "/y"}}
    assert options.devices[0].data == {"driver": "virtio-blk-pci", "drive": "r"}
    assert options.netdevs[0].data == {"type": "user", "id": "n"}


def test_monitor_options_select_chardevs() -> None:
    options = parse_options(
        [
            *("-mon", "chardev=c0,mode=control", "-chardev", "socket,id=c0,path=/q0,server=on,wait=off"),
            *("-chardev", "socket,id=c1,fd=7,server=on,wait=off", "-mon", "c1,mode=control"),
            *("-qmp", "unix:/q2,server=on,wait=off", "-qmp", "stdio"),
            *("-chardev", "socket,id=hmp,path=/h,server=on", "-mon", "chardev=hmp,mode=readline"),
            *("-serial", "unix:/s,server=on,wait=off", "-serial", "none"),
        ]
    )
    assert options.monitors == ["c0", "c1", "compat_monitor0", "compat_monitor1"]
    backends = [(each.backend, each.path, each.fd) for each in options.chardevs.values()]
    assert backends == [
        ("socket", "/q0", None),
        ("socket", "", 7),
        ("socket", "/h", None),
        ("socket", "/q2", None),
        ("stdio", "", None),
        ("socket", "/s", None),
    ]


def test_action_option_sets_no_reboot_and_no_shutdown() -> None:
    options = parse_options(["-action", "reboot=shutdown,shutdown=pause"])
    assert options.no_reboot
    assert options.no_shutdown
    assert parse_options(["-no-shutdown"]).no_shutdown
    assert parse_options(["-no-reboot"]).no_reboot


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-nope"], "-nope: invalid option"),
        (["-m"], "-m: requires an argument"),
        (["-m", "much"], "-m much: Parameter 'size' expects"),
        (["disk.img"], "disk.img: Could not open 'disk.img': No such file or directory"),
        (["-uuid", "x"], "-uuid x: failed to parse UUID string: wrong format"),
        (["-accel", "hvf"], "-accel hvf: invalid accelerator hvf"),
        (["-smp", "0"], "-smp 0: Invalid CPU topology"),
        (["-mon", "chardev=c,mode=control"], '-mon chardev=c,mode=control: chardev "c" not found'),
        (["-mon", "mode=control"], '-mon mode=control: chardev "" not found'),
        (["-chardev", "null"], "no id or backend specified"),
        (["-chardev", "socket,id=c"], "no path given"),
        (["-chardev", "socket,id=c,fd=x"], "File descriptor 'x' is not a socket"),
        (["-device", "{bad"], "-device {bad: JSON parse error"),
    ],
)
def test_invalid_option_raises_qemu_message(arguments: list[str], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_options(arguments)
    assert message in str(caught.value)
