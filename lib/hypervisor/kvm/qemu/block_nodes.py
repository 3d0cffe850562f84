# SPDX-License-Identifier: BSD-2-Clause
"""Block nodes of an instance, and the file descriptors that its QEMU was passed for them."""

import contextlib
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack

from hvkit.errors import HypervisorError
from hvkit.qmp import CommandError, QmpConnection
from hvkit.qmp.descriptors import fdset
from hvkit.qmp.schema import BlockDeviceInfo, QueryFdsets, QueryNamedBlockNodes, RemoveFd


class BlockNodeNotFound(HypervisorError):
    """Raised when a block node of an instance does not exist: another client of a monitor has removed it.

    Attributes:
        node: the name of the block node.
    """

    def __init__(self, node: str) -> None:
        super().__init__(node)
        self.node = node

    def __str__(self) -> str:
        return f"no block node {self.node}: another client of the monitor has removed it"


class Nodes(dict[str, BlockDeviceInfo]):
    """The block nodes of an instance, by name. Getting a missing one by ``nodes[name]`` raises `BlockNodeNotFound`."""

    def __missing__(self, name: str) -> BlockDeviceInfo:
        raise BlockNodeNotFound(name)


def read_nodes(monitor: QmpConnection) -> Nodes:
    """Return the block nodes of an instance, without the backing chains of their images.

    Raises:
        QmpError: QEMU does not answer.
    """
    nodes = monitor.execute(QueryNamedBlockNodes(flat=True))
    return Nodes((node.node_name, node) for node in nodes if node.node_name is not None)


@contextlib.contextmanager
def lending(monitor: QmpConnection, descriptors: Collection[int], label: str) -> Iterator[str]:
    """Pass open files to QEMU for the duration of the block, and close them here at its end.

    A block node that QEMU opens during the block keeps its own duplicate.

    Args:
        monitor: a monitor of the instance.
        descriptors: open files, one for each access mode that QEMU may need.
        label: the opaque label of the files in QEMU.

    Yields:
        The file name by which QEMU opens them.

    Raises:
        QmpError: QEMU does not answer, or refuses.
    """
    with ExitStack() as closing:
        for descriptor in descriptors:
            closing.callback(os.close, descriptor)
        yield closing.enter_context(fdset(monitor, *descriptors, opaque=label))


def take_back_files(monitor: QmpConnection, was_lent: Callable[[str], bool]) -> None:
    """Make QEMU close files that it was passed, and that no block node uses any more.

    Args:
        monitor: a monitor of the instance.
        was_lent: whether a label is that of a file to close.

    Raises:
        QmpError: QEMU does not answer.
    """
    for files in monitor.execute(QueryFdsets()):
        if any(was_lent(each.opaque or "") for each in files.fds):
            with contextlib.suppress(CommandError):  # QEMU has removed it itself
                monitor.execute(RemoveFd(fdset_id=files.fdset_id))
