# SPDX-License-Identifier: BSD-2-Clause
"""Parameters: what an operator sees, hears and types on."""

import ipaddress
from collections.abc import Mapping
from typing import Any, Final

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.parameters.checks import WORD, passes
from hvkit.hypervisor.parameters import (
    ABSOLUTE_PATH,
    Check,
    Parameter,
    Rule,
    between,
    one_of,
)

#: Which device each type of display adapter is.
DISPLAY_DRIVERS: Final[dict[str, str]] = {
    "std": "VGA",
    "cirrus": "cirrus-vga",
    "virtio": "virtio-vga",
    "vmware": "vmware-svga",
    "qxl": "qxl-vga",
}

#: Which devices each kind of sound card is made of, the controller first.
SOUND_DRIVERS: Final[dict[str, tuple[str, ...]]] = {
    "hda": ("intel-hda", "hda-duplex"),
    "ac97": ("AC97",),
    "es1370": ("ES1370",),
}

#: Which device each USB device of QEMU's own is.
USB_DRIVERS: Final[dict[str, str]] = {
    "mouse": "usb-mouse",
    "tablet": "usb-tablet",
    "keyboard": "usb-kbd",
    "wacom-tablet": "usb-wacom-tablet",
}


def is_address(text: str) -> bool:
    """Return whether this is an address of IPv4 or IPv6."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def parse_usb_device(text: str) -> dict[str, Any]:
    """Take apart one item of `usb_devices`: the name of a device, ``host:BUS.ADDRESS`` or ``host:VENDOR:PRODUCT``.

    Returns:
        The driver, and its properties.

    Raises:
        ParameterError: it is written in another way.
    """
    if text in USB_DRIVERS:
        return {"driver": USB_DRIVERS[text]}
    kind, _, place = text.partition(":")
    try:
        if kind == "host" and ":" in place:
            vendor, product = (int(number, 16) for number in place.split(":"))
            return {"driver": "usb-host", "vendorid": vendor, "productid": product}
        if kind == "host":
            bus, address = (int(number) for number in place.split("."))
            return {"driver": "usb-host", "hostbus": bus, "hostaddr": address}
    except ValueError:
        pass
    names = ", ".join(USB_DRIVERS)
    raise ParameterError("usb_devices", text, f"expected {names}, host:1.4 or host:1d6b:0002, got {text!r}")


def _parse_usb_devices(text: str) -> None:
    for item in text.split(","):
        parse_usb_device(item)


_PLACE: Final = Check(
    "an address, the name of a network interface, or a directory",
    lambda value: ABSOLUTE_PATH.accepts(value) or (WORD.accepts(value) and "/" not in value),
)
_BIND: Final = Check(
    "an address, or the name of a network interface", lambda value: _PLACE.accepts(value) and value[:1] != "/"
)


def _vnc_goes_together(parameters: Mapping[str, Any]) -> None:
    if parameters["vnc_x509_path"] and not parameters["vnc_tls"]:
        raise ParameterError("vnc_x509_path", parameters["vnc_x509_path"], "vnc_tls is off")
    if parameters["vnc_x509_verify"] and not parameters["vnc_x509_path"]:
        raise ParameterError("vnc_x509_verify", True, "there is no vnc_x509_path to verify with")


def _spice_goes_together(parameters: Mapping[str, Any]) -> None:
    if not parameters["spice_bind"]:
        return
    if parameters["vnc_bind_address"]:
        raise ParameterError("spice_bind", parameters["spice_bind"], "there is VNC: vnc_bind_address")
    if not parameters["spice_port"]:
        raise ParameterError("spice_port", 0, "SPICE needs a port")
    if parameters["spice_use_tls"] and not parameters["spice_x509_path"]:
        raise ParameterError("spice_x509_path", "", "spice_use_tls needs it")
    version = parameters["spice_ip_version"]
    place = parameters["spice_bind"]
    if version and is_address(place) and ipaddress.ip_address(place).version != version:
        raise ParameterError("spice_ip_version", version, f"{place} is of another version")


PARAMETERS: Final = (
    Parameter(
        name="vga",
        kind=str,
        default="",
        doc="Display adapter. Empty: qxl for SPICE where the program has it, std for SPICE and VNC, otherwise none.",
        syntax=one_of("", "none", *DISPLAY_DRIVERS),
    ),
    Parameter(
        name="keymap",
        kind=str,
        default="",
        doc="Layout of the keyboard of those who look, such as en-us, for clients that send no key codes.",
        syntax=Check("one word without commas", lambda value: WORD.accepts(value) and "," not in value),
    ),
    Parameter(
        name="vnc_bind_address",
        kind=str,
        default="",
        doc="Where VNC listens: an address, an interface whose address it is, or a directory for a unix socket "
        "NAME.vnc. Empty: no VNC.",
        syntax=_PLACE,
    ),
    Parameter(
        name="vnc_port",
        kind=int,
        default=0,
        doc="TCP port of VNC, 5900 or more. 0: the first that is free, up to 5999.",
        syntax=Check("0, or 5900 to 65535", lambda value: value == 0 or 5900 <= value <= 65535),
    ),
    Parameter(
        name="vnc_tls",
        kind=bool,
        default=False,
        doc="Whether VNC is encrypted: with certificates of vnc_x509_path, or with none that anybody could check.",
    ),
    Parameter(
        name="vnc_x509_path",
        kind=str,
        default="",
        doc="Directory of the certificates for vnc_tls: ca-cert.pem, server-cert.pem, server-key.pem.",
        syntax=ABSOLUTE_PATH,
    ),
    Parameter(
        name="vnc_x509_verify",
        kind=bool,
        default=False,
        doc="Whether a client of VNC has to show a certificate too.",
    ),
    Parameter(
        name="vnc_password_file",
        kind=str,
        default="",
        doc="File whose first line is the password of VNC, which compares 8 bytes of it. Empty: none is asked for.",
        syntax=ABSOLUTE_PATH,
    ),
    Parameter(
        name="spice_bind",
        kind=str,
        default="",
        doc="Where SPICE listens: an address, or an interface whose address it is. Empty: no SPICE.",
        syntax=_BIND,
    ),
    Parameter(
        name="spice_port",
        kind=int,
        default=0,
        doc="TCP port of SPICE; with spice_use_tls it is the encrypted one.",
        syntax=between(0, 65535),
    ),
    Parameter(
        name="spice_ip_version",
        kind=int,
        default=0,
        doc="Version of IP that SPICE listens with: 4, 6, or 0 for either.",
        syntax=Check("0, 4 or 6", lambda value: value in (0, 4, 6)),
    ),
    Parameter(
        name="spice_password_file",
        kind=str,
        default="",
        doc="File whose first line is the password of SPICE. Empty: none is asked for.",
        syntax=ABSOLUTE_PATH,
    ),
    Parameter(
        name="spice_image_compression",
        kind=str,
        default="",
        doc="How SPICE compresses images without loss. Empty: QEMU decides.",
        syntax=one_of("", "auto_glz", "auto_lz", "quic", "glz", "lz", "off"),
    ),
    Parameter(
        name="spice_jpeg_wan_compression",
        kind=str,
        default="",
        doc="When SPICE compresses images with loss over slow links. Empty: QEMU decides.",
        syntax=one_of("", "auto", "never", "always"),
    ),
    Parameter(
        name="spice_zlib_glz_wan_compression",
        kind=str,
        default="",
        doc="When SPICE compresses images without loss over slow links. Empty: QEMU decides.",
        syntax=one_of("", "auto", "never", "always"),
    ),
    Parameter(
        name="spice_streaming_video",
        kind=str,
        default="",
        doc="Which parts of the screen SPICE sends as a video. Empty: QEMU decides.",
        syntax=one_of("", "off", "all", "filter"),
    ),
    Parameter(name="spice_playback_compression", kind=bool, default=True, doc="Whether SPICE compresses sound."),
    Parameter(name="spice_use_tls", kind=bool, default=False, doc="Whether SPICE is encrypted."),
    Parameter(
        name="spice_x509_path",
        kind=str,
        default="",
        doc="Directory of the certificates for spice_use_tls: ca-cert.pem, server-cert.pem, server-key.pem.",
        syntax=ABSOLUTE_PATH,
    ),
    Parameter(
        name="spice_tls_ciphers",
        kind=str,
        default="",
        doc="Ciphers for spice_use_tls, as OpenSSL lists them. Empty: those of the library.",
        syntax=WORD,
    ),
    Parameter(
        name="spice_use_vdagent",
        kind=bool,
        default=True,
        doc="Whether SPICE and an agent in the guest share clipboard and mouse.",
    ),
    Parameter(
        name="usb_mouse",
        kind=str,
        default="",
        doc="Pointing device on USB. Empty: a tablet where there is VNC, otherwise none.",
        syntax=one_of("", "mouse", "tablet"),
    ),
    Parameter(
        name="usb_devices",
        kind=str,
        default="",
        doc="More USB devices, with commas between them: keyboard, tablet, mouse, wacom-tablet, or one of this node's "
        "as host:BUS.ADDRESS or host:VENDOR:PRODUCT.",
        syntax=Check("USB devices with commas between them", passes(_parse_usb_devices)),
    ),
    Parameter(
        name="soundhw",
        kind=str,
        default="",
        doc="Sound card. SPICE carries what it plays. Empty: none.",
        syntax=one_of("", *SOUND_DRIVERS),
    ),
)

RULES: Final[tuple[Rule, ...]] = (_vnc_goes_together, _spice_goes_together)
