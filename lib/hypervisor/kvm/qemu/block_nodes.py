# SPDX-License-Identifier: BSD-2-Clause
"""The block nodes that a machine has, and the files that its QEMU was lent for them."""

import contextlib
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack

from hvkit.errors import HypervisorError
from hvkit.qmp import CommandError, QmpConnection
from hvkit.qmp.descriptors import fdset
from hvkit.qmp.schema import BlockDeviceInfo, QueryFdsets, QueryNamedBlockNodes, RemoveFd


class BlockNodeNotFound(HypervisorError):
    """Raised when a machine has no block node of a name: somebody with a monitor took it away.

    Attributes:
        node: its name.
    """

    def __init__(self, node: str) -> None:
        super().__init__(node)
        self.node = node

    def __str__(self) -> str:
        return f"the machine has no block node {self.node} any more: somebody took it away"


class Nodes(dict[str, BlockDeviceInfo]):
    """The block nodes of a machine, by their names. To look for one that is not there raises `BlockNodeNotFound`."""

    def __missing__(self, name: str) -> BlockDeviceInfo:
        raise BlockNodeNotFound(name)


def read_nodes(monitor: QmpConnection) -> Nodes:
    """Return the block nodes of a machine. What a node's image stands on is not said of it.

    Raises:
        QmpError: QEMU does not answer.
    """
    nodes = monitor.execute(QueryNamedBlockNodes(flat=True))
    return Nodes((node.node_name, node) for node in nodes if node.node_name is not None)


@contextlib.contextmanager
def lending(monitor: QmpConnection, descriptors: Collection[int], label: str) -> Iterator[str]:
    """Lend QEMU open files while the block lasts, and close them here at its end. What it opens by them it keeps.

    Args:
        monitor: of the machine.
        descriptors: open files, one for each way in which QEMU is to open them.
        label: tells them from others.

    Yields:
        The name by which QEMU opens them.

    Raises:
        QmpError: QEMU does not answer, or refuses.
    """
    with ExitStack() as closing:
        for descriptor in descriptors:
            closing.callback(os.close, descriptor)
        yield closing.enter_context(fdset(monitor, *descriptors, opaque=label))


def take_back_files(monitor: QmpConnection, was_lent: Callable[[str], bool]) -> None:
    """Have QEMU close files that it was lent, and that no node stands on any more.

    Args:
        monitor: of the machine.
        was_lent: tells by the label of a file whether it is one of them.

    Raises:
        QmpError: QEMU does not answer.
    """
    for files in monitor.execute(QueryFdsets()):
        if any(was_lent(each.opaque or "") for each in files.fds):
            with contextlib.suppress(CommandError):  # QEMU dropped it by itself
                monitor.execute(RemoveFd(fdset_id=files.fdset_id))
