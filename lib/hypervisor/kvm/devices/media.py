# SPDX-License-Identifier: BSD-2-Clause
"""The media in the CD and floppy drives of running instances.

The new medium is opened, under a new node name, before the old one is removed. The change is persisted before the first
command is sent to QEMU. After a crash in between, the drive contains the old medium, the new one or none. The next
change of a medium inserts one of them into an empty drive that should have one, and updates the state file.
"""

import contextlib
import itertools
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Final

import attrs

from hvkit.errors import HypervisorError, ProgrammerError
from hvkit.hypervisor.errors import HotplugCause, ParameterError
from hvkit.hypervisor.kvm.devices.session import (
    HotplugSession,
    hotplug_session,
    is_outcome_unknown,
    wait_for_event,
)
from hvkit.hypervisor.kvm.host.disks import open_file
from hvkit.hypervisor.kvm.host.parameter_checks import NODE_TABLE
from hvkit.hypervisor.kvm.host.polling import poll_until
from hvkit.hypervisor.kvm.host.runtime import MediumChange, Runtime
from hvkit.hypervisor.kvm.plan.drives import FLOPPY_ID, IMAGE_PARAMETERS, medium_nodes
from hvkit.hypervisor.kvm.plan.parameters import EMPTY, TABLE, cdrom_type, is_file
from hvkit.hypervisor.kvm.qemu.block_nodes import lending, read_nodes, take_back_files
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import MediaDrive, check_kind
from hvkit.qmp import CommandError, QmpConnection, QmpError
from hvkit.qmp.base import Command
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.schema import (
    BlockdevAdd,
    BlockdevCloseTray,
    BlockdevDel,
    BlockdevInsertMedium,
    BlockdevOpenTray,
    BlockdevOptions,
    BlockdevRemoveMedium,
    BlockInfo,
    DeviceTrayMovedEvent,
    QueryBlock,
    QueryStatus,
)

_log: Final = logging.getLogger("hvkit.hypervisor.kvm")

#: Seconds that a guest has to open a drive that it has locked.
_OPEN_S: Final = 10.0
#: Seconds between two requests to a guest to open a drive.
_REQUEST_INTERVAL_S: Final = 2.0
#: Seconds for inserting a medium into a drive that a guest closes again and again.
_INSERT_S: Final = 5.0


class MediaVerbs(KvmSubject):
    """The verbs of the capability MEDIA.

    A guest has 10 seconds to open a drive that it has locked; a paused guest cannot. The medium of a paravirtual CD
    drive cannot be changed, because that drive is a disk to the guest.
    """

    def change_medium(self, name: str, drive: MediaDrive, image: str) -> None:
        """Insert a medium into a drive, in place of the current one.

        `image` is an absolute path, or for a CD drive also a URL of http or https.
        """
        check_kind(drive, MediaDrive)
        handle = self._instances.require_managed(name)
        with hotplug_session(handle, "cannot change a medium", reconcile_media) as session:
            parameter, drive_id = _find_drive(session, drive)
            _check_image(parameter, image)
            nodes = _plan_nodes(session.monitor, drive_id, image)
            change = MediumChange(
                drive=drive_id,
                parameter=parameter,
                image=image,
                node=str(nodes[-1].node_name),
                old_node=_inserted_node(session.monitor, drive_id),
            )
            with _pending_change(session, change):
                _open_image(session, change, nodes)
                if change.old_node:
                    _execute_while_open(session, BlockdevRemoveMedium(id=drive_id), drive_id, timeout_s=_OPEN_S)
                # The drive is empty, so forcing it open does not interrupt the guest.
                insert = BlockdevInsertMedium(id=drive_id, node_name=change.node)
                _execute_while_open(session, insert, drive_id, force=True, timeout_s=_OPEN_S)

    def eject_medium(self, name: str, drive: MediaDrive, *, force: bool = False) -> None:
        """Remove the medium from a drive. The drive stays open."""
        check_kind(drive, MediaDrive)
        check_kind(force, bool)
        handle = self._instances.require_managed(name)
        with hotplug_session(handle, "cannot eject a medium", reconcile_media) as session:
            parameter, drive_id = _find_drive(session, drive)
            old_node = _inserted_node(session.monitor, drive_id)
            if not old_node:
                return
            change = MediumChange(drive=drive_id, parameter=parameter, image=EMPTY, node="", old_node=old_node)
            with _pending_change(session, change):
                remove = BlockdevRemoveMedium(id=drive_id)
                _execute_while_open(session, remove, drive_id, force=force, timeout_s=_OPEN_S)


def read_media(monitor: QmpConnection, runtime: Runtime) -> dict[str, str]:
    """Return the media in the drives of an instance, by the names of their parameters.

    A change of a medium that was interrupted, or that another process is making, is taken into account.

    Raises:
        QmpError: QEMU does not answer.
    """
    parameters = TABLE.fill(runtime.instance.parameters)
    media: dict[str, str] = {name: parameters[name] for name in IMAGE_PARAMETERS if parameters[name]}
    change = runtime.medium_change
    if change is not None:
        media[change.parameter] = _outcome(change, _inserted_node(monitor, change.drive), media[change.parameter])
    return media


def reconcile_media(session: HotplugSession) -> None:
    """Bring the persisted medium of a drive and the one in QEMU into agreement after an interrupted change.

    Raises:
        QmpError: QEMU does not answer.
    """
    change = session.runtime.medium_change
    if change is not None:
        _complete(session, change)


def _find_drive(session: HotplugSession, drive: MediaDrive) -> tuple[str, str]:
    """Return the parameter and the id of a drive.

    Raises:
        HotplugError: the instance has no such drive, or its medium cannot be changed.
    """
    parameter = f"{drive.value}_image_path"
    drive_id = IMAGE_PARAMETERS[parameter]
    parameters: Mapping[str, Any] = TABLE.fill(session.runtime.instance.parameters)
    if not parameters[parameter]:
        raise session.error(drive_id, f"the instance has no such drive: {parameter} is empty", HotplugCause.UNFIT)
    if drive_id != FLOPPY_ID and cdrom_type(parameters) == "paravirtual":
        problem = "the medium of a paravirtual CD drive cannot be changed: use another cdrom_disk_type"
        raise session.error(drive_id, problem, HotplugCause.UNFIT)
    return parameter, drive_id


def _check_image(name: str, image: str) -> None:
    parameter = NODE_TABLE[name]
    if parameter.typed(image) in ("", EMPTY):
        raise ParameterError(name, image, "not a medium; use eject_medium to empty a drive")
    parameter.check(parameter.syntax, image)
    parameter.check(parameter.node, image)


def _plan_nodes(monitor: QmpConnection, drive_id: str, image: str) -> tuple[BlockdevOptions, ...]:
    """Return the block nodes of a new medium, with the first names that are free."""
    existing = read_nodes(monitor)
    return next(
        nodes
        for nodes in (medium_nodes(drive_id, image, number=number) for number in itertools.count())
        if not any(node.node_name in existing for node in nodes)
    )


def _open_image(session: HotplugSession, change: MediumChange, nodes: tuple[BlockdevOptions, ...]) -> None:
    """Open the image of a new medium in QEMU."""
    with ExitStack() as stack:
        if is_file(change.image) and not session.runtime.opens_by_name:
            descriptors = open_file(change.image, change.parameter, read_only=True)
            path = stack.enter_context(lending(session.monitor, descriptors, change.node))
            nodes = (nodes[0].evolve(filename=path), *nodes[1:])
        for node in nodes:
            session.monitor.execute(BlockdevAdd(node))


@contextlib.contextmanager
def _pending_change(session: HotplugSession, change: MediumChange) -> Iterator[None]:
    """Persist a change of a medium for the duration of the block; afterwards persist what the drive contains.

    If the block fails because a reply was lost, the contents of the drive in QEMU decide.

    Raises:
        HotplugError: the drive does not have the new contents; with the cause UNKNOWN if QEMU does not answer.
        InstanceStateError: the process of the instance has ended.
    """
    later = f"the next change of a medium reconciles {change.drive}"
    session.persist(attrs.evolve(session.runtime, medium_change=change))
    try:
        yield
    except QmpError as error:
        try:
            if is_outcome_unknown(error):
                session.reconnect()
            is_changed = _complete(session, change)
        except QmpError as problem:
            text = f"{error.reason}; {later}: {problem.reason}"
            raise session.error(change.drive, text, HotplugCause.UNKNOWN) from error
        if not is_changed:
            raise session.error(change.drive, error.reason) from error
    except BaseException as error:
        try:
            _complete(session, change)
        except (HypervisorError, ProgrammerError) as problem:  # the connection may be closed
            error.add_note(f"{later}: {problem}")
        raise
    else:
        with session.translate_errors(change.drive):
            _complete(session, change)


def _complete(session: HotplugSession, change: MediumChange) -> bool:
    """Complete a change of a medium: insert a missing medium, persist the contents of the drive, delete unused nodes.

    May be repeated.

    Returns:
        Whether the drive has the new contents.
    """
    inserted = session.retry_once(lambda monitor: _fill_and_close(session, monitor, change))
    session.retry_once(lambda monitor: _delete_unused(session, monitor, change.drive, inserted))
    instance = session.runtime.instance
    image = _outcome(change, inserted, str(instance.parameters[change.parameter]))
    instance = attrs.evolve(instance, parameters={**instance.parameters, change.parameter: image})
    session.persist(attrs.evolve(session.runtime, instance=instance, medium_change=None))
    return inserted == change.node


def _outcome(change: MediumChange, inserted: str, old_image: str) -> str:
    """Return the image in a drive, given the node that is inserted; EMPTY if there is none."""
    if inserted == change.node:
        return change.image
    return old_image if inserted else EMPTY


def _fill_and_close(session: HotplugSession, monitor: QmpConnection, change: MediumChange) -> str:
    """Insert a medium into a drive that lost its old one during a change, and close the drive if it has a medium.

    Returns:
        The node of the medium in the drive; empty if there is none.
    """
    inserted = _inserted_node(monitor, change.drive)
    if not inserted:
        inserted = _insert_either(session, monitor, change)
    if inserted:
        monitor.execute(BlockdevCloseTray(id=change.drive))
    return inserted


def _insert_either(session: HotplugSession, monitor: QmpConnection, change: MediumChange) -> str:
    """Insert the new medium, or else the old one, and return its node; empty if neither could or should be inserted."""
    existing = read_nodes(monitor)
    for node in (change.node, change.old_node) if change.node else ():
        if node in existing:
            insert = BlockdevInsertMedium(id=change.drive, node_name=node)
            try:
                _execute_while_open(session, insert, change.drive, force=True, timeout_s=_INSERT_S)
            except CommandError as error:
                name = session.handle.name
                _log.warning("%s: drive %s: cannot insert medium %s: %s", name, change.drive, node, error.reason)
            else:
                return node
    return ""


def _delete_unused(session: HotplugSession, monitor: QmpConnection, drive_id: str, inserted: str) -> None:
    """Delete the nodes of media that are not in the drive, and the fd sets that were passed for its media."""
    kept = {inserted, inserted.replace("-medium", "-file")}
    unused = {name for name in read_nodes(monitor) if name.startswith(f"{drive_id}-")} - kept
    for name in sorted(unused, reverse=True):  # each medium before the file below it
        try:
            monitor.execute(BlockdevDel(node_name=name))
        except CommandError as error:  # a job uses it: the next change retries
            instance = session.handle.name
            _log.warning("%s: drive %s: cannot delete block node %s: %s", instance, drive_id, name, error.reason)
    take_back_files(monitor, lambda label: label == drive_id or label.startswith(f"{drive_id}-"))


def _execute_while_open(
    session: HotplugSession, command: Command[None], drive_id: str, *, force: bool = False, timeout_s: float
) -> None:
    """Open a drive and execute a command that requires it open; repeat both if the guest closes the drive in between.

    Raises:
        HotplugError: the guest does not open the drive.
        QmpError: QEMU refused, or does not answer.
    """
    deadline = Deadline(timeout_s)
    while True:
        _open_drive(session, drive_id, force=force, timeout_s=deadline.remaining_s())
        try:
            session.monitor.execute(command)
        except CommandError:
            if _is_open(session.monitor, drive_id) or deadline.remaining_s() <= 0:
                raise
        else:
            return


def _open_drive(session: HotplugSession, drive_id: str, *, force: bool, timeout_s: float) -> None:
    """Open a drive. If the guest has locked it, ask the guest to open it.

    Raises:
        HotplugError: the guest does not open it.
        QmpError: QEMU refused, or does not answer.
    """
    monitor = session.monitor

    def request_open() -> bool:
        monitor.execute(BlockdevOpenTray(id=drive_id, force=force))
        return _is_open(monitor, drive_id)

    with monitor.subscribe(DeviceTrayMovedEvent) as moves:
        wait = wait_for_event(moves)
        if poll_until(request_open, Deadline(timeout_s), interval_s=_REQUEST_INTERVAL_S, wait=wait):
            return
    if monitor.execute(QueryStatus()).running:
        problem = "the guest has locked the drive and did not open it in time"
        raise session.error(drive_id, problem, HotplugCause.GUEST_REFUSED)
    raise session.error(drive_id, "the guest has locked the drive and is paused", HotplugCause.GUEST_SILENT)


def _is_open(monitor: QmpConnection, drive_id: str) -> bool:
    """Return whether a drive is open, has no tray, or was removed from the machine."""
    block = _query_drive(monitor, drive_id)
    return block is None or block.tray_open is not False


def _query_drive(monitor: QmpConnection, drive_id: str) -> BlockInfo | None:
    """Return the state of a drive in QEMU; None if it was removed from the machine from outside hvkit."""
    return next((block for block in monitor.execute(QueryBlock()) if block.qdev == drive_id), None)


def _inserted_node(monitor: QmpConnection, drive_id: str) -> str:
    """Return the block node of the medium in a drive; empty if there is none."""
    block = _query_drive(monitor, drive_id)
    return "" if block is None or block.inserted is None else str(block.inserted.node_name)
