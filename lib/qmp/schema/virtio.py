# SPDX-License-Identifier: BSD-2-Clause
"""QAPI module `virtio`. Made by `make schema`: do not edit.

None means that a member is absent. Versions are those of QEMU; known are 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

from hvkit.qmp.base import Command, Struct


class VhostDeviceProtocols(Struct):
    """Struct `VhostDeviceProtocols`, since 7.2."""

    protocols: list[str]
    unknown_protocols: int | None = None


class VhostStatus(Struct):
    """Struct `VhostStatus`, since 7.2."""

    n_mem_sections: int
    n_tmp_sections: int
    nvqs: int
    vq_index: int
    features: VirtioDeviceFeatures
    acked_features: VirtioDeviceFeatures
    protocol_features: VhostDeviceProtocols
    max_queues: int
    backend_cap: int
    log_enabled: bool
    log_size: int
    backend_features: VirtioDeviceFeatures | None = None  # until 10.0


class VirtQueueStatus(Struct):
    """Struct `VirtQueueStatus`, since 7.2."""

    name: str
    queue_index: int
    inuse: int
    vring_num: int
    vring_num_default: int
    vring_align: int
    vring_desc: int
    vring_avail: int
    vring_used: int
    last_avail_idx: int | None = None
    shadow_avail_idx: int | None = None
    used_idx: int
    signalled_used: int
    signalled_used_valid: bool


class VirtVhostQueueStatus(Struct):
    """Struct `VirtVhostQueueStatus`, since 7.2."""

    name: str
    kick: int
    call: int
    num: int
    desc_phys: int
    desc_size: int
    avail_phys: int
    avail_size: int
    used_phys: int
    used_size: int
    desc: int | None = None  # until 10.0
    avail: int | None = None  # until 10.0
    used: int | None = None  # until 10.0


class VirtioDeviceFeatures(Struct):
    """Struct `VirtioDeviceFeatures`, since 7.2."""

    transports: list[str]
    dev_features: list[str] | None = None
    unknown_dev_features: int | None = None
    unknown_dev_features2: int | None = None  # since 10.2


class VirtioDeviceStatus(Struct):
    """Struct `VirtioDeviceStatus`, since 7.2."""

    statuses: list[str]
    unknown_statuses: int | None = None


class VirtioInfo(Struct):
    """Struct `VirtioInfo`, since 7.2."""

    path: str
    name: str


class VirtioQueueElement(Struct):
    """Struct `VirtioQueueElement`, since 7.2."""

    name: str
    index: int
    descs: list[VirtioRingDesc]
    avail: VirtioRingAvail
    used: VirtioRingUsed


class VirtioRingAvail(Struct):
    """Struct `VirtioRingAvail`, since 7.2."""

    flags: int
    idx: int
    ring: int


class VirtioRingDesc(Struct):
    """Struct `VirtioRingDesc`, since 7.2."""

    addr: int
    len: int
    flags: list[str]


class VirtioRingUsed(Struct):
    """Struct `VirtioRingUsed`, since 7.2."""

    flags: int
    idx: int


class VirtioStatus(Struct):
    """Struct `VirtioStatus`, since 7.2."""

    name: str
    device_id: int
    vhost_started: bool
    guest_features: VirtioDeviceFeatures
    host_features: VirtioDeviceFeatures
    backend_features: VirtioDeviceFeatures
    device_endian: str
    num_vqs: int
    status: VirtioDeviceStatus
    isr: int
    queue_sel: int
    vm_running: bool
    broken: bool
    disabled: bool
    use_started: bool
    started: bool
    start_on_kick: bool
    disable_legacy_check: bool
    bus_name: str
    use_guest_notifier_mask: bool
    vhost_dev: VhostStatus | None = None


class XQueryVirtio(Command["list[VirtioInfo]"], wire_name="x-query-virtio"):
    """Command `x-query-virtio`, since 7.2. Unstable. Returns a list of `VirtioInfo`."""


class XQueryVirtioQueueElement(Command["VirtioQueueElement"], wire_name="x-query-virtio-queue-element"):
    """Command `x-query-virtio-queue-element`, since 7.2. Unstable. Returns `VirtioQueueElement`."""

    path: str
    queue: int
    index: int | None = None


class XQueryVirtioQueueStatus(Command["VirtQueueStatus"], wire_name="x-query-virtio-queue-status"):
    """Command `x-query-virtio-queue-status`, since 7.2. Unstable. Returns `VirtQueueStatus`."""

    path: str
    queue: int


class XQueryVirtioStatus(Command["VirtioStatus"], wire_name="x-query-virtio-status"):
    """Command `x-query-virtio-status`, since 7.2. Unstable. Returns `VirtioStatus`."""

    path: str


class XQueryVirtioVhostQueueStatus(Command["VirtVhostQueueStatus"], wire_name="x-query-virtio-vhost-queue-status"):
    """Command `x-query-virtio-vhost-queue-status`, since 7.2. Unstable. Returns `VirtVhostQueueStatus`."""

    path: str
    queue: int
