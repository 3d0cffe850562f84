# SPDX-License-Identifier: BSD-2-Clause
"""VNC, SPICE, USB and sound.

A plan contains no passwords: `hvkit.hypervisor.kvm.qemu.passwords` sets them after the start of QEMU. A server with
password authentication rejects all clients until then.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.capabilities import Capabilities
from hvkit.hypervisor.kvm.plan.parameters import DISPLAY_DRIVERS, SOUND_DRIVERS, USB_DRIVERS, parse_usb_device
from hvkit.hypervisor.kvm.plan.topology import FixedSlot, Topology
from hvkit.qmp.schema import (
    Audiodev,
    AudiodevGenericOptions,
    DeviceAdd,
    ObjectOptions,
    QuerySpice,
    TlsCredsAnonProperties,
    TlsCredsX509Properties,
)

#: The TCP port of VNC display 0, and the number of ports to try if none is given.
VNC_BASE_PORT: Final = 5900
_VNC_PORTS: Final = 100
#: A command that only a QEMU with SPICE has. Its SPICE module may still be missing if it is packaged separately.
_SPICE_COMMAND: Final = QuerySpice.wire_name

_TLS_ID: Final = "display-tls"
_AUDIO_ID: Final = "audio"
_USB_ID: Final = "usb"


@attrs.frozen(kw_only=True)
class VncServer:
    """A VNC server.

    Attributes:
        host: the address to listen on; empty for a unix socket.
        path: the unix socket; empty for TCP.
        first_port: the first TCP port to try.
        last_port: the last TCP port to try.
        has_password: whether it requires a password.
        tls: the id of its TLS credentials; empty for none.
    """

    host: str = ""
    path: str = ""
    first_port: int = VNC_BASE_PORT
    last_port: int = VNC_BASE_PORT
    has_password: bool = False
    tls: str = ""


@attrs.frozen(kw_only=True)
class Display:
    """VNC, SPICE, USB and sound of a machine.

    Attributes:
        vnc: its VNC server; None for none.
        spice: the members of the option -spice; empty for no SPICE server.
        keymap: the keyboard layout; empty for the default.
        objects: TLS credentials.
        audio: the audio backend; None without a sound card.
        devices: USB and sound devices, each after the devices that it refers to.
        default_vga: the display adapter if the parameter `vga` is empty; empty for none.
    """

    vnc: VncServer | None = None
    spice: Mapping[str, str] = attrs.field(factory=dict)
    keymap: str = ""
    objects: tuple[ObjectOptions, ...] = ()
    audio: Audiodev | None = None
    devices: tuple[DeviceAdd, ...] = ()
    default_vga: str = ""


def plan_display(
    name: str, parameters: Mapping[str, Any], capabilities: Capabilities, topology: Topology, *, opens_by_name: bool
) -> Display:
    """Plan VNC, SPICE, USB and sound.

    Args:
        name: the name of the instance.
        parameters: its parameters, filled and checked, with addresses in place of network interfaces.
        capabilities: of the program.
        topology: of the machine.
        opens_by_name: whether QEMU can create a socket by name.

    Raises:
        ParameterError: the program lacks a feature, or its confinement does not permit it.
    """
    vnc = _plan_vnc(name, parameters, opens_by_name=opens_by_name)
    spice = dict(_plan_spice(parameters, capabilities))
    default_vga = "std" if vnc is not None or spice else ""
    if spice and DISPLAY_DRIVERS["qxl"] in capabilities.devices:
        default_vga = "qxl"
    audio, sound = _plan_sound(parameters, capabilities, topology, has_spice=bool(spice))
    return Display(
        vnc=vnc,
        spice=spice,
        keymap=parameters["keymap"],
        objects=(_plan_tls(parameters),) if vnc is not None and vnc.tls else (),
        audio=audio,
        devices=(*_plan_usb(parameters, capabilities, topology, has_vnc=vnc is not None), *sound),
        default_vga=default_vga,
    )


def _plan_vnc(name: str, parameters: Mapping[str, Any], *, opens_by_name: bool) -> VncServer | None:
    place = parameters["vnc_bind_address"]
    if not place:
        return None
    common: dict[str, Any] = {
        "has_password": bool(parameters["vnc_password_file"]),
        "tls": _TLS_ID if parameters["vnc_tls"] else "",
    }
    if place.startswith("/"):
        if not opens_by_name:
            problem = "QEMU with an account or a root directory cannot create a socket there; use an address"
            raise ParameterError("vnc_bind_address", place, problem)
        return VncServer(path=f"{place.rstrip('/')}/{name}.vnc", **common)
    port = parameters["vnc_port"]
    return VncServer(
        host=place,
        first_port=port or VNC_BASE_PORT,
        last_port=port or VNC_BASE_PORT + _VNC_PORTS - 1,
        **common,
    )


def _plan_tls(parameters: Mapping[str, Any]) -> ObjectOptions:
    if not parameters["vnc_x509_path"]:
        return TlsCredsAnonProperties(id=_TLS_ID, endpoint="server")
    return TlsCredsX509Properties(
        id=_TLS_ID,
        endpoint="server",
        dir=parameters["vnc_x509_path"],
        verify_peer=parameters["vnc_x509_verify"],
    )


def _plan_spice(parameters: Mapping[str, Any], capabilities: Capabilities) -> Iterator[tuple[str, str]]:
    if not parameters["spice_bind"]:
        return
    if _SPICE_COMMAND not in capabilities.commands:
        raise ParameterError("spice_bind", parameters["spice_bind"], f"{capabilities.binary} was built without SPICE")
    yield "addr", parameters["spice_bind"]
    if parameters["spice_use_tls"]:
        yield "tls-port", str(parameters["spice_port"])
        yield "x509-dir", parameters["spice_x509_path"]
        if parameters["spice_tls_ciphers"]:
            yield "tls-ciphers", parameters["spice_tls_ciphers"]
    else:
        yield "port", str(parameters["spice_port"])
    if parameters["spice_ip_version"]:
        yield f"ipv{parameters['spice_ip_version']}", "on"
    if not parameters["spice_password_file"]:
        yield "disable-ticketing", "on"
    for member in ("image-compression", "jpeg-wan-compression", "zlib-glz-wan-compression", "streaming-video"):
        value = parameters["spice_" + member.replace("-", "_")]
        if value:
            yield member, value
    if not parameters["spice_playback_compression"]:
        yield "playback-compression", "off"
    if not parameters["spice_use_vdagent"]:
        yield "agent-mouse", "off"


def _plan_usb(
    parameters: Mapping[str, Any], capabilities: Capabilities, topology: Topology, *, has_vnc: bool
) -> Iterator[DeviceAdd]:
    # A tablet has the absolute position of the pointer. The relative movements of a mouse drift away from it.
    mouse = parameters["usb_mouse"] or ("tablet" if has_vnc else "")
    wanted = [{"driver": USB_DRIVERS[mouse]}] if mouse else []
    wanted += [parse_usb_device(item) for item in parameters["usb_devices"].split(",") if item]
    if not wanted:
        return
    place = topology.fixed(FixedSlot.USB)
    yield DeviceAdd(driver="qemu-xhci", id=_USB_ID, bus=place.bus, properties=place.properties)
    for number, properties in enumerate(wanted, start=1):
        driver = properties.pop("driver")
        capabilities.check_device(driver, "usb_devices", driver)
        yield DeviceAdd(driver=driver, id=f"{_USB_ID}{number}", bus=f"{_USB_ID}.0", properties=properties)


def _plan_sound(
    parameters: Mapping[str, Any], capabilities: Capabilities, topology: Topology, *, has_spice: bool
) -> tuple[Audiodev | None, tuple[DeviceAdd, ...]]:
    card = parameters["soundhw"]
    if not card:
        return None, ()
    place = topology.fixed(FixedSlot.SOUND)
    *controllers, player = SOUND_DRIVERS[card]
    for driver in SOUND_DRIVERS[card]:
        capabilities.check_device(driver, "soundhw", card)
    audio = AudiodevGenericOptions(id=_AUDIO_ID, driver="spice" if has_spice else "none")
    own = {"audiodev": _AUDIO_ID}
    if not controllers:
        return audio, (DeviceAdd(driver=player, id="sound", bus=place.bus, properties={**place.properties, **own}),)
    return audio, (
        DeviceAdd(driver=controllers[0], id="sound", bus=place.bus, properties=place.properties),
        DeviceAdd(driver=player, id="sound-codec", bus="sound.0", properties=own),
    )
