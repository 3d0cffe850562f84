# SPDX-License-Identifier: BSD-2-Clause
"""The parameter table: Ganeti's parameters, syntax checks and advice."""

from __future__ import annotations

from typing import Final

import pytest

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.parameters import TABLE, parse_cpu_mask, parse_extra
from tools.docs.parameters import PAGE, render

#: All parameters of Ganeti's KVM hypervisor, by topic. An adapter passes them on unchanged.
GANETI_PARAMETERS: Final = {
    "boot": "kvm_path kernel_path initrd_path root_path kernel_args boot_order acpi mem_path use_localtime"
    " reboot_behavior",
    "machine": "machine_version kvm_flag cpu_type cpu_cores cpu_threads cpu_sockets cpu_mask",
    "disks": "disk_type scsi_controller_type disk_cache disk_aio disk_discard cdrom_image_path cdrom2_image_path"
    " cdrom_disk_type floppy_image_path kvm_pci_reservations",
    "nics": "nic_type vhost_net virtio_net_queues vnet_hdr",
    "display": "vnc_bind_address vnc_tls vnc_x509_path vnc_x509_verify vnc_password_file spice_bind spice_ip_version"
    " spice_password_file spice_image_compression spice_jpeg_wan_compression spice_zlib_glz_wan_compression"
    " spice_streaming_video spice_playback_compression spice_use_tls spice_tls_ciphers spice_use_vdagent vga keymap",
    "usb, sound, serial": "usb_mouse usb_devices soundhw serial_console serial_speed use_guest_agent",
    "security": "security_model security_domain use_chroot user_shutdown",
    "migration": "migration_port migration_bandwidth migration_downtime migration_mode migration_caps",
    "extra": "kvm_extra",
}
#: Parameters whose default differs from Ganeti's, because hvkit's default suits new instances better.
OTHER_DEFAULTS: Final = {
    "kvm_path": "/usr/bin/qemu-system-x86_64",
    "kernel_path": "",
    "machine_version": "q35",
    "spice_tls_ciphers": "",
}
#: The other defaults, of both Ganeti and hvkit. A parameter in none of these tables has the default "".
DEFAULTS: Final = {
    "root_path": "/dev/vda1",
    "kernel_args": "ro",
    "boot_order": "disk",
    "reboot_behavior": "reboot",
    "cpu_mask": "all",
    "disk_type": "paravirtual",
    "scsi_controller_type": "lsi",
    "disk_cache": "default",
    "disk_aio": "threads",
    "disk_discard": "ignore",
    "kvm_pci_reservations": 12,
    "nic_type": "paravirtual",
    "virtio_net_queues": 1,
    "serial_speed": 38400,
    "security_model": "none",
    "migration_port": 8102,
    "migration_bandwidth": 32,
    "migration_downtime": 30,
    "migration_mode": "live",
    **dict.fromkeys(("cpu_cores", "cpu_threads", "cpu_sockets", "spice_ip_version"), 0),
    **dict.fromkeys(("acpi", "vhost_net", "vnet_hdr", "serial_console"), True),
    **dict.fromkeys(("spice_playback_compression", "spice_use_vdagent"), True),
    **dict.fromkeys(("use_localtime", "vnc_tls", "vnc_x509_verify", "spice_use_tls"), False),
    **dict.fromkeys(("use_guest_agent", "use_chroot", "user_shutdown"), False),
}


def test_table_has_all_parameters_of_ganeti_with_their_defaults() -> None:
    names = " ".join(GANETI_PARAMETERS.values()).split()
    assert len(names) == len(set(names)) == 65
    defaults = {name: TABLE[name].default for name in names}
    assert defaults == dict.fromkeys(names, "") | DEFAULTS | OTHER_DEFAULTS
    assert all(type(defaults[name]) is TABLE[name].kind for name in names)


@pytest.mark.parametrize("name", TABLE)
def test_documentation_of_a_parameter_is_sentences(name: str) -> None:
    assert TABLE[name].doc[0].isupper()
    assert TABLE[name].doc.endswith(".")


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "boot_order": ("disk", "cdrom", "floppy", "network"),
        "reboot_behavior": ("reboot", "exit"),
        "kvm_flag": ("", "enabled", "disabled"),
        "disk_type": ("paravirtual", "ide", "scsi-hd", "scsi-cd", "scsi-block", "scsi-generic"),
        "cdrom_disk_type": ("", "paravirtual", "ide", "scsi-hd", "scsi-cd", "scsi-block", "scsi-generic"),
        "scsi_controller_type": ("lsi", "virtio-scsi-pci", "megasas", "dc390"),
        "disk_cache": ("default", "none", "writethrough", "writeback"),
        "disk_aio": ("threads", "native", "io_uring"),
        "disk_discard": ("ignore", "unmap"),
        "nic_type": ("paravirtual", "e1000", "rtl8139", "ne2k_pci", "pcnet", "i82551", "i82557b", "i82559er"),
        "virtio_net_queues": (1, 32),
        "spice_ip_version": (0, 4, 6),
        "spice_jpeg_wan_compression": ("", "auto", "never", "always"),
        "spice_zlib_glz_wan_compression": ("", "auto", "never", "always"),
        "spice_streaming_video": ("", "off", "all", "filter"),
        "spice_image_compression": ("auto_glz", "auto_lz", "quic", "glz", "lz", "off"),
        "usb_mouse": ("", "mouse", "tablet"),
        "usb_devices": ("tablet,keyboard", "host:1.4", "host:1d6b:0002"),
        "serial_speed": (9600, 38400, 115200),
        "cpu_mask": ("all", "0-2:all:1,3"),
        "security_model": ("none",),
        "migration_mode": ("live", "non-live"),
        "migration_caps": ("", "xbzrle", "auto-converge:postcopy-ram"),
    }.items(),
)
def test_values_that_ganeti_accepts_are_accepted(name: str, values: tuple[object, ...]) -> None:
    others = {
        "disk_cache": "none",
        "floppy_image_path": "/srv/floppy.img",
        "cdrom_image_path": "/srv/cd.iso",
    }
    for value in values:
        assert TABLE.check_syntax({**others, name: value})[name] == value


def test_table_has_these_parameters_beside_those_of_ganeti() -> None:
    assert set(TABLE) - set(" ".join(GANETI_PARAMETERS.values()).split()) == {
        *("hotplug_ports", "network_script", "sandbox", "security_pool"),
        *("migration_tls", "migration_tls_dir", "migration_tls_hostname"),
        *("hugepages", "mem_prealloc", "numa_nodes", "numa_host_nodes", "numa_policy"),
        *("firmware", "tpm", "virtio_rng", "vsock_cid", "io_threads", "io_thread_mask"),
        *("vcpus_max", "memory_max_mib", "memory_hotplug"),
        *("vnc_port", "spice_port", "spice_x509_path"),
    }


def test_defaults_pass_the_syntax_check() -> None:
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
        ("cdrom_image_path", "empty"),
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
        ("kvm_pci_reservations", 29),
        ("kernel_args", "ro\nquiet"),
        ("boot_order", "cdrom"),
        ("boot_order", "disk,cdrom"),
        ("boot_order", "disk,disk"),
        ("boot_order", ""),
        ("hugepages", "4M"),
        ("numa_nodes", 129),
        ("numa_policy", "local"),
        ("numa_host_nodes", "0:1"),
        ("numa_host_nodes", "1-0"),
        ("numa_host_nodes", "a"),
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
def test_invalid_value_is_refused_with_the_name_of_its_parameter(name: str, value: object) -> None:
    with pytest.raises(ParameterError) as caught:
        TABLE.check_syntax({name: value})
    assert caught.value.name == name


def test_value_similar_to_a_choice_gets_a_suggestion() -> None:
    with pytest.raises(ParameterError, match="did you mean paravirtual"):
        TABLE.check_syntax({"disk_type": "paravirtul"})


@pytest.mark.parametrize("parameters", [{"disk_type": "ide"}, {"disk_type": "scsi-hd"}, {"cdrom_disk_type": "ide"}])
def test_removable_drive_may_be_empty(parameters: dict[str, object]) -> None:
    empty = dict.fromkeys(("cdrom_image_path", "cdrom2_image_path", "floppy_image_path"), "empty")
    TABLE.check_syntax({**parameters, **empty, "boot_order": "cdrom"})


def test_native_aio_requires_direct_access() -> None:
    with pytest.raises(ParameterError, match="requires disk_cache none"):
        TABLE.check_syntax({"disk_aio": "native"})
    TABLE.check_syntax({"disk_aio": "native", "disk_cache": "none"})


def test_initrd_requires_a_kernel() -> None:
    with pytest.raises(ParameterError, match="kernel_path"):
        TABLE.check_syntax({"initrd_path": "/boot/initrd"})


@pytest.mark.parametrize(
    ("text", "sets"),
    [
        ("all", (None,)),
        ("0-2,6", (frozenset({0, 1, 2, 6}),)),
        ("0-2:all:1,3", (frozenset({0, 1, 2}), None, frozenset({1, 3}))),
    ],
)
def test_parse_cpu_mask_returns_cpu_sets(text: str, sets: tuple[frozenset[int] | None, ...]) -> None:
    assert parse_cpu_mask(text) == sets


@pytest.mark.parametrize("text", ["", "0-", "-1", "3-1", "0,,1", "all,1", "0:", "a", "1 2", "٣", "0-99999999999"])
def test_invalid_cpu_mask_is_refused(text: str) -> None:
    for name in ("cpu_mask", "io_thread_mask"):
        with pytest.raises(ParameterError) as caught:
            TABLE.check_syntax({name: text})
        assert caught.value.name == name


def test_parse_extra_uses_shell_syntax() -> None:
    assert parse_extra("-global 'a b=c' -no-hpet") == ("-global", "a b=c", "-no-hpet")


@pytest.mark.parametrize(
    "text",
    [
        *("-name x", "--uuid 0", "-pidfile /tmp/x", "-daemonize", "-incoming defer", "-S", "-readconfig f", "'open"),
        *(
            "-sandbox off",
            "-trace file=/tmp/x",
            "-D /tmp/x",
            "-m 64",
            "-smp 2",
            "-cpu max",
            "--accel tcg",
            "-enable-kvm",
        ),
        *("-machine pc", "-M pc-q35-7.2", "-machine help", "-machine hpet=off,type=pc", "-M q35,hpet=off"),
        *("-action shutdown=poweroff", "-no-shutdown", "-no-reboot", "-runas nobody", "-chroot /", "-run-with user=x"),
    ],
)
def test_extra_arguments_with_reserved_options_are_refused(text: str) -> None:
    with pytest.raises(ParameterError) as caught:
        TABLE.check_syntax({"kvm_extra": text})
    assert caught.value.name == "kvm_extra"


def test_extra_arguments_may_set_machine_properties() -> None:
    assert parse_extra("-machine hpet=off,dump-guest-core=off -boot menu=on")[1] == "hpet=off,dump-guest-core=off"


def test_defaults_get_no_advice() -> None:
    assert TABLE.assess({}) == []


@pytest.mark.parametrize(
    ("parameters", "about", "words"),
    [
        ({"kvm_extra": "-no-hpet"}, "kvm_extra", "does not know"),
        ({"kvm_flag": "disabled"}, "kvm_flag", "many times slower"),
        ({"acpi": False}, "acpi", "no power button"),
        ({"acpi": False, "user_shutdown": True}, "user_shutdown", "cannot power off its machine"),
        ({"acpi": False, "vcpus_max": 4}, "vcpus_max", "no notification of vCPU hotplug"),
        ({"cpu_type": "host,-svm"}, "cpu_type", "can only migrate to nodes"),
        ({"migration_caps": "postcopy-ram"}, "cpu_type", "can only migrate to nodes"),
        ({"migration_downtime": 6000}, "migration_downtime", "does not respond for up to 6 s"),
        ({"kvm_pci_reservations": 5}, "kvm_pci_reservations", "the first 12 slots are always reserved"),
        ({"usb_devices": "tablet,host:1.4"}, "usb_devices", "not available after a migration"),
        ({"disk_type": "scsi-generic"}, "disk_type", "arbitrary SCSI commands"),
        ({"disk_type": "scsi-hd", "scsi_controller_type": "dc390"}, "scsi_controller_type", "few guests"),
        ({"sandbox": "disabled"}, "sandbox", "can start programs"),
        ({"use_chroot": True}, "use_chroot", "root can escape from a root directory"),
        ({"vnc_bind_address": "192.0.2.7"}, "vnc_bind_address", "set vnc_password_file"),
        ({"vnc_bind_address": "192.0.2.7"}, "vnc_bind_address", "VNC without TLS is not encrypted"),
        ({"vnc_bind_address": "::", "vnc_tls": True}, "vnc_tls", "cannot verify the identity of the server"),
        ({"spice_bind": "192.0.2.7", "spice_port": 5930}, "spice_bind", "set spice_password_file"),
        ({"spice_bind": "192.0.2.7", "spice_port": 5930}, "spice_bind", "SPICE without TLS is not encrypted"),
        ({"soundhw": "hda"}, "soundhw", "not audible without spice_bind"),
        ({"kernel_args": "ro quiet"}, "kernel_args", "has no effect without kernel_path"),
        ({"kernel_path": "/boot/vmlinuz", "boot_order": "network"}, "boot_order", "has no effect with kernel_path"),
        ({"scsi_controller_type": "megasas"}, "scsi_controller_type", "has no effect"),
        ({"numa_policy": "interleave"}, "numa_policy", "has no effect without numa_host_nodes"),
        ({"cdrom_disk_type": "ide"}, "cdrom_disk_type", "has no effect without cdrom_image_path"),
        ({"nic_type": "e1000", "virtio_net_queues": 4}, "virtio_net_queues", "only paravirtual NICs"),
        ({"vnc_tls": True}, "vnc_tls", "has no effect without vnc_bind_address"),
        ({"spice_use_vdagent": False}, "spice_use_vdagent", "has no effect without spice_bind"),
        ({"keymap": "de"}, "keymap", "has no effect without VNC or SPICE"),
    ],
)
def test_questionable_values_get_advice(parameters: dict[str, object], about: str, words: str) -> None:
    assert any(advice.startswith(f"{about}: ") and words in advice for advice in TABLE.assess(parameters))


@pytest.mark.parametrize(
    "parameters",
    [
        {"vnc_bind_address": "127.0.0.1"},
        {"vnc_bind_address": "/run/vnc"},
        {
            "vnc_bind_address": "192.0.2.7",
            "vnc_tls": True,
            "vnc_x509_path": "/etc/pki/vnc",
            "vnc_password_file": "/etc/vnc",
        },
        {"cpu_type": "Skylake-Server", "migration_caps": "auto-converge"},
        {"cdrom_image_path": "/srv/cd.iso", "cdrom_disk_type": "scsi-cd", "scsi_controller_type": "virtio-scsi-pci"},
        {"spice_bind": "127.0.0.1", "spice_port": 5930, "soundhw": "hda", "keymap": "de"},
        {"kernel_path": "/boot/vmlinuz", "kernel_args": "ro quiet"},
    ],
)
def test_unproblematic_values_get_no_advice(parameters: dict[str, object]) -> None:
    assert TABLE.assess(parameters) == []


def test_documentation_page_is_generated_from_the_table() -> None:
    assert PAGE.read_text() == render(), "run `make parameters`"
