# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `audio`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import Literal

from hvkit.qmp.base import Command, Struct, Union

#: Enumeration `AudioFormat`, since 4.0.
AudioFormat = Literal["u8", "s8", "u16", "s16", "u32", "s32", "f32"]

#: Enumeration `AudiodevDriver`, since 4.0.
AudiodevDriver = Literal[
    "jack",
    "none",
    "alsa",
    "coreaudio",
    "dbus",
    "dsound",
    "oss",
    "pa",
    "pipewire",  # 10.0 and later
    "sdl",
    "sndio",
    "spice",
    "wav",
]


class Audiodev(
    Union,
    tag="driver",
    branches={
        "none": "AudiodevGenericOptions",
        "alsa": "AudiodevAlsaOptions",
        "coreaudio": "AudiodevCoreaudioOptions",
        "dbus": "AudiodevDBusOptions",
        "dsound": "AudiodevDsoundOptions",
        "jack": "AudiodevJackOptions",
        "oss": "AudiodevOssOptions",
        "pa": "AudiodevPaOptions",
        "pipewire": "AudiodevPipewireOptions",
        "sdl": "AudiodevSdlOptions",
        "sndio": "AudiodevSndioOptions",
        "spice": "AudiodevGenericOptions",
        "wav": "AudiodevWavOptions",
    },
):
    """Union `Audiodev`, since 4.0."""

    id: str
    driver: AudiodevDriver
    timer_period: int | None = None


class AudiodevGenericOptions(Audiodev):
    """Struct `AudiodevGenericOptions`, since 4.0. Branch of `Audiodev` where `driver` is `none` or `spice`."""

    driver: Literal["none", "spice"]
    in_: AudiodevPerDirectionOptions | None = None
    out: AudiodevPerDirectionOptions | None = None


class AudiodevAlsaOptions(Audiodev):
    """Struct `AudiodevAlsaOptions`, since 4.0. Branch of `Audiodev` where `driver` is `alsa`."""

    driver: Literal["alsa"] = "alsa"
    in_: AudiodevAlsaPerDirectionOptions | None = None
    out: AudiodevAlsaPerDirectionOptions | None = None
    threshold: int | None = None


class AudiodevCoreaudioOptions(Audiodev):
    """Struct `AudiodevCoreaudioOptions`, since 4.0. Branch of `Audiodev` where `driver` is `coreaudio`."""

    driver: Literal["coreaudio"] = "coreaudio"
    in_: AudiodevCoreaudioPerDirectionOptions | None = None
    out: AudiodevCoreaudioPerDirectionOptions | None = None


class AudiodevDBusOptions(Audiodev):
    """Struct `AudiodevDBusOptions`, since 10.0. Until 7.2 `AudiodevGenericOptions` stood in its place. Branch of
    `Audiodev` where `driver` is `dbus`.
    """

    driver: Literal["dbus"] = "dbus"
    in_: AudiodevPerDirectionOptions | None = None
    out: AudiodevPerDirectionOptions | None = None
    nsamples: int | None = None  # 10.0 and later


class AudiodevDsoundOptions(Audiodev):
    """Struct `AudiodevDsoundOptions`, since 4.0. Branch of `Audiodev` where `driver` is `dsound`."""

    driver: Literal["dsound"] = "dsound"
    in_: AudiodevPerDirectionOptions | None = None
    out: AudiodevPerDirectionOptions | None = None
    latency: int | None = None


class AudiodevJackOptions(Audiodev):
    """Struct `AudiodevJackOptions`, since 5.1. Branch of `Audiodev` where `driver` is `jack`."""

    driver: Literal["jack"] = "jack"
    in_: AudiodevJackPerDirectionOptions | None = None
    out: AudiodevJackPerDirectionOptions | None = None


class AudiodevOssOptions(Audiodev):
    """Struct `AudiodevOssOptions`, since 4.0. Branch of `Audiodev` where `driver` is `oss`."""

    driver: Literal["oss"] = "oss"
    in_: AudiodevOssPerDirectionOptions | None = None
    out: AudiodevOssPerDirectionOptions | None = None
    try_mmap: bool | None = None
    exclusive: bool | None = None
    dsp_policy: int | None = None


class AudiodevPaOptions(Audiodev):
    """Struct `AudiodevPaOptions`, since 4.0. Branch of `Audiodev` where `driver` is `pa`."""

    driver: Literal["pa"] = "pa"
    in_: AudiodevPaPerDirectionOptions | None = None
    out: AudiodevPaPerDirectionOptions | None = None
    server: str | None = None


class AudiodevPipewireOptions(Audiodev):
    """Struct `AudiodevPipewireOptions`, since 8.1. Branch of `Audiodev` where `driver` is `pipewire`."""

    driver: Literal["pipewire"] = "pipewire"
    in_: AudiodevPipewirePerDirectionOptions | None = None
    out: AudiodevPipewirePerDirectionOptions | None = None


class AudiodevSdlOptions(Audiodev):
    """Struct `AudiodevSdlOptions`, since 6.0. Branch of `Audiodev` where `driver` is `sdl`."""

    driver: Literal["sdl"] = "sdl"
    in_: AudiodevSdlPerDirectionOptions | None = None
    out: AudiodevSdlPerDirectionOptions | None = None


class AudiodevSndioOptions(Audiodev):
    """Struct `AudiodevSndioOptions`, since 7.2. Branch of `Audiodev` where `driver` is `sndio`."""

    driver: Literal["sndio"] = "sndio"
    in_: AudiodevPerDirectionOptions | None = None
    out: AudiodevPerDirectionOptions | None = None
    dev: str | None = None
    latency: int | None = None


class AudiodevWavOptions(Audiodev):
    """Struct `AudiodevWavOptions`, since 4.0. Branch of `Audiodev` where `driver` is `wav`."""

    driver: Literal["wav"] = "wav"
    in_: AudiodevPerDirectionOptions | None = None
    out: AudiodevPerDirectionOptions | None = None
    path: str | None = None


class AudiodevPerDirectionOptions(Struct):
    """Struct `AudiodevPerDirectionOptions`, since 4.0."""

    mixing_engine: bool | None = None
    fixed_settings: bool | None = None
    frequency: int | None = None
    channels: int | None = None
    voices: int | None = None
    format: AudioFormat | None = None
    buffer_length: int | None = None


class AudiodevAlsaPerDirectionOptions(AudiodevPerDirectionOptions):
    """Struct `AudiodevAlsaPerDirectionOptions`, since 4.0."""

    dev: str | None = None
    period_length: int | None = None
    try_poll: bool | None = None


class AudiodevCoreaudioPerDirectionOptions(AudiodevPerDirectionOptions):
    """Struct `AudiodevCoreaudioPerDirectionOptions`, since 4.0."""

    buffer_count: int | None = None


class AudiodevJackPerDirectionOptions(AudiodevPerDirectionOptions):
    """Struct `AudiodevJackPerDirectionOptions`, since 5.1."""

    server_name: str | None = None
    client_name: str | None = None
    connect_ports: str | None = None
    start_server: bool | None = None
    exact_name: bool | None = None


class AudiodevOssPerDirectionOptions(AudiodevPerDirectionOptions):
    """Struct `AudiodevOssPerDirectionOptions`, since 4.0."""

    dev: str | None = None
    buffer_count: int | None = None
    try_poll: bool | None = None


class AudiodevPaPerDirectionOptions(AudiodevPerDirectionOptions):
    """Struct `AudiodevPaPerDirectionOptions`, since 4.0."""

    name: str | None = None
    stream_name: str | None = None
    latency: int | None = None


class AudiodevPipewirePerDirectionOptions(AudiodevPerDirectionOptions):
    """Struct `AudiodevPipewirePerDirectionOptions`, since 8.1."""

    name: str | None = None
    stream_name: str | None = None
    latency: int | None = None


class AudiodevSdlPerDirectionOptions(AudiodevPerDirectionOptions):
    """Struct `AudiodevSdlPerDirectionOptions`, since 6.0."""

    buffer_count: int | None = None


class QueryAudiodevs(Command["list[Audiodev]"], wire_name="query-audiodevs"):
    """Command `query-audiodevs`, since 8.0. Returns a list of `Audiodev`."""
