# SPDX-License-Identifier: BSD-2-Clause
"""Advice on combinations of valid values.

Advice on a single value is part of its parameter. Advice never rejects a value.
"""

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import attrs

from hvkit.hypervisor.kvm.plan.parameters.disks import SCSI_TYPES
from hvkit.hypervisor.kvm.plan.parameters.display import is_address
from hvkit.hypervisor.parameters import Advisor, Parameter

_Condition = Callable[[Mapping[str, Any]], bool]
_Advice = Iterator[tuple[str, str]]

#: CPU models that depend on the CPUs of the node.
_NODE_MODELS: Final = ("", "host", "max")


@attrs.frozen
class _Dependent:
    """Parameters that have no effect unless a condition is met.

    Attributes:
        names: the parameters.
        condition: the condition.
        problem: the advice if it is not met.
    """

    names: tuple[str, ...]
    condition: _Condition
    problem: str


def _is_given(name: str) -> _Condition:
    return lambda parameters: bool(parameters[name])


def _has_scsi(parameters: Mapping[str, Any]) -> bool:
    cdrom_type = parameters["cdrom_disk_type"] if parameters["cdrom_image_path"] else ""
    return not SCSI_TYPES.isdisjoint((parameters["disk_type"], cdrom_type))


_SPICE: Final = (
    *("spice_port", "spice_ip_version", "spice_password_file", "spice_image_compression", "spice_jpeg_wan_compression"),
    *("spice_zlib_glz_wan_compression", "spice_streaming_video", "spice_playback_compression", "spice_use_tls"),
    *("spice_x509_path", "spice_tls_ciphers", "spice_use_vdagent"),
)
_DEPENDENT: Final = (
    _Dependent(
        ("root_path", "kernel_args", "serial_speed"),
        _is_given("kernel_path"),
        "has no effect without kernel_path: the boot loader of the guest decides it",
    ),
    _Dependent(
        ("memory_hotplug",),
        _is_given("memory_max_mib"),
        "has no effect without memory_max_mib: the memory of the instance is fixed",
    ),
    _Dependent(
        ("boot_order",),
        lambda parameters: not parameters["kernel_path"],
        "has no effect with kernel_path, which is booted",
    ),
    _Dependent(("numa_policy",), _is_given("numa_host_nodes"), "has no effect without numa_host_nodes"),
    _Dependent(("cdrom_disk_type",), _is_given("cdrom_image_path"), "has no effect without cdrom_image_path"),
    _Dependent(("scsi_controller_type",), _has_scsi, "has no effect: neither disks nor CD drives are on SCSI"),
    _Dependent(
        ("virtio_net_queues", "vhost_net"),
        lambda parameters: parameters["nic_type"] == "paravirtual",
        "has no effect: only paravirtual NICs support it",
    ),
    _Dependent(
        ("vnc_port", "vnc_tls", "vnc_password_file"),
        _is_given("vnc_bind_address"),
        "has no effect without vnc_bind_address",
    ),
    _Dependent(_SPICE, _is_given("spice_bind"), "has no effect without spice_bind"),
    _Dependent(
        ("keymap",),
        lambda parameters: bool(parameters["vnc_bind_address"] or parameters["spice_bind"]),
        "has no effect without VNC or SPICE",
    ),
    _Dependent(
        ("soundhw",), _is_given("spice_bind"), "the sound is not audible without spice_bind: only SPICE transmits sound"
    ),
)


def make_advisors(parameters: Iterable[Parameter]) -> tuple[Advisor, ...]:
    """Return the advisors of the table.

    Args:
        parameters: all parameters.
    """
    defaults = {parameter.name: parameter.default for parameter in parameters}

    def advise_on_effect(values: Mapping[str, Any]) -> _Advice:
        for dependent in _DEPENDENT:
            if not dependent.condition(values):
                yield from ((name, dependent.problem) for name in dependent.names if values[name] != defaults[name])

    return (
        advise_on_effect,
        _advise_on_listeners,
        _advise_on_migration,
        _advise_on_shutdown,
        _advise_on_hotplug,
        _advise_on_confinement,
    )


def _is_public(place: str) -> bool:
    """Return whether an address to listen on is not a loopback address; False for the name of an interface."""
    return is_address(place) and not ipaddress.ip_address(place).is_loopback


def _advise_on_listeners(values: Mapping[str, Any]) -> _Advice:
    for kind, place in (("vnc", "vnc_bind_address"), ("spice", "spice_bind")):
        if not _is_public(values[place]):
            continue
        if not values[f"{kind}_password_file"] and not (kind == "vnc" and values["vnc_x509_verify"]):
            yield place, f"anyone who can reach this address can use the console of the guest; set {kind}_password_file"
        if not values[f"{kind}_{'use_tls' if kind == 'spice' else 'tls'}"]:
            yield place, f"{kind.upper()} without TLS is not encrypted"
    if values["vnc_bind_address"] and values["vnc_tls"] and not values["vnc_x509_path"]:
        yield "vnc_tls", "without vnc_x509_path clients cannot verify the identity of the server"


def _advise_on_migration(values: Mapping[str, Any]) -> _Advice:
    model = values["cpu_type"].partition(",")[0]
    # The default gets no advice by itself, only together with parameters for migration.
    if model in _NODE_MODELS and (values["cpu_type"] or values["migration_tls"] or values["migration_caps"]):
        yield "cpu_type", "the instance can only migrate to nodes whose CPUs have all features of this node's CPUs"
    if any(item.startswith("host:") for item in values["usb_devices"].split(",")):
        yield "usb_devices", "a USB device of this node is not available after a migration to another node"


def _advise_on_shutdown(values: Mapping[str, Any]) -> _Advice:
    if values["user_shutdown"] and not values["acpi"]:
        yield "user_shutdown", "without acpi a guest can halt, but cannot power off its machine"


def _advise_on_hotplug(values: Mapping[str, Any]) -> _Advice:
    if values["vcpus_max"] and not values["acpi"]:
        yield "vcpus_max", "without acpi a guest gets no notification of vCPU hotplug and releases no vCPU"


def _advise_on_confinement(values: Mapping[str, Any]) -> _Advice:
    if values["use_chroot"] and values["security_model"] == "none":
        yield "use_chroot", "root can escape from a root directory; set security_model to run QEMU as another user"
