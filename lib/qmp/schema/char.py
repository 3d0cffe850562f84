# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `char`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from hvkit.qmp.base import Command, Event, Struct, Union

if TYPE_CHECKING:
    from hvkit.qmp.schema.sockets import SocketAddressLegacy

#: Enumeration `ChardevBackendKind`, since 1.4.
ChardevBackendKind = Literal[
    "file",
    "serial",
    "parallel",
    "pipe",
    "socket",
    "udp",
    "pty",
    "null",
    "mux",
    "hub",  # since 10.0
    "msmouse",
    "wctablet",
    "braille",
    "testdev",
    "stdio",
    "console",
    "spicevmc",
    "spiceport",
    "qemu-vdagent",
    "dbus",
    "vc",
    "ringbuf",
    "memory",  # deprecated
]

#: Enumeration `ChardevVCEncoding`, since 11.1.
ChardevVCEncoding = Literal["cp437", "utf8"]

#: Enumeration `DataFormat`, since 1.4.
DataFormat = Literal["utf8", "base64"]


class ChardevBackend(
    Union,
    tag="type",
    branches={
        "file": "ChardevFileWrapper",
        "serial": "ChardevHostdevWrapper",
        "parallel": "ChardevHostdevWrapper",
        "pipe": "ChardevHostdevWrapper",
        "socket": "ChardevSocketWrapper",
        "udp": "ChardevUdpWrapper",
        "pty": "ChardevPtyWrapper",
        "null": "ChardevCommonWrapper",
        "mux": "ChardevMuxWrapper",
        "hub": "ChardevHubWrapper",
        "msmouse": "ChardevCommonWrapper",
        "wctablet": "ChardevCommonWrapper",
        "braille": "ChardevCommonWrapper",
        "testdev": "ChardevCommonWrapper",
        "stdio": "ChardevStdioWrapper",
        "console": "ChardevCommonWrapper",
        "spicevmc": "ChardevSpiceChannelWrapper",
        "spiceport": "ChardevSpicePortWrapper",
        "qemu-vdagent": "ChardevQemuVDAgentWrapper",
        "dbus": "ChardevDBusWrapper",
        "vc": "ChardevVCWrapper",
        "ringbuf": "ChardevRingbufWrapper",
        "memory": "ChardevRingbufWrapper",
    },
):
    """Union `ChardevBackend`, since 1.4."""

    type: ChardevBackendKind


class ChardevFileWrapper(ChardevBackend):
    """Struct `ChardevFileWrapper`, since 1.4. Branch of `ChardevBackend` where `type` is `file`."""

    type: Literal["file"] = "file"
    data: ChardevFile


class ChardevHostdevWrapper(ChardevBackend):
    """Struct `ChardevHostdevWrapper`, since 1.4. Branch of `ChardevBackend` where `type` is `serial` or `parallel`
    or `pipe`.
    """

    type: Literal["serial", "parallel", "pipe"]
    data: ChardevHostdev


class ChardevSocketWrapper(ChardevBackend):
    """Struct `ChardevSocketWrapper`, since 1.4. Branch of `ChardevBackend` where `type` is `socket`."""

    type: Literal["socket"] = "socket"
    data: ChardevSocket


class ChardevUdpWrapper(ChardevBackend):
    """Struct `ChardevUdpWrapper`, since 1.5. Branch of `ChardevBackend` where `type` is `udp`."""

    type: Literal["udp"] = "udp"
    data: ChardevUdp


class ChardevPtyWrapper(ChardevBackend):
    """Struct `ChardevPtyWrapper`, since 9.2. Until 7.2 `ChardevCommonWrapper` stood in its place. Branch of
    `ChardevBackend` where `type` is `pty`.
    """

    type: Literal["pty"] = "pty"
    data: ChardevPty


class ChardevCommonWrapper(ChardevBackend):
    """Struct `ChardevCommonWrapper`, since 2.6. Branch of `ChardevBackend` where `type` is `null` or `msmouse` or
    `wctablet` or `braille` or `testdev` or `console`.
    """

    type: Literal["null", "msmouse", "wctablet", "braille", "testdev", "console"]
    data: ChardevCommon


class ChardevMuxWrapper(ChardevBackend):
    """Struct `ChardevMuxWrapper`, since 1.5. Branch of `ChardevBackend` where `type` is `mux`."""

    type: Literal["mux"] = "mux"
    data: ChardevMux


class ChardevHubWrapper(ChardevBackend):
    """Struct `ChardevHubWrapper`, since 10.0. Branch of `ChardevBackend` where `type` is `hub`."""

    type: Literal["hub"] = "hub"
    data: ChardevHub


class ChardevStdioWrapper(ChardevBackend):
    """Struct `ChardevStdioWrapper`, since 1.5. Branch of `ChardevBackend` where `type` is `stdio`."""

    type: Literal["stdio"] = "stdio"
    data: ChardevStdio


class ChardevSpiceChannelWrapper(ChardevBackend):
    """Struct `ChardevSpiceChannelWrapper`, since 1.5. Needs CONFIG_SPICE. Branch of `ChardevBackend` where `type` is
    `spicevmc`.
    """

    type: Literal["spicevmc"] = "spicevmc"
    data: ChardevSpiceChannel


class ChardevSpicePortWrapper(ChardevBackend):
    """Struct `ChardevSpicePortWrapper`, since 1.5. Needs CONFIG_SPICE. Branch of `ChardevBackend` where `type` is
    `spiceport`.
    """

    type: Literal["spiceport"] = "spiceport"
    data: ChardevSpicePort


class ChardevQemuVDAgentWrapper(ChardevBackend):
    """Struct `ChardevQemuVDAgentWrapper`, since 6.1. Needs CONFIG_SPICE_PROTOCOL. Branch of `ChardevBackend` where
    `type` is `qemu-vdagent`.
    """

    type: Literal["qemu-vdagent"] = "qemu-vdagent"
    data: ChardevQemuVDAgent


class ChardevDBusWrapper(ChardevBackend):
    """Struct `ChardevDBusWrapper`, since 7.0. Needs CONFIG_DBUS_DISPLAY. Branch of `ChardevBackend` where `type` is
    `dbus`.
    """

    type: Literal["dbus"] = "dbus"
    data: ChardevDBus


class ChardevVCWrapper(ChardevBackend):
    """Struct `ChardevVCWrapper`, since 1.5. Branch of `ChardevBackend` where `type` is `vc`."""

    type: Literal["vc"] = "vc"
    data: ChardevVC


class ChardevRingbufWrapper(ChardevBackend):
    """Struct `ChardevRingbufWrapper`, since 1.5. Branch of `ChardevBackend` where `type` is `ringbuf` or `memory`."""

    type: Literal["ringbuf", "memory"]
    data: ChardevRingbuf


class ChardevBackendInfo(Struct):
    """Struct `ChardevBackendInfo`, since 2.0."""

    name: str


class ChardevCommon(Struct):
    """Struct `ChardevCommon`, since 2.6."""

    logfile: str | None = None
    logappend: bool | None = None
    logtimestamp: bool | None = None  # since 11.0


class ChardevDBus(ChardevCommon):
    """Struct `ChardevDBus`, since 7.0. Needs CONFIG_DBUS_DISPLAY."""

    name: str
    encoding: ChardevVCEncoding | None = None  # since 11.1


class ChardevFile(ChardevCommon):
    """Struct `ChardevFile`, since 1.4."""

    in_: str | None = None
    out: str
    append: bool | None = None


class ChardevHostdev(ChardevCommon):
    """Struct `ChardevHostdev`, since 1.4."""

    device: str


class ChardevHub(ChardevCommon):
    """Struct `ChardevHub`, since 10.0."""

    chardevs: list[str]


class ChardevInfo(Struct):
    """Struct `ChardevInfo`, since 0.14."""

    label: str
    filename: str
    frontend_open: bool


class ChardevMux(ChardevCommon):
    """Struct `ChardevMux`, since 1.5."""

    chardev: str


class ChardevPty(ChardevCommon):
    """Struct `ChardevPty`, since 9.2. Until 7.2 `ChardevCommon` stood in its place."""

    path: str | None = None  # 10.0 and later


class ChardevQemuVDAgent(ChardevCommon):
    """Struct `ChardevQemuVDAgent`, since 6.1. Needs CONFIG_SPICE_PROTOCOL."""

    mouse: bool | None = None
    clipboard: bool | None = None


class ChardevReturn(Struct):
    """Struct `ChardevReturn`, since 1.4."""

    pty: str | None = None


class ChardevRingbuf(ChardevCommon):
    """Struct `ChardevRingbuf`, since 1.5."""

    size: int | None = None


class ChardevSocket(ChardevCommon):
    """Struct `ChardevSocket`, since 1.4."""

    addr: SocketAddressLegacy
    tls_creds: str | None = None
    tls_authz: str | None = None
    server: bool | None = None
    wait: bool | None = None
    nodelay: bool | None = None
    telnet: bool | None = None
    tn3270: bool | None = None
    websocket: bool | None = None
    reconnect_ms: int | None = None  # since 9.2
    reconnect: int | None = None  # until 10.0, deprecated


class ChardevSpiceChannel(ChardevCommon):
    """Struct `ChardevSpiceChannel`, since 1.5. Needs CONFIG_SPICE."""

    type: str


class ChardevSpicePort(ChardevCommon):
    """Struct `ChardevSpicePort`, since 1.5. Needs CONFIG_SPICE."""

    fqdn: str


class ChardevStdio(ChardevCommon):
    """Struct `ChardevStdio`, since 1.5."""

    signal: bool | None = None


class ChardevUdp(ChardevCommon):
    """Struct `ChardevUdp`, since 1.5."""

    remote: SocketAddressLegacy
    local: SocketAddressLegacy | None = None


class ChardevVC(ChardevCommon):
    """Struct `ChardevVC`, since 1.5."""

    width: int | None = None
    height: int | None = None
    cols: int | None = None
    rows: int | None = None
    encoding: ChardevVCEncoding | None = None  # since 11.1


class VserportChangeEvent(Event, wire_name="VSERPORT_CHANGE"):
    """Event `VSERPORT_CHANGE`, since 2.1."""

    id: str
    open: bool


class ChardevAdd(Command["ChardevReturn"], wire_name="chardev-add"):
    """Command `chardev-add`, since 1.4. Returns `ChardevReturn`."""

    id: str
    backend: ChardevBackend


class ChardevChange(Command["ChardevReturn"], wire_name="chardev-change"):
    """Command `chardev-change`, since 2.10. Returns `ChardevReturn`."""

    id: str
    backend: ChardevBackend


class ChardevRemove(Command[None], wire_name="chardev-remove"):
    """Command `chardev-remove`, since 1.4."""

    id: str


class ChardevSendBreak(Command[None], wire_name="chardev-send-break"):
    """Command `chardev-send-break`, since 2.10."""

    id: str


class QueryChardev(Command["list[ChardevInfo]"], wire_name="query-chardev"):
    """Command `query-chardev`, since 0.14. Returns a list of `ChardevInfo`. Allowed before the machine is made."""


class QueryChardevBackends(Command["list[ChardevBackendInfo]"], wire_name="query-chardev-backends"):
    """Command `query-chardev-backends`, since 2.0. Returns a list of `ChardevBackendInfo`."""


class RingbufRead(Command[str], wire_name="ringbuf-read"):
    """Command `ringbuf-read`, since 1.4. Returns `str`."""

    device: str
    size: int
    format: DataFormat | None = None


class RingbufWrite(Command[None], wire_name="ringbuf-write"):
    """Command `ringbuf-write`, since 1.4."""

    device: str
    data: str
    format: DataFormat | None = None
