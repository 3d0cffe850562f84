# SPDX-License-Identifier: BSD-2-Clause
"""Descriptions of backups and of disk copies during a migration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import attrs

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.model.checks import field_name, is_absolute_path

_CHECKPOINT: Final = re.compile(r"[A-Za-z0-9._-]{1,200}")


def _require_checkpoint(owner: object, field: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or (value and not _CHECKPOINT.fullmatch(value)):
        problem = f"expected at most 200 letters, digits, '.', '_' and '-', got {value!r}"
        raise ParameterError(field_name(owner, field), value, problem)


def _require_files(owner: object, field: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, Mapping):
        raise ParameterError(field_name(owner, field), value, f"expected paths by uuid, got {value!r}")
    for uuid, path in value.items():
        if not isinstance(uuid, UUID) or not is_absolute_path(path):
            problem = f"expected the uuid of a disk and an absolute path, got {uuid!r}: {path!r}"
            raise ParameterError(field_name(owner, field), value, problem)


@attrs.frozen(kw_only=True)
class Backup:
    """A backup of disks, all at the same moment.

    Attributes:
        files: for each disk, by uuid, the path of the qcow2 file to create.
        checkpoint: the name of a checkpoint to create, as the base of a later incremental backup; empty: none.
        since: the checkpoint on which an incremental backup is based: only data that was written since is copied.
            Empty: a full backup.
        bases: for disks of an incremental backup, by uuid, the file of the previous backup. It becomes the backing
            file of the new one, so that both together read as the whole disk.
        freezes: whether to freeze the guest's filesystems at that moment; needs the guest agent.
        bytes_per_s: the maximum rate of copying, in bytes per second; 0: unlimited.

    Raises:
        ParameterError: by the constructor, if a member is invalid or contradicts another one.
    """

    files: Mapping[UUID, str] = attrs.field(validator=_require_files)
    checkpoint: str = attrs.field(default="", validator=_require_checkpoint)
    since: str = attrs.field(default="", validator=_require_checkpoint)
    bases: Mapping[UUID, str] = attrs.field(factory=dict, validator=_require_files)
    freezes: bool = False
    bytes_per_s: int = 0

    def __attrs_post_init__(self) -> None:
        if not self.files:
            raise ParameterError("Backup.files", self.files, "must contain at least one disk")
        if len(set(self.files.values())) < len(self.files):
            raise ParameterError("Backup.files", self.files, "two disks have the same file")
        if self.bases and not self.since:
            raise ParameterError("Backup.bases", self.bases, "only used with since: a full backup has no base")


@attrs.frozen(kw_only=True)
class DiskCopies:
    """Disks that are copied to the destination of a migration, because the nodes do not share storage.

    Attributes:
        target: the address at which the destination accepts the data: ``host:port``, or the path of a unix socket.
        disks: uuids of the disks; empty: all that the guest can write to.
    """

    target: str
    disks: tuple[UUID, ...] = ()
