# SPDX-License-Identifier: BSD-2-Clause
"""The block graph of a simulated machine: its block nodes and the devices that use them."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import attrs

from hvkit.qmp.schema import BlockdevCacheInfo, BlockDeviceInfo, BlockdevOptions, BlockSetIoThrottle, ImageInfo
from hvkit.testing.simulator.qmp_refusal import QmpRefusal

#: Drivers that open a file or device of the host.
_FILE_DRIVERS = frozenset({"file", "host_device", "host_cdrom"})
_NAME_LENGTH = 31


class Image(Protocol):
    """An open image file; `hvkit.testing.simulator.host` has the real one."""

    @property
    def path(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def actual_size(self) -> int: ...
    @property
    def qcow2_size(self) -> int | None: ...
    def lock(self, *, is_shared: bool) -> None: ...
    def unlock(self) -> None: ...
    def close(self) -> None: ...


@attrs.define(kw_only=True, eq=False)
class Node:
    """A block node.

    Attributes:
        name: the node name, given or generated.
        driver: the format or protocol driver.
        is_read_only: whether writes are refused.
        is_unnamed: the node was defined inline, without a node name, and is removed together with its parent.
        child: the node below; None for a protocol node.
        image: the open file; None if the node opens none.
        size: the virtual size in bytes.
        device: id of the device that uses the node; empty for none.
        limits: I/O limits of that device; None for no limits.
    """

    name: str
    driver: str
    is_read_only: bool
    is_unnamed: bool
    child: "Node | None"
    image: Image | None
    size: int
    device: str = ""
    limits: BlockSetIoThrottle | None = None

    @property
    def chain(self) -> Iterator["Node"]:
        """This node and all nodes below it."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.child

    @property
    def filename(self) -> str:
        """The path of the image file at the bottom of the chain."""
        return next((node.image.path for node in self.chain if node.image is not None), "")


class BlockGraph:
    """All block nodes of a machine.

    Args:
        open_image: opens an image file by its path; takes the keyword is_read_only.
    """

    def __init__(self, open_image: Callable[..., Image]) -> None:
        self._open_image = open_image
        self._nodes: dict[str, Node] = {}
        self._unnamed_count = 0

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def add(self, options: BlockdevOptions) -> Node:
        """Add a node.

        Raises:
            QmpRefusal: the name is invalid or in use, or the file cannot be opened or has another format.
        """
        if options.node_name is None:
            raise QmpRefusal("'node-name' must be specified for the root node")
        return self._add(options, is_unnamed=False)

    def _add(self, options: BlockdevOptions, *, is_unnamed: bool) -> Node:
        name = options.node_name
        if name is None:
            name = self._make_name()  # "#" is not allowed in given names
        elif not name[:1].isalpha():
            raise QmpRefusal(f"Invalid node-name: '{name}'")
        elif len(name) > _NAME_LENGTH:
            raise QmpRefusal("Node name too long")
        if name in self._nodes:
            raise QmpRefusal(f"Duplicate nodes with node-name='{name}'")
        is_read_only = bool(options.read_only)
        child, image = None, None
        if options.driver in _FILE_DRIVERS:
            image = self._open_image(getattr(options, "filename", ""), is_read_only=is_read_only)
            size = image.size
        else:
            child = self._find_child(getattr(options, "file", None))
            size = _size_on(child, options) if child else getattr(options, "size", None) or 0
        node = Node(
            name=name,
            driver=options.driver,
            is_read_only=is_read_only,
            is_unnamed=is_unnamed,
            child=child,
            image=image,
            size=size,
        )
        self._nodes[name] = node
        return node

    def _make_name(self) -> str:
        self._unnamed_count += 1
        return f"#block{self._unnamed_count:03d}"

    def _find_child(self, reference: Any) -> Node | None:
        if reference is None:
            return None
        if isinstance(reference, str):
            return self.find(reference)
        return self._add(reference, is_unnamed=reference.node_name is None)

    def find(self, name: str) -> Node:
        """Return the node with a name.

        Raises:
            QmpRefusal: no node has this name.
        """
        if name not in self._nodes:
            raise QmpRefusal(f"Cannot find device='{name}' nor node-name='{name}'")
        return self._nodes[name]

    def remove(self, name: str) -> None:
        """Remove a node and its unnamed children.

        Raises:
            QmpRefusal: no node has this name, or the node is in use.
        """
        if name not in self._nodes:
            raise QmpRefusal(f"Failed to find node with node-name='{name}'")
        node = self._nodes[name]
        if node.device:
            raise QmpRefusal(f"Node {name} is in use")
        if any(other.child is node for other in self):
            raise QmpRefusal(f"Block device {name} is in use")
        while True:
            del self._nodes[node.name]
            if node.image is not None:
                node.image.close()
            if node.child is None or not node.child.is_unnamed:
                return
            node = node.child

    def attach(self, name: str, device: str, *, is_shared: bool) -> None:
        """Attach a node to a device, and lock the image files below it.

        Raises:
            QmpRefusal: no node has this name, or another device uses the node.
        """
        node = self._nodes.get(name)
        if node is None:
            raise QmpRefusal(f"Property 'virtio-blk-device.drive' can't find value '{name}'")
        if node.device:
            raise QmpRefusal(
                f"Permission conflict on node '{name}': permissions 'write' are both required by block device "
                f"'{node.device}' and unshared by block device '{device}'."
            )
        for below in node.chain:
            if below.image is not None:
                below.image.lock(is_shared=is_shared or node.is_read_only)
        node.device = device

    def used_by(self, device: str) -> Node | None:
        """Return the node that a device uses, or None."""
        return next((node for node in self if device and node.device == device), None)

    def detach(self, device: str) -> None:
        """Detach all nodes from a device, and unlock their image files."""
        for node in self:
            if device and node.device == device:
                node.device = ""
                node.limits = None
                for below in node.chain:
                    if below.image is not None:
                        below.image.unlock()

    def limit(self, limits: BlockSetIoThrottle) -> None:
        """Set the I/O limits of a device.

        Raises:
            QmpRefusal: no device with this id uses a node, or the limits contradict each other.
        """
        node = self.used_by(limits.id or "")
        if node is None:
            raise QmpRefusal(f"Device '{limits.id}' not found", "DeviceNotFound")
        if (limits.bps and (limits.bps_rd or limits.bps_wr)) or (limits.iops and (limits.iops_rd or limits.iops_wr)):
            raise QmpRefusal("bps/iops/max total values and read/write values cannot be used at the same time")
        node.limits = limits

    def resize(self, name: str, size: int) -> None:
        """Set the virtual size of a node. The file on the host keeps its size.

        Raises:
            QmpRefusal: no node has this name, or the size is negative.
        """
        if name not in self._nodes:
            raise QmpRefusal(f"Cannot find device='' nor node-name='{name}'")
        if size < 0:
            raise QmpRefusal("Parameter 'size' expects a >0 size")
        self._nodes[name].size = size


def _size_on(child: Node, options: BlockdevOptions) -> int:
    """Return the virtual size of a format node over a child node."""
    if options.driver != "qcow2":
        size: int | None = getattr(options, "size", None)
        return child.size if size is None else size
    size = child.image.qcow2_size if child.image is not None else None
    if size is None:
        raise QmpRefusal("Image is not in qcow2 format")
    return size


def describe_used(node: Node) -> BlockDeviceInfo:
    """Return the query-block information about a node in use, including its I/O limits."""
    (info,) = describe_nodes([node])
    if node.limits is None:
        return info
    names = ("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr")
    bursts = [f"{name}_{what}" for name in names for what in ("max", "max_length")]
    return info.evolve(**{name: getattr(node.limits, name) for name in (*names, *bursts)})


def describe_nodes(nodes: Iterable[Node]) -> list[BlockDeviceInfo]:
    """Return the query-named-block-nodes information about nodes."""
    return [
        BlockDeviceInfo(
            file=node.filename,
            node_name=node.name,
            ro=node.is_read_only,
            drv=node.driver,
            backing_file_depth=0,
            encrypted=False,
            detect_zeroes="off",
            bps=0,
            bps_rd=0,
            bps_wr=0,
            iops=0,
            iops_rd=0,
            iops_wr=0,
            write_threshold=0,
            cache=BlockdevCacheInfo(writeback=True, direct=False, no_flush=False),
            image=ImageInfo(
                filename=node.filename,
                format=node.driver,
                virtual_size=node.size,
                actual_size=node.image.actual_size if node.image is not None else None,
                dirty_flag=False,
            ),
        )
        for node in nodes
    ]
