# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `misc-i386`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from typing import Literal

from hvkit.qmp.base import Command, Struct, Union

#: Enumeration `EvtchnPortType`, since 8.0.
EvtchnPortType = Literal["closed", "unbound", "interdomain", "pirq", "virq", "ipi"]

#: Enumeration `SevGuestType`, 10.0 and later.
SevGuestType = Literal["sev", "sev-snp"]

#: Enumeration `SevState`, since 2.12.
SevState = Literal["uninit", "launch-update", "launch-secret", "running", "send-update", "receive-update"]


class EvtchnInfo(Struct):
    """Struct `EvtchnInfo`, since 8.0."""

    port: int
    vcpu: int
    type: EvtchnPortType
    remote_domain: str
    target: int
    pending: bool
    masked: bool


class SevAttestationReport(Struct):
    """Struct `SevAttestationReport`, since 6.1."""

    data: str


class SevCapability(Struct):
    """Struct `SevCapability`, since 2.12."""

    pdh: str
    cert_chain: str
    cpu0_id: str
    cbitpos: int
    reduced_phys_bits: int


class SevInfo(Union, tag="sev-type", branches={"sev": "SevGuestInfo", "sev-snp": "SevSnpGuestInfo"}):
    """Union `SevInfo`, since 2.12."""

    enabled: bool
    api_major: int
    api_minor: int
    build_id: int
    state: SevState
    sev_type: SevGuestType | None = None  # 10.0 and later
    policy: int | None = None  # 7.2 only
    handle: int | None = None  # 7.2 only


class SevSnpGuestInfo(SevInfo):
    """Struct `SevSnpGuestInfo`, since 9.1. Branch of `SevInfo` where `sev-type` is `sev-snp`."""

    sev_type: Literal["sev-snp"] = "sev-snp"
    snp_policy: int


class SevGuestInfo(SevInfo):
    """Struct `SevGuestInfo`, 10.0 and later. Branch of `SevInfo` where `sev-type` is `sev`."""

    sev_type: Literal["sev"] = "sev"


class SevLaunchMeasureInfo(Struct):
    """Struct `SevLaunchMeasureInfo`, since 2.12."""

    data: str


class SgxEpcSection(Struct):
    """Struct `SgxEpcSection`, 11.1 and later. Until 10.0 `SGXEPCSection` stood in its place."""

    node: int
    size: int


class SgxInfo(Struct):
    """Struct `SgxInfo`, 11.1 and later. Until 10.0 `SGXInfo` stood in its place."""

    sgx: bool
    sgx1: bool
    sgx2: bool
    flc: bool
    sections: list[SgxEpcSection]
    section_size: int | None = None  # 7.2 only, deprecated


class QuerySev(Command["SevInfo"], wire_name="query-sev"):
    """Command `query-sev`, since 2.12. Returns `SevInfo`."""


class QuerySevAttestationReport(Command["SevAttestationReport"], wire_name="query-sev-attestation-report"):
    """Command `query-sev-attestation-report`, since 6.1. Returns `SevAttestationReport`."""

    mnonce: str


class QuerySevCapabilities(Command["SevCapability"], wire_name="query-sev-capabilities"):
    """Command `query-sev-capabilities`, since 2.12. Returns `SevCapability`."""


class QuerySevLaunchMeasure(Command["SevLaunchMeasureInfo"], wire_name="query-sev-launch-measure"):
    """Command `query-sev-launch-measure`, since 2.12. Returns `SevLaunchMeasureInfo`."""


class QuerySgx(Command["SgxInfo"], wire_name="query-sgx"):
    """Command `query-sgx`, since 6.2. Returns `SgxInfo`."""


class QuerySgxCapabilities(Command["SgxInfo"], wire_name="query-sgx-capabilities"):
    """Command `query-sgx-capabilities`, since 6.2. Returns `SgxInfo`."""


class RtcResetReinjection(Command[None], wire_name="rtc-reset-reinjection"):
    """Command `rtc-reset-reinjection`, since 2.1."""


class SevInjectLaunchSecret(Command[None], wire_name="sev-inject-launch-secret"):
    """Command `sev-inject-launch-secret`, since 6.0."""

    packet_header: str
    secret: str
    gpa: int | None = None


class XenEventInject(Command[None], wire_name="xen-event-inject"):
    """Command `xen-event-inject`, since 8.0."""

    port: int


class XenEventList(Command["list[EvtchnInfo]"], wire_name="xen-event-list"):
    """Command `xen-event-list`, since 8.0. Returns a list of `EvtchnInfo`."""
