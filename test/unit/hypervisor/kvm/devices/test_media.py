# SPDX-License-Identifier: BSD-2-Clause
"""Changes of media in the drives of a simulated QEMU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hvkit.hypervisor import Instance, MediaDrive
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.qmp.schema import QueryBlock

MakeInstance = Callable[..., Instance]


def inserted(kvm: KvmHypervisor) -> str:
    with kvm.monitor("web1") as monitor:
        (block,) = monitor.execute(QueryBlock())
    return "" if block.inserted is None else block.inserted.file


@pytest.mark.parametrize("kind", ["ide", "scsi-cd"])
def test_medium_change_and_eject_update_drive_and_state_file(
    kvm: KvmHypervisor, make_simulated: Callable[..., MakeInstance], tmp_path: Path, kind: str
) -> None:
    images = [str(tmp_path / name) for name in ("first.iso", "second.iso")]
    for image in images:
        Path(image).write_bytes(bytes(4096))
    parameters = {"cdrom_image_path": "empty", "cdrom_disk_type": kind, "scsi_controller_type": "virtio-scsi-pci"}
    kvm.start_instance(make_simulated()(parameters=parameters))
    assert inserted(kvm) == ""
    for image in (*images, images[0]):
        kvm.change_medium("web1", MediaDrive.CDROM, image)
        assert inserted(kvm) == image
    kvm.eject_medium("web1", MediaDrive.CDROM)
    assert inserted(kvm) == ""
