# SPDX-License-Identifier: BSD-2-Clause
"""Change the media in the drives of a running machine.

The new medium is opened before the old one leaves, under another name. What is about to be in the drive is remembered
before the machine is told; from then on what QEMU has in the drive decides. Whoever dies in between leaves a drive with
the old medium, which stays, or with the new one or none, which is remembered by whoever next works on a medium.
"""

import contextlib
import itertools
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Final

import attrs

from hvkit.errors import HypervisorError, ProgrammerError
from hvkit.hypervisor.errors import HotplugCause, InstanceStateError, ParameterError
from hvkit.hypervisor.kvm.devices.session import HotplugSession, is_loss, plugging
from hvkit.hypervisor.kvm.host.disks import open_file
from hvkit.hypervisor.kvm.host.runtime import MediumChange, Runtime
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.plan.drives import FLOPPY_ID, IMAGE_PARAMETERS, medium_nodes
from hvkit.hypervisor.kvm.plan.parameters import EMPTY, TABLE, cdrom_type, is_file
from hvkit.hypervisor.kvm.qemu.block_nodes import lending, read_nodes, take_back_files
from hvkit.hypervisor.model import MediaDrive
from hvkit.qmp import CommandError, EventTimeout, QmpConnection, QmpError
from hvkit.qmp.base import Command
from hvkit.qmp.deadlines import Deadline
from hvkit.qmp.schema import (
    BlockdevAdd,
    BlockdevCloseTray,
    BlockdevDel,
    BlockdevInsertMedium,
    BlockdevOpenTray,
    BlockdevRemoveMedium,
    BlockInfo,
    DeviceTrayMovedEvent,
    QueryBlock,
    QueryStatus,
)

_log: Final = logging.getLogger("hvkit.hypervisor.kvm")

#: Seconds after which a guest is asked again to open a drive.
_ASK_AGAIN_S: Final = 2.0
#: Seconds in which a medium is put into a drive that a guest closes again and again.
_FILL_S: Final = 5.0


def change_medium(handle: InstanceHandle, drive: MediaDrive, image: str, *, timeout_s: float) -> None:
    """Put another medium into a drive, as `BaseHypervisor.change_medium` says.

    Args:
        instances: those of this node.
        handle: files of the instance.
        drive: which drive.
        image: absolute path, or URL of http or https for a CD drive.
        timeout_s: seconds that the guest has to open a drive that it has locked.

    Raises:
        ParameterError: there is no such image, or it cannot be used.
        HotplugError: there is no such drive, the guest does not open it, or QEMU refuses the image.
    """
    with plugging(handle, "no medium can be changed", settle_media) as session:
        parameter, drive_id = _find_drive(session, drive)
        _check_image(parameter, image)
        there = read_nodes(session.monitor)
        nodes = next(
            nodes
            for nodes in (medium_nodes(drive_id, image, number=number) for number in itertools.count())
            if not any(node.node_name in there for node in nodes)
        )
        change = MediumChange(
            drive=drive_id,
            parameter=parameter,
            image=image,
            node=str(nodes[-1].node_name),
            old_node=_inserted(session.monitor, drive_id),
        )
        with _changing(session, change):
            with ExitStack() as lent:
                if is_file(image) and not session.runtime.opens_by_name:
                    opened = open_file(image, parameter, read_only=True)
                    path = lent.enter_context(lending(session.monitor, opened, change.node))
                    nodes = (nodes[0].evolve(filename=path), *nodes[1:])
                for node in nodes:
                    session.monitor.execute(BlockdevAdd(node))
            if change.old_node:
                _do_while_open(session, BlockdevRemoveMedium(id=drive_id), drive_id, force=False, timeout_s=timeout_s)
            insert = BlockdevInsertMedium(id=drive_id, node_name=change.node)
            # Nobody loses anything by force: there is nothing in it.
            _do_while_open(session, insert, drive_id, force=True, timeout_s=timeout_s)


def eject_medium(handle: InstanceHandle, drive: MediaDrive, *, force: bool, timeout_s: float) -> None:
    """Take the medium out of a drive, as `BaseHypervisor.eject_medium` says. The drive stays open.

    Args:
        instances: those of this node.
        handle: files of the instance.
        drive: which drive.
        force: open it whether or not the guest has locked it.
        timeout_s: seconds that the guest has to open a drive that it has locked.

    Raises:
        HotplugError: there is no such drive, or the guest does not open it.
    """
    with plugging(handle, "no medium can be taken out", settle_media) as session:
        parameter, drive_id = _find_drive(session, drive)
        old_node = _inserted(session.monitor, drive_id)
        if not old_node:
            return
        change = MediumChange(drive=drive_id, parameter=parameter, image=EMPTY, node="", old_node=old_node)
        with _changing(session, change):
            _do_while_open(session, BlockdevRemoveMedium(id=drive_id), drive_id, force=force, timeout_s=timeout_s)


def read_media(monitor: QmpConnection, runtime: Runtime) -> dict[str, str]:
    """Return what is in the drives of a machine, by the parameters that say so, also where that is being changed.

    Raises:
        QmpError: it does not answer.
    """
    parameters = TABLE.fill(runtime.instance.parameters)
    media: dict[str, str] = {name: parameters[name] for name in IMAGE_PARAMETERS if parameters[name]}
    change = runtime.medium_change
    if change is not None:
        media[change.parameter] = _outcome(change, _inserted(monitor, change.drive), media[change.parameter])
    return media


def settle_media(session: HotplugSession) -> None:
    """Bring what is remembered to be in a drive, and what QEMU has in it, together where somebody died over it.

    Raises:
        QmpError: the machine does not answer.
    """
    change = session.runtime.medium_change
    if change is not None:
        _settle(session, change)


# ---- what changing and ejecting have in common


def _find_drive(session: HotplugSession, drive: MediaDrive) -> tuple[str, str]:
    """Return the parameter and the id of a drive.

    Raises:
        HotplugError: the instance has no such drive, or one whose medium does not come and go.
    """
    parameter = f"{drive.value}_image_path"
    drive_id = IMAGE_PARAMETERS[parameter]
    parameters: Mapping[str, Any] = TABLE.fill(session.runtime.instance.parameters)
    if not parameters[parameter]:
        raise session.error(drive_id, f"the instance has no such drive: it has no {parameter}", HotplugCause.UNFIT)
    if drive_id != FLOPPY_ID and cdrom_type(parameters) == "paravirtual":
        problem = "a paravirtual CD drive is a disk, whose medium cannot be changed; cdrom_disk_type has others"
        raise session.error(drive_id, problem, HotplugCause.UNFIT)
    return parameter, drive_id


def _check_image(name: str, image: str) -> None:
    parameter = TABLE[name]
    if parameter.typed(image) in ("", EMPTY):
        raise ParameterError(name, image, "that is no medium; eject_medium takes out what is in a drive")
    parameter.check(parameter.syntax, image)
    parameter.check(parameter.node, image)


@contextlib.contextmanager
def _changing(session: HotplugSession, change: MediumChange) -> Iterator[None]:
    """Remember what is to be in a drive while it is brought there, and afterwards what is in it, however that ended.

    Where the block fails because a reply was lost, what QEMU has in the drive decides.

    Raises:
        HotplugError: the medium is not what it is to be; with the cause UNKNOWN where nobody knows.
    """
    session.persist(attrs.evolve(session.runtime, medium_change=change))
    try:
        yield
    except QmpError as error:
        try:
            if is_loss(error):
                session.reconnect()
            is_done = _settle(session, change)
        except (QmpError, InstanceStateError) as problem:
            unknown = f"{error}; what is in it is settled when a medium is next worked on: {problem}"
            raise session.error(change.drive, unknown, HotplugCause.UNKNOWN) from error
        if not is_done:
            raise session.error(change.drive, str(error)) from error
    except BaseException as error:
        try:
            _settle(session, change)
        except (HypervisorError, ProgrammerError) as problem:  # the connection may be closed
            error.add_note(f"what is in {change.drive} is settled when a medium is next worked on: {problem}")
        raise
    else:
        with session.translate_errors(change.drive):
            _settle(session, change)


def _settle(session: HotplugSession, change: MediumChange) -> bool:
    """See to it that a drive has a medium unless it is to be empty, remember which, and remove the other one.

    May be done twice.

    Returns:
        Whether what is in it is what was to be.
    """
    inserted = session.retry_once(lambda monitor: _bring_in(session, monitor, change))
    session.retry_once(lambda monitor: _sweep(session, monitor, change.drive, inserted))
    instance = session.runtime.instance
    image = _outcome(change, inserted, str(instance.parameters[change.parameter]))
    instance = attrs.evolve(instance, parameters={**instance.parameters, change.parameter: image})
    session.persist(attrs.evolve(session.runtime, instance=instance, medium_change=None))
    return inserted == change.node


def _outcome(change: MediumChange, inserted: str, old_image: str) -> str:
    """Return the image that is in a drive, by the node that is; empty for none."""
    if inserted == change.node:
        return change.image
    return old_image if inserted else EMPTY


def _bring_in(session: HotplugSession, monitor: QmpConnection, change: MediumChange) -> str:
    """Put a medium into a drive that lost its own on the way to another one, and close it where it has one.

    Returns:
        The node of the medium that is in it; empty for none.
    """
    inserted = _inserted(monitor, change.drive)
    if not inserted:
        inserted = _fill(session, monitor, change)
    if inserted:
        monitor.execute(BlockdevCloseTray(id=change.drive))
    return inserted


def _fill(session: HotplugSession, monitor: QmpConnection, change: MediumChange) -> str:
    """Put the new medium into an empty drive that is not to be empty, or else the old one, and return which."""
    there = read_nodes(monitor)
    for node in (change.node, change.old_node) if change.node else ():
        if node in there:
            insert = BlockdevInsertMedium(id=change.drive, node_name=node)
            try:
                _do_while_open(session, insert, change.drive, force=True, timeout_s=_FILL_S)
            except CommandError as error:
                _log.warning("drive %s: medium %s cannot be put in: %s", change.drive, node, error)
            else:
                return node
    return ""


def _sweep(session: HotplugSession, monitor: QmpConnection, drive_id: str, inserted: str) -> None:
    """Remove the media of a drive that are not in it, and the files that QEMU was lent for any."""
    kept = {inserted, inserted.replace("-medium", "-file")}
    left = {name for name in read_nodes(monitor) if name.startswith(f"{drive_id}-")} - kept
    for name in sorted(left, reverse=True):  # each medium before the file that it stands on
        try:
            monitor.execute(BlockdevDel(node_name=name))
        except CommandError as error:  # a job uses it; it is tried again with the next medium
            _log.warning("%s: drive %s: block node %s stays: %s", session.handle.name, drive_id, name, error)
    take_back_files(monitor, lambda label: label == drive_id or label.startswith(f"{drive_id}-"))


def _do_while_open(
    session: HotplugSession, command: Command[None], drive_id: str, *, force: bool, timeout_s: float
) -> None:
    """Open a drive and execute a command that needs it open; again, where the guest closed it in between.

    Raises:
        HotplugError: the guest does not open it.
        QmpError: QEMU does not answer, or refuses.
    """
    deadline = Deadline(timeout_s)
    while True:
        _open(session, drive_id, force=force, timeout_s=max(deadline.remaining_s(), 0.0))
        try:
            session.monitor.execute(command)
        except CommandError:
            block = _look(session.monitor, drive_id)
            if block is None or block.tray_open is not False or deadline.remaining_s() <= 0:
                raise
        else:
            return


def _open(session: HotplugSession, drive_id: str, *, force: bool, timeout_s: float) -> None:
    """Open a drive, or have the guest open it where it has locked it.

    Raises:
        HotplugError: the guest does not.
        QmpError: QEMU does not answer, or refuses.
    """
    deadline = Deadline(timeout_s)
    monitor = session.monitor
    with monitor.subscribe(DeviceTrayMovedEvent) as moves:
        while True:
            monitor.execute(BlockdevOpenTray(id=drive_id, force=force))
            block = _look(monitor, drive_id)
            if block is None or block.tray_open is not False:  # None: it has no tray
                return
            left_s = deadline.remaining_s()
            if left_s <= 0:
                break
            with contextlib.suppress(EventTimeout):
                moves.get(timeout=min(left_s, _ASK_AGAIN_S))
    if monitor.execute(QueryStatus()).running:
        raise session.error(
            drive_id, "the guest has locked it, and did not open it in time", HotplugCause.GUEST_REFUSED
        )
    raise session.error(drive_id, "the guest has locked it, and stands still", HotplugCause.GUEST_SILENT)


def _look(monitor: QmpConnection, drive_id: str) -> BlockInfo | None:
    """Return what QEMU says of a drive; None where somebody took the drive out of the machine."""
    return next((block for block in monitor.execute(QueryBlock()) if block.qdev == drive_id), None)


def _inserted(monitor: QmpConnection, drive_id: str) -> str:
    """Return the block node of the medium that is in a drive; empty for none."""
    block = _look(monitor, drive_id)
    return "" if block is None or block.inserted is None else str(block.inserted.node_name)
