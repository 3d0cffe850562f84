# SPDX-License-Identifier: BSD-2-Clause
"""Parameters: display, input and sound."""

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

#: The device model of each type of display adapter.
DISPLAY_DRIVERS: Final[dict[str, str]] = {
    "std": "VGA",
    "cirrus": "cirrus-vga",
    "virtio": "virtio-vga",
    "vmware": "vmware-svga",
    "qxl": "qxl-vga",
}

#: The device models of each type of sound card, the controller first.
SOUND_DRIVERS: Final[dict[str, tuple[str, ...]]] = {
    "hda": ("intel-hda", "hda-duplex"),
    "ac97": ("AC97",),
    "es1370": ("ES1370",),
}

#: The device model of each emulated USB device.
USB_DRIVERS: Final[dict[str, str]] = {
    "mouse": "usb-mouse",
    "tablet": "usb-tablet",
    "keyboard": "usb-kbd",
    "wacom-tablet": "usb-wacom-tablet",
}


def is_address(text: str) -> bool:
    """Return whether a text is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def parse_usb_device(text: str) -> dict[str, Any]:
    """Parse one item of `usb_devices`: the name of a device, ``host:BUS.ADDRESS`` or ``host:VENDOR:PRODUCT``.

    Returns:
        The properties of the device, with its device model as ``driver``.

    Raises:
        ParameterError: the text has another form.
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


def _check_vnc(parameters: Mapping[str, Any]) -> None:
    if parameters["vnc_x509_path"] and not parameters["vnc_tls"]:
        raise ParameterError("vnc_x509_path", parameters["vnc_x509_path"], "requires vnc_tls")
    if parameters["vnc_x509_verify"] and not parameters["vnc_x509_path"]:
        raise ParameterError("vnc_x509_verify", True, "requires vnc_x509_path")


def _check_spice(parameters: Mapping[str, Any]) -> None:
    if not parameters["spice_bind"]:
        return
    if parameters["vnc_bind_address"]:
        raise ParameterError("spice_bind", parameters["spice_bind"], "cannot be combined with vnc_bind_address")
    if not parameters["spice_port"]:
        raise ParameterError("spice_port", 0, "required by spice_bind")
    if parameters["spice_use_tls"] and not parameters["spice_x509_path"]:
        raise ParameterError("spice_x509_path", "", "required by spice_use_tls")
    version = parameters["spice_ip_version"]
    place = parameters["spice_bind"]
    if version and is_address(place) and ipaddress.ip_address(place).version != version:
        raise ParameterError("spice_ip_version", version, f"spice_bind {place} is not an IPv{version} address")


PARAMETERS: Final = (
    Parameter(
        name="vga",
        kind=str,
        default="",
        doc="Display adapter. Empty: qxl with SPICE if the program has it, else std with SPICE or VNC, else none.",
        syntax=one_of("", "none", *DISPLAY_DRIVERS),
    ),
    Parameter(
        name="keymap",
        kind=str,
        default="",
        doc="Keyboard layout, such as en-us, for VNC and SPICE clients that send no key codes.",
        syntax=Check("text without spaces or commas", lambda value: WORD.accepts(value) and "," not in value),
    ),
    Parameter(
        name="vnc_bind_address",
        kind=str,
        default="",
        doc="Where VNC listens: an address, a network interface whose address to use, or a directory for a unix socket "
        "INSTANCE.vnc. Empty: no VNC.",
        syntax=_PLACE,
    ),
    Parameter(
        name="vnc_port",
        kind=int,
        default=0,
        doc="TCP port of VNC. 0: the first free one from 5900 to 5999.",
        syntax=Check("0, or 5900 to 65535", lambda value: value == 0 or 5900 <= value <= 65535),
    ),
    Parameter(
        name="vnc_tls",
        kind=bool,
        default=False,
        doc="Whether VNC is encrypted. Without vnc_x509_path the server has no certificate that a client could verify.",
    ),
    Parameter(
        name="vnc_x509_path",
        kind=str,
        default="",
        doc="Directory with the certificates for vnc_tls: ca-cert.pem, server-cert.pem, server-key.pem.",
        syntax=ABSOLUTE_PATH,
    ),
    Parameter(
        name="vnc_x509_verify",
        kind=bool,
        default=False,
        doc="Whether VNC clients have to present a certificate.",
    ),
    Parameter(
        name="vnc_password_file",
        kind=str,
        default="",
        doc="File whose first line is the password for VNC, of which VNC uses the first 8 bytes. Empty: no password.",
        syntax=ABSOLUTE_PATH,
    ),
    Parameter(
        name="spice_bind",
        kind=str,
        default="",
        doc="Where SPICE listens: an address, or a network interface whose address to use. Empty: no SPICE.",
        syntax=_BIND,
    ),
    Parameter(
        name="spice_port",
        kind=int,
        default=0,
        doc="TCP port of SPICE; with spice_use_tls, of encrypted SPICE.",
        syntax=between(0, 65535),
    ),
    Parameter(
        name="spice_ip_version",
        kind=int,
        default=0,
        doc="IP version that SPICE listens on. 0: both.",
        syntax=Check("0, 4 or 6", lambda value: value in (0, 4, 6)),
    ),
    Parameter(
        name="spice_password_file",
        kind=str,
        default="",
        doc="File whose first line is the password for SPICE. Empty: no password.",
        syntax=ABSOLUTE_PATH,
    ),
    Parameter(
        name="spice_image_compression",
        kind=str,
        default="",
        doc="Lossless image compression of SPICE. Empty: QEMU decides.",
        syntax=one_of("", "auto_glz", "auto_lz", "quic", "glz", "lz", "off"),
    ),
    Parameter(
        name="spice_jpeg_wan_compression",
        kind=str,
        default="",
        doc="When SPICE uses lossy (JPEG) image compression on slow links. Empty: QEMU decides.",
        syntax=one_of("", "auto", "never", "always"),
    ),
    Parameter(
        name="spice_zlib_glz_wan_compression",
        kind=str,
        default="",
        doc="When SPICE uses lossless (zlib over GLZ) image compression on slow links. Empty: QEMU decides.",
        syntax=one_of("", "auto", "never", "always"),
    ),
    Parameter(
        name="spice_streaming_video",
        kind=str,
        default="",
        doc="Which areas of the screen SPICE sends as video streams. Empty: QEMU decides.",
        syntax=one_of("", "off", "all", "filter"),
    ),
    Parameter(
        name="spice_playback_compression", kind=bool, default=True, doc="Whether SPICE compresses audio playback."
    ),
    Parameter(name="spice_use_tls", kind=bool, default=False, doc="Whether SPICE is encrypted."),
    Parameter(
        name="spice_x509_path",
        kind=str,
        default="",
        doc="Directory with the certificates for spice_use_tls: ca-cert.pem, server-cert.pem, server-key.pem.",
        syntax=ABSOLUTE_PATH,
    ),
    Parameter(
        name="spice_tls_ciphers",
        kind=str,
        default="",
        doc="Ciphers for spice_use_tls, in the syntax of OpenSSL. Empty: the default of the library.",
        syntax=WORD,
    ),
    Parameter(
        name="spice_use_vdagent",
        kind=bool,
        default=True,
        doc="Whether SPICE uses the SPICE agent in the guest for clipboard and mouse.",
    ),
    Parameter(
        name="usb_mouse",
        kind=str,
        default="",
        doc="USB pointing device. Empty: a tablet with VNC, otherwise none.",
        syntax=one_of("", "mouse", "tablet"),
    ),
    Parameter(
        name="usb_devices",
        kind=str,
        default="",
        doc="Additional USB devices, separated by commas: keyboard, tablet, mouse, wacom-tablet, or a device of the"
        " node as host:BUS.ADDRESS or host:VENDOR:PRODUCT.",
        syntax=Check("USB devices, separated by commas", passes(_parse_usb_devices)),
    ),
    Parameter(
        name="soundhw",
        kind=str,
        default="",
        doc="Sound card. Its sound is transmitted by SPICE. Empty: none.",
        syntax=one_of("", *SOUND_DRIVERS),
    ),
)

RULES: Final[tuple[Rule, ...]] = (_check_vnc, _check_spice)
