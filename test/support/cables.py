# SPDX-License-Identifier: BSD-2-Clause
"""A second node on this machine: a network namespace connected by a veth pair (the cable)."""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import os
import random
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn
from uuid import uuid4

import attrs

#: The setns(2) flag for a network namespace.
CLONE_NEWNET = 0x40000000
#: The addresses of cables: a network for tests between hosts, which is not routed (RFC 2544).
_NETWORK = ipaddress.ip_network("198.18.0.0/15")
#: A MAC address that no interface has.
UNUSED_MAC = "02:00:00:00:00:01"


@attrs.frozen
class Cable:
    """A veth pair whose far end is in a network namespace.

    Each cable has a subnet of its own, because tests with cables run at the same time.

    Attributes:
        namespace: the network namespace.
        interface: the near end of the veth pair.
        near: the IP address of the near end.
        far: the IP address of the far end.
    """

    namespace: str
    interface: str
    near: str
    far: str

    def drop_packets(self) -> None:
        """Drop packets to the far end without an error, as behind a failed switch."""
        self._ip("neighbor", "replace", self.far, "lladdr", UNUSED_MAC, "dev", self.interface, "nud", "permanent")

    def set_down(self) -> None:
        self._ip("link", "set", self.interface, "down")

    def set_up(self) -> None:
        self._ip("link", "set", self.interface, "up")

    def run_inside(self, act: Callable[[], None]) -> None:
        """Run a function in the namespace, in a separate thread. Processes that it starts stay there."""
        failures: list[BaseException] = []

        def enter_and_run() -> None:
            try:
                libc = ctypes.CDLL(None, use_errno=True)
                descriptor = os.open(f"/run/netns/{self.namespace}", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    if libc.setns(descriptor, CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")
                finally:
                    os.close(descriptor)
                act()
            except BaseException as error:  # noqa: BLE001 - raised again below, in the caller's thread
                failures.append(error)

        thread = threading.Thread(target=enter_and_run)
        thread.start()
        thread.join()
        if failures:
            raise failures[0]

    def make(self) -> None:
        far = f"{self.interface}f"
        self._ip("netns", "add", self.namespace)
        self._ip("link", "add", self.interface, "type", "veth", "peer", "name", far, "netns", self.namespace)
        self._ip("address", "add", f"{self.near}/30", "dev", self.interface)
        self.set_up()
        self._ip("-n", self.namespace, "address", "add", f"{self.far}/30", "dev", far)
        self._ip("-n", self.namespace, "link", "set", far, "up")

    def remove(self) -> None:
        subprocess.run(["ip", "link", "del", self.interface], check=False, capture_output=True, timeout=10)
        subprocess.run(["ip", "netns", "del", self.namespace], check=False, capture_output=True, timeout=10)

    def _ip(self, *arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)


@contextlib.contextmanager
def connected_namespace(unavailable: Callable[[str], NoReturn]) -> Iterator[Cable]:
    """Create a namespace with a cable to it, and remove both after the block."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        unavailable("network namespaces need root and the program ip")
    subnet = _NETWORK[random.randrange(0, _NETWORK.num_addresses, 4)]
    name = uuid4().hex[:8]
    cable = Cable(f"hvkit-{name}", f"hv{name}", near=str(subnet + 1), far=str(subnet + 2))
    try:
        cable.make()
    except subprocess.CalledProcessError as error:
        cable.remove()
        unavailable(f"cannot create a network namespace: {error.stderr.decode().strip()}")
    try:
        yield cable
    finally:
        cable.remove()
