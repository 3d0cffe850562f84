# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `ui`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from hvkit.qmp.base import Command, Event, Struct, Union, wire

if TYPE_CHECKING:
    from hvkit.qmp.schema.sockets import NetworkAddressFamily, SocketAddress

#: Enumeration `DisplayGLMode`, since 3.0.
DisplayGLMode = Literal["off", "on", "core", "es"]

#: Enumeration `DisplayProtocol`, since 7.0.
DisplayProtocol = Literal["vnc", "spice"]

#: Enumeration `DisplayReloadType`, since 6.0.
DisplayReloadType = Literal["vnc"]

#: Enumeration `DisplayType`, since 2.12.
DisplayType = Literal["default", "none", "gtk", "sdl", "egl-headless", "curses", "cocoa", "spice-app", "dbus"]

#: Enumeration `DisplayUpdateType`, since 7.1.
DisplayUpdateType = Literal["vnc"]

#: Enumeration `HotKeyMod`, since 7.1.
HotKeyMod = Literal["lctrl-lalt", "lshift-lctrl-lalt", "rctrl"]

#: Enumeration `ImageFormat`, since 7.1.
ImageFormat = Literal["png", "ppm"]

#: Enumeration `InputAxis`, since 2.0.
InputAxis = Literal["x", "y"]

#: Enumeration `InputButton`, since 2.0.
InputButton = Literal[
    "side",
    "extra",
    "touch",  # since 8.1
    "left",
    "middle",
    "right",
    "wheel-up",
    "wheel-down",
    "wheel-left",
    "wheel-right",
]

#: Enumeration `InputEventKind`, since 2.0.
InputEventKind = Literal[
    "key",
    "btn",
    "rel",
    "abs",
    "mtt",  # 10.0 and later
]

#: Enumeration `InputMultiTouchType`, since 8.1.
InputMultiTouchType = Literal["begin", "update", "end", "cancel", "data"]

#: Enumeration `KeyValueKind`, since 1.3.
KeyValueKind = Literal["number", "qcode"]

#: Enumeration `QKeyCode`, since 1.3.
QKeyCode = Literal[
    "unmapped",
    "pause",
    "ro",
    "kp_comma",
    "kp_equals",
    "power",
    "hiragana",
    "henkan",
    "yen",
    "sleep",
    "wake",
    "audionext",
    "audioprev",
    "audiostop",
    "audioplay",
    "audiomute",
    "volumeup",
    "volumedown",
    "mediaselect",
    "mail",
    "calculator",
    "computer",
    "ac_home",
    "ac_back",
    "ac_forward",
    "ac_refresh",
    "ac_bookmarks",
    "muhenkan",
    "katakanahiragana",
    "lang1",
    "lang2",
    "f13",  # since 8.0
    "f14",  # since 8.0
    "f15",  # since 8.0
    "f16",  # since 8.0
    "f17",  # since 8.0
    "f18",  # since 8.0
    "f19",  # since 8.0
    "f20",  # since 8.0
    "f21",  # since 8.0
    "f22",  # since 8.0
    "f23",  # since 8.0
    "f24",  # since 8.0
    "shift",
    "shift_r",
    "alt",
    "alt_r",
    "ctrl",
    "ctrl_r",
    "menu",
    "esc",
    "1",
    "2",
    "3",
    "4",
    "5",
    "6",
    "7",
    "8",
    "9",
    "0",
    "minus",
    "equal",
    "backspace",
    "tab",
    "q",
    "w",
    "e",
    "r",
    "t",
    "y",
    "u",
    "i",
    "o",
    "p",
    "bracket_left",
    "bracket_right",
    "ret",
    "a",
    "s",
    "d",
    "f",
    "g",
    "h",
    "j",
    "k",
    "l",
    "semicolon",
    "apostrophe",
    "grave_accent",
    "backslash",
    "z",
    "x",
    "c",
    "v",
    "b",
    "n",
    "m",
    "comma",
    "dot",
    "slash",
    "asterisk",
    "spc",
    "caps_lock",
    "f1",
    "f2",
    "f3",
    "f4",
    "f5",
    "f6",
    "f7",
    "f8",
    "f9",
    "f10",
    "num_lock",
    "scroll_lock",
    "kp_divide",
    "kp_multiply",
    "kp_subtract",
    "kp_add",
    "kp_enter",
    "kp_decimal",
    "sysrq",
    "kp_0",
    "kp_1",
    "kp_2",
    "kp_3",
    "kp_4",
    "kp_5",
    "kp_6",
    "kp_7",
    "kp_8",
    "kp_9",
    "less",
    "f11",
    "f12",
    "print",
    "home",
    "pgup",
    "pgdn",
    "end",
    "left",
    "up",
    "down",
    "right",
    "insert",
    "delete",
    "stop",
    "again",
    "props",
    "undo",
    "front",
    "copy",
    "open",
    "paste",
    "find",
    "cut",
    "lf",
    "help",
    "meta_l",
    "meta_r",
    "compose",
]

#: Enumeration `SetPasswordAction`, since 7.0.
SetPasswordAction = Literal["keep", "fail", "disconnect"]

#: Enumeration `SpiceQueryMouseMode`, since 1.1. Needs CONFIG_SPICE.
SpiceQueryMouseMode = Literal["client", "server", "unknown"]

#: Enumeration `VncPrimaryAuth`, since 2.3. Needs CONFIG_VNC.
VncPrimaryAuth = Literal["none", "vnc", "ra2", "ra2ne", "tight", "ultra", "tls", "vencrypt", "sasl"]

#: Enumeration `VncVencryptSubAuth`, since 2.3. Needs CONFIG_VNC.
VncVencryptSubAuth = Literal[
    "plain",
    "tls-none",
    "x509-none",
    "tls-vnc",
    "x509-vnc",
    "tls-plain",
    "x509-plain",
    "tls-sasl",
    "x509-sasl",
]


class DisplayOptions(
    Union,
    tag="type",
    branches={
        "gtk": "DisplayGTK",
        "cocoa": "DisplayCocoa",
        "curses": "DisplayCurses",
        "egl-headless": "DisplayEGLHeadless",
        "dbus": "DisplayDBus",
        "sdl": "DisplaySDL",
    },
):
    """Union `DisplayOptions`, since 2.12."""

    type: DisplayType
    full_screen: bool | None = None
    window_close: bool | None = None
    show_cursor: bool | None = None
    gl: DisplayGLMode | None = None


class DisplayGTK(DisplayOptions):
    """Struct `DisplayGTK`, since 2.12. Branch of `DisplayOptions` where `type` is `gtk`."""

    type: Literal["gtk"] = "gtk"
    clipboard: bool | None = None  # since 11.1
    grab_on_hover: bool | None = None
    zoom_to_fit: bool | None = None
    show_tabs: bool | None = None
    show_menubar: bool | None = None
    keep_aspect_ratio: bool | None = None  # since 10.1
    scale: float | None = None  # since 10.1


class DisplayCurses(DisplayOptions):
    """Struct `DisplayCurses`, since 4.0. Branch of `DisplayOptions` where `type` is `curses`."""

    type: Literal["curses"] = "curses"
    charset: str | None = None


class DisplayEGLHeadless(DisplayOptions):
    """Struct `DisplayEGLHeadless`, since 3.1. Branch of `DisplayOptions` where `type` is `egl-headless`."""

    type: Literal["egl-headless"] = "egl-headless"
    rendernode: str | None = None


class DisplayDBus(DisplayOptions):
    """Struct `DisplayDBus`, since 7.0. Branch of `DisplayOptions` where `type` is `dbus`."""

    type: Literal["dbus"] = "dbus"
    addr: str | None = None
    rendernode: str | None = None
    p2p: bool | None = None
    audiodev: str | None = None


class DisplaySDL(DisplayOptions):
    """Struct `DisplaySDL`, since 7.1. Branch of `DisplayOptions` where `type` is `sdl`."""

    type: Literal["sdl"] = "sdl"
    grab_mod: HotKeyMod | None = None


class DisplayCocoa(DisplayOptions):
    """Struct `DisplayCocoa`, since 7.0. Branch of `DisplayOptions` where `type` is `cocoa`."""

    type: Literal["cocoa"] = "cocoa"
    left_command_key: bool | None = None
    full_grab: bool | None = None
    swap_opt_cmd: bool | None = None
    zoom_to_fit: bool | None = None  # since 8.2
    zoom_interpolation: bool | None = None  # since 9.0


class DisplayReloadOptions(Union, tag="type", branches={"vnc": "DisplayReloadOptionsVNC"}):
    """Union `DisplayReloadOptions`, since 6.0."""

    type: DisplayReloadType


class DisplayReloadOptionsVNC(DisplayReloadOptions):
    """Struct `DisplayReloadOptionsVNC`, since 6.0. Branch of `DisplayReloadOptions` where `type` is `vnc`."""

    type: Literal["vnc"] = "vnc"
    tls_certs: bool | None = None


class DisplayUpdateOptions(Union, tag="type", branches={"vnc": "DisplayUpdateOptionsVNC"}):
    """Union `DisplayUpdateOptions`, since 7.1."""

    type: DisplayUpdateType


class DisplayUpdateOptionsVNC(DisplayUpdateOptions):
    """Struct `DisplayUpdateOptionsVNC`, since 7.1. Branch of `DisplayUpdateOptions` where `type` is `vnc`."""

    type: Literal["vnc"] = "vnc"
    addresses: list[SocketAddress] | None = None


class ExpirePasswordOptions(Union, tag="protocol", branches={"vnc": "ExpirePasswordOptionsVnc"}):
    """Union `ExpirePasswordOptions`, since 7.0."""

    protocol: DisplayProtocol
    time: str


class ExpirePasswordOptionsVnc(ExpirePasswordOptions):
    """Struct `ExpirePasswordOptionsVnc`, since 7.0. Branch of `ExpirePasswordOptions` where `protocol` is `vnc`."""

    protocol: Literal["vnc"] = "vnc"
    display: str | None = None


class InputBtnEvent(Struct):
    """Struct `InputBtnEvent`, since 2.0."""

    button: InputButton
    down: bool


class InputEvent(
    Union,
    tag="type",
    branches={
        "key": "InputKeyEventWrapper",
        "btn": "InputBtnEventWrapper",
        "rel": "InputMoveEventWrapper",
        "abs": "InputMoveEventWrapper",
        "mtt": "InputMultiTouchEventWrapper",
    },
):
    """Union `InputEvent`, since 2.0."""

    type: InputEventKind


class InputKeyEventWrapper(InputEvent):
    """Struct `InputKeyEventWrapper`, since 2.0. Branch of `InputEvent` where `type` is `key`."""

    type: Literal["key"] = "key"
    data: InputKeyEvent


class InputMoveEventWrapper(InputEvent):
    """Struct `InputMoveEventWrapper`, since 2.0. Branch of `InputEvent` where `type` is `rel` or `abs`."""

    type: Literal["rel", "abs"]
    data: InputMoveEvent


class InputMultiTouchEventWrapper(InputEvent):
    """Struct `InputMultiTouchEventWrapper`, since 8.1. Branch of `InputEvent` where `type` is `mtt`."""

    type: Literal["mtt"] = "mtt"
    data: InputMultiTouchEvent


class InputBtnEventWrapper(InputEvent):
    """Struct `InputBtnEventWrapper`, since 2.0. Branch of `InputEvent` where `type` is `btn`."""

    type: Literal["btn"] = "btn"
    data: InputBtnEvent


class InputKeyEvent(Struct):
    """Struct `InputKeyEvent`, since 2.0."""

    key: KeyValue
    down: bool


class InputMoveEvent(Struct):
    """Struct `InputMoveEvent`, since 2.0."""

    axis: InputAxis
    value: int


class InputMultiTouchEvent(Struct):
    """Struct `InputMultiTouchEvent`, since 8.1."""

    type: InputMultiTouchType
    slot: int
    tracking_id: int
    axis: InputAxis
    value: int


class KeyValue(Union, tag="type", branches={"number": "IntWrapper", "qcode": "QKeyCodeWrapper"}):
    """Union `KeyValue`, since 1.3."""

    type: KeyValueKind


class QKeyCodeWrapper(KeyValue):
    """Struct `QKeyCodeWrapper`, since 1.3. Branch of `KeyValue` where `type` is `qcode`."""

    type: Literal["qcode"] = "qcode"
    data: QKeyCode


class IntWrapper(KeyValue):
    """Struct `IntWrapper`, since 1.3. Branch of `KeyValue` where `type` is `number`."""

    type: Literal["number"] = "number"
    data: int


class MouseInfo(Struct):
    """Struct `MouseInfo`, since 0.14."""

    name: str
    index: int
    current: bool
    absolute: bool


class SetPasswordOptions(Union, tag="protocol", branches={"vnc": "SetPasswordOptionsVnc"}):
    """Union `SetPasswordOptions`, since 7.0."""

    protocol: DisplayProtocol
    password: str
    connected: SetPasswordAction | None = None


class SetPasswordOptionsVnc(SetPasswordOptions):
    """Struct `SetPasswordOptionsVnc`, since 7.0. Branch of `SetPasswordOptions` where `protocol` is `vnc`."""

    protocol: Literal["vnc"] = "vnc"
    display: str | None = None


class SpiceBasicInfo(Struct):
    """Struct `SpiceBasicInfo`, since 2.1. Needs CONFIG_SPICE."""

    host: str
    port: str
    family: NetworkAddressFamily


class SpiceChannel(SpiceBasicInfo):
    """Struct `SpiceChannel`, since 0.14. Needs CONFIG_SPICE."""

    connection_id: int
    channel_type: int
    channel_id: int
    tls: bool


class SpiceInfo(Struct):
    """Struct `SpiceInfo`, since 0.14. Needs CONFIG_SPICE."""

    enabled: bool
    migrated: bool
    host: str | None = None
    port: int | None = None
    compiled_version: str | None = None
    tls_port: int | None = None
    auth: str | None = None
    mouse_mode: SpiceQueryMouseMode
    channels: list[SpiceChannel] | None = None


class SpiceServerInfo(SpiceBasicInfo):
    """Struct `SpiceServerInfo`, since 2.1. Needs CONFIG_SPICE."""

    auth: str | None = None


class VncBasicInfo(Struct):
    """Struct `VncBasicInfo`, since 2.1. Needs CONFIG_VNC."""

    host: str
    service: str
    family: NetworkAddressFamily
    websocket: bool


class VncClientInfo(VncBasicInfo):
    """Struct `VncClientInfo`, since 0.14. Needs CONFIG_VNC."""

    x509_dname: str | None = wire("x509_dname", default=None)
    sasl_username: str | None = wire("sasl_username", default=None)


class VncInfo(Struct):
    """Struct `VncInfo`, since 0.14. Needs CONFIG_VNC."""

    enabled: bool
    host: str | None = None
    family: NetworkAddressFamily | None = None
    service: str | None = None
    auth: str | None = None
    clients: list[VncClientInfo] | None = None


class VncInfo2(Struct):
    """Struct `VncInfo2`, since 2.3. Needs CONFIG_VNC."""

    id: str
    server: list[VncServerInfo2]
    clients: list[VncClientInfo]
    auth: VncPrimaryAuth
    vencrypt: VncVencryptSubAuth | None = None
    display: str | None = None


class VncServerInfo(VncBasicInfo):
    """Struct `VncServerInfo`, since 2.1. Needs CONFIG_VNC."""

    auth: str | None = None


class VncServerInfo2(VncBasicInfo):
    """Struct `VncServerInfo2`, since 2.9. Needs CONFIG_VNC."""

    auth: VncPrimaryAuth
    vencrypt: VncVencryptSubAuth | None = None


class SpiceConnectedEvent(Event, wire_name="SPICE_CONNECTED"):
    """Event `SPICE_CONNECTED`, since 0.14. Needs CONFIG_SPICE."""

    server: SpiceBasicInfo
    client: SpiceBasicInfo


class SpiceDisconnectedEvent(Event, wire_name="SPICE_DISCONNECTED"):
    """Event `SPICE_DISCONNECTED`, since 0.14. Needs CONFIG_SPICE."""

    server: SpiceBasicInfo
    client: SpiceBasicInfo


class SpiceInitializedEvent(Event, wire_name="SPICE_INITIALIZED"):
    """Event `SPICE_INITIALIZED`, since 0.14. Needs CONFIG_SPICE."""

    server: SpiceServerInfo
    client: SpiceChannel


class SpiceMigrateCompletedEvent(Event, wire_name="SPICE_MIGRATE_COMPLETED"):
    """Event `SPICE_MIGRATE_COMPLETED`, since 1.3. Needs CONFIG_SPICE."""


class VncConnectedEvent(Event, wire_name="VNC_CONNECTED"):
    """Event `VNC_CONNECTED`, since 0.13. Needs CONFIG_VNC."""

    server: VncServerInfo
    client: VncBasicInfo


class VncDisconnectedEvent(Event, wire_name="VNC_DISCONNECTED"):
    """Event `VNC_DISCONNECTED`, since 0.13. Needs CONFIG_VNC."""

    server: VncServerInfo
    client: VncClientInfo


class VncInitializedEvent(Event, wire_name="VNC_INITIALIZED"):
    """Event `VNC_INITIALIZED`, since 0.13. Needs CONFIG_VNC."""

    server: VncServerInfo
    client: VncClientInfo


class ChangeVncPassword(Command[None], wire_name="change-vnc-password"):
    """Command `change-vnc-password`, since 1.1. Needs CONFIG_VNC."""

    password: str


class ClientMigrateInfo(Command[None], wire_name="client_migrate_info"):
    """Command `client_migrate_info`, since 0.14."""

    protocol: str
    hostname: str
    port: int | None = None
    tls_port: int | None = None
    cert_subject: str | None = None


class DisplayReload(Command[None], wire_name="display-reload", whole_argument="arguments", kw_only=False):
    """Command `display-reload`, since 6.0."""

    arguments: DisplayReloadOptions


class DisplayUpdate(Command[None], wire_name="display-update", whole_argument="arguments", kw_only=False):
    """Command `display-update`, since 7.1."""

    arguments: DisplayUpdateOptions


class ExpirePassword(Command[None], wire_name="expire_password", whole_argument="arguments", kw_only=False):
    """Command `expire_password`, since 0.14."""

    arguments: ExpirePasswordOptions


class InputSendEvent(Command[None], wire_name="input-send-event"):
    """Command `input-send-event`, since 2.6."""

    device: str | None = None
    head: int | None = None
    events: list[InputEvent]


class QueryDisplayOptions(Command["DisplayOptions"], wire_name="query-display-options"):
    """Command `query-display-options`, since 3.1. Returns `DisplayOptions`."""


class QueryMice(Command["list[MouseInfo]"], wire_name="query-mice"):
    """Command `query-mice`, since 0.14. Returns a list of `MouseInfo`."""


class QuerySpice(Command["SpiceInfo"], wire_name="query-spice"):
    """Command `query-spice`, since 0.14. Needs CONFIG_SPICE. Returns `SpiceInfo`."""


class QueryVnc(Command["VncInfo"], wire_name="query-vnc"):
    """Command `query-vnc`, since 0.14. Needs CONFIG_VNC. Returns `VncInfo`."""


class QueryVncServers(Command["list[VncInfo2]"], wire_name="query-vnc-servers"):
    """Command `query-vnc-servers`, since 2.3. Needs CONFIG_VNC. Returns a list of `VncInfo2`."""


class Screendump(Command[None], wire_name="screendump"):
    """Command `screendump`, since 0.14. Needs CONFIG_PIXMAN."""

    filename: str
    device: str | None = None
    head: int | None = None
    format: ImageFormat | None = None


class SendKey(Command[None], wire_name="send-key"):
    """Command `send-key`, since 1.3."""

    keys: list[KeyValue]
    hold_time: int | None = None


class SetPassword(Command[None], wire_name="set_password", whole_argument="arguments", kw_only=False):
    """Command `set_password`, since 0.14."""

    arguments: SetPasswordOptions
