# SPDX-License-Identifier: BSD-2-Clause
from __future__ import annotations

import pytest

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.parameters import TABLE, parse_cpu_mask, parse_extra
from tools.docs.parameters import PAGE, render

#: The names that an adapter finds in Ganeti as well.
SHARED = {
    *("kvm_path", "kernel_path", "initrd_path", "root_path", "kernel_args", "boot_order", "acpi", "mem_path"),
    *("use_localtime", "reboot_behavior", "machine_version", "kvm_flag", "cpu_type", "cpu_cores", "cpu_threads"),
    *("cpu_sockets", "cpu_mask", "disk_type", "scsi_controller_type", "disk_cache", "disk_aio", "disk_discard"),
    *("nic_type", "vga", "serial_console", "serial_speed", "use_guest_agent", "kvm_extra"),
    *("virtio_net_queues", "vhost_net", "vnet_hdr", "security_model", "security_domain", "use_chroot"),
    *("cdrom_image_path", "cdrom2_image_path", "cdrom_disk_type", "floppy_image_path"),
    *("vnc_bind_address", "vnc_tls", "vnc_x509_path", "vnc_x509_verify", "vnc_password_file", "keymap"),
    *("spice_bind", "spice_ip_version", "spice_password_file", "spice_image_compression", "spice_use_tls"),
    *("spice_jpeg_wan_compression", "spice_zlib_glz_wan_compression", "spice_streaming_video", "spice_tls_ciphers"),
    *("spice_playback_compression", "spice_use_vdagent", "usb_mouse", "usb_devices", "soundhw"),
    *("user_shutdown", "kvm_pci_reservations", "migration_port", "migration_mode"),
    *("migration_bandwidth", "migration_downtime", "migration_caps"),
}


def test_names_are_ganetis_where_they_mean_the_same() -> None:
    assert set(TABLE) - SHARED == {
        *("hotplug_ports", "network_script", "sandbox", "security_pool"),
        *("migration_tls", "migration_tls_dir", "migration_tls_hostname"),
        *("firmware", "tpm", "virtio_rng", "vsock_cid", "io_threads", "io_thread_mask"),
        *("vnc_port", "spice_port", "spice_x509_path"),
    }


def test_the_defaults_go_together() -> None:
    filled = TABLE.check_syntax({})
    assert filled["machine_version"] == "q35"
    assert filled["cpu_mask"] == "all"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kvm_path", "qemu-system-x86_64"),
        ("machine_version", "q35,acpi=off"),
        ("machine_version", "pc q35"),
        ("kvm_flag", "yes"),
        ("cpu_cores", -1),
        ("cpu_type", "max\n"),
        ("kernel_path", "vmlinuz"),
        ("cdrom_image_path", "ftp://mirror/cd.iso"),
        ("cdrom_image_path", "cd.iso"),
        ("cdrom_disk_type", "mtd"),
        ("floppy_image_path", "http://mirror/floppy.img"),
        ("vnc_bind_address", "not/absolute"),
        ("vnc_port", 5899),
        ("vnc_x509_path", "/etc/pki"),
        ("vnc_x509_verify", True),
        ("spice_bind", "/run/spice"),
        ("spice_ip_version", 5),
        ("usb_devices", "tablet,toaster"),
        ("usb_devices", "host:1.x"),
        ("keymap", "de,fr"),
        ("migration_port", 0),
        ("migration_mode", "fast"),
        ("kvm_pci_reservations", 11),
        ("kernel_args", "ro\nquiet"),
        ("boot_order", "cdrom"),
        ("disk_type", "virtio"),
        ("disk_cache", "unsafe"),
        ("disk_aio", "uring"),
        ("nic_type", "virtio"),
        ("hotplug_ports", 1000),
        ("serial_speed", 12345),
        ("reboot_behavior", "halt"),
        ("acpi", "no"),
    ],
)
def test_nonsense_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ParameterError) as caught:
        TABLE.check_syntax({name: value})
    assert caught.value.name == name


def test_a_value_close_to_a_choice_says_so() -> None:
    with pytest.raises(ParameterError, match="did you mean paravirtual"):
        TABLE.check_syntax({"disk_type": "paravirtul"})


def test_native_aio_needs_direct_access() -> None:
    with pytest.raises(ParameterError, match="needs disk_cache none"):
        TABLE.check_syntax({"disk_aio": "native"})
    TABLE.check_syntax({"disk_aio": "native", "disk_cache": "none"})


def test_an_initrd_needs_a_kernel() -> None:
    with pytest.raises(ParameterError, match="kernel_path"):
        TABLE.check_syntax({"initrd_path": "/boot/initrd"})


def test_what_the_node_does_not_have_is_found_on_the_node_only() -> None:
    given = {"kernel_path": "/nonexistent/vmlinuz", "kvm_path": "/bin/sh"}
    TABLE.check_syntax(given)
    with pytest.raises(ParameterError, match="a file of this node"):
        TABLE.validate(given)


@pytest.mark.parametrize(
    ("text", "sets"),
    [
        ("all", (None,)),
        ("0-2,6", (frozenset({0, 1, 2, 6}),)),
        ("0-2:all:1,3", (frozenset({0, 1, 2}), None, frozenset({1, 3}))),
    ],
)
def test_cpu_mask(text: str, sets: tuple[frozenset[int] | None, ...]) -> None:
    assert parse_cpu_mask(text) == sets


@pytest.mark.parametrize("text", ["", "0-", "-1", "3-1", "0,,1", "all,1", "0:", "a", "1 2", "٣", "0-99999999999"])
def test_cpu_mask_that_is_none_is_refused(text: str) -> None:
    for name in ("cpu_mask", "io_thread_mask"):
        with pytest.raises(ParameterError) as caught:
            TABLE.check_syntax({name: text})
        assert caught.value.name == name


def test_extra_arguments_are_words_as_for_a_shell() -> None:
    assert parse_extra("-global 'a b=c' -no-hpet") == ("-global", "a b=c", "-no-hpet")


@pytest.mark.parametrize(
    "text",
    ["-name x", "--uuid 0", "-pidfile /tmp/x", "-daemonize", "-incoming defer", "-S", "-readconfig f", "'open"],
)
def test_extra_arguments_cannot_take_the_instance_from_us(text: str) -> None:
    with pytest.raises(ParameterError) as caught:
        TABLE.check_syntax({"kvm_extra": text})
    assert caught.value.name == "kvm_extra"


def test_extra_arguments_draw_advice() -> None:
    assert any("kvm_extra" in advice for advice in TABLE.assess({"kvm_extra": "-no-hpet"}))
    assert TABLE.assess({}) == []


def test_page_of_the_docs_is_made_of_the_table() -> None:
    assert PAGE.read_text() == render(), "make parameters writes it again"
