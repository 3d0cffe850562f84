# SPDX-License-Identifier: BSD-2-Clause
"""What is allowed and not wise: advice on values that have to be seen together.

Advice on a value alone stands with its parameter. What is advised against is never refused: who knows better goes on.
"""

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import attrs

from hvkit.hypervisor.kvm.plan.parameters.disks import SCSI_TYPES
from hvkit.hypervisor.kvm.plan.parameters.display import is_address
from hvkit.hypervisor.parameters import Advisor, Parameter

_Claim = Callable[[Mapping[str, Any]], bool]
_Advice = Iterator[tuple[str, str]]

#: CPU models that are whatever the node's own processors are.
_NODE_MODELS: Final = ("", "host", "max")


@attrs.frozen
class _Idle:
    """Parameters that do nothing for an instance unless something holds.

    Attributes:
        names: of the parameters.
        needs: what has to hold.
        problem: what an operator is told where it does not.
    """

    names: tuple[str, ...]
    needs: _Claim
    problem: str


def _given(name: str) -> _Claim:
    return lambda parameters: bool(parameters[name])


def _has_scsi(parameters: Mapping[str, Any]) -> bool:
    cdrom_type = parameters["cdrom_disk_type"] if parameters["cdrom_image_path"] else ""
    return not SCSI_TYPES.isdisjoint((parameters["disk_type"], cdrom_type))


_SPICE: Final = (
    *("spice_port", "spice_ip_version", "spice_password_file", "spice_image_compression", "spice_jpeg_wan_compression"),
    *("spice_zlib_glz_wan_compression", "spice_streaming_video", "spice_playback_compression", "spice_use_tls"),
    *("spice_x509_path", "spice_tls_ciphers", "spice_use_vdagent"),
)
_IDLE: Final = (
    _Idle(
        ("root_path", "kernel_args", "serial_speed"),
        _given("kernel_path"),
        "does nothing without kernel_path: the guest's own boot loader decides it",
    ),
    _Idle(
        ("memory_hotplug",),
        _given("memory_max_mib"),
        "does nothing without memory_max_mib: the instance keeps the memory that it starts with",
    ),
    _Idle(
        ("boot_order",),
        lambda parameters: not parameters["kernel_path"],
        "does nothing beside kernel_path, which is what boots",
    ),
    _Idle(("numa_policy",), _given("numa_host_nodes"), "does nothing without numa_host_nodes"),
    _Idle(("cdrom_disk_type",), _given("cdrom_image_path"), "does nothing without cdrom_image_path"),
    _Idle(("scsi_controller_type",), _has_scsi, "does nothing: neither disks nor CD drives are on SCSI"),
    _Idle(
        ("virtio_net_queues", "vhost_net"),
        lambda parameters: parameters["nic_type"] == "paravirtual",
        "does nothing: only paravirtual NICs have it",
    ),
    _Idle(
        ("vnc_port", "vnc_tls", "vnc_password_file"),
        _given("vnc_bind_address"),
        "does nothing without vnc_bind_address",
    ),
    _Idle(_SPICE, _given("spice_bind"), "does nothing without spice_bind"),
    _Idle(
        ("keymap",),
        lambda parameters: bool(parameters["vnc_bind_address"] or parameters["spice_bind"]),
        "does nothing without VNC and SPICE",
    ),
    _Idle(("soundhw",), _given("spice_bind"), "nobody hears it: only SPICE carries sound"),
)


def make_advisors(parameters: Iterable[Parameter]) -> tuple[Advisor, ...]:
    """Return what looks at all values together.

    Args:
        parameters: all that there are.
    """
    defaults = {parameter.name: parameter.default for parameter in parameters}

    def name_idle(values: Mapping[str, Any]) -> _Advice:
        for idle in _IDLE:
            if not idle.needs(values):
                yield from ((name, idle.problem) for name in idle.names if values[name] != defaults[name])

    return name_idle, _advise_on_listeners, _advise_on_moves, _advise_on_ends, _advise_on_growth, _advise_on_confinement


def _is_public(place: str) -> bool:
    """Whether others than this node reach what listens at a place; the name of an interface says nothing."""
    return is_address(place) and not ipaddress.ip_address(place).is_loopback


def _advise_on_listeners(values: Mapping[str, Any]) -> _Advice:
    for kind, place in (("vnc", "vnc_bind_address"), ("spice", "spice_bind")):
        if not _is_public(values[place]):
            continue
        if not values[f"{kind}_password_file"] and not (kind == "vnc" and values["vnc_x509_verify"]):
            yield place, f"whoever reaches this address has the guest's console: there is no {kind}_password_file"
        if not values[f"{kind}_{'use_tls' if kind == 'spice' else 'tls'}"]:
            yield place, f"{kind.upper()} without TLS lets everybody on the way read along"
    if values["vnc_bind_address"] and values["vnc_tls"] and not values["vnc_x509_path"]:
        yield "vnc_tls", "without vnc_x509_path nobody can tell this server from one that pretends to be it"


def _advise_on_moves(values: Mapping[str, Any]) -> _Advice:
    model = values["cpu_type"].partition(",")[0]
    # Who names such a model, or prepares for moves, is told; the default alone is no decision of anybody's.
    if model in _NODE_MODELS and (values["cpu_type"] or values["migration_tls"] or values["migration_caps"]):
        yield "cpu_type", "the guest can only move to nodes whose processors can all that this one's can"
    if any(item.startswith("host:") for item in values["usb_devices"].split(",")):
        yield "usb_devices", "a device of this node stays here when the instance moves to another one"


def _advise_on_ends(values: Mapping[str, Any]) -> _Advice:
    if values["user_shutdown"] and not values["acpi"]:
        yield "user_shutdown", "without acpi a guest cannot switch its machine off, only stand still"


def _advise_on_growth(values: Mapping[str, Any]) -> _Advice:
    if values["vcpus_max"] and not values["acpi"]:
        yield "vcpus_max", "without acpi a guest that runs hears of no processor that comes, and lets go of none"


def _advise_on_confinement(values: Mapping[str, Any]) -> _Advice:
    if values["use_chroot"] and values["security_model"] == "none":
        yield "use_chroot", "root finds its way out of a root directory: security_model can make QEMU somebody else"
