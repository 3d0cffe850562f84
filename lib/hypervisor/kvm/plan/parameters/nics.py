# SPDX-License-Identifier: BSD-2-Clause
"""Parameters: NICs."""

from typing import Final

from hvkit.hypervisor.parameters import (
    ABSOLUTE_PATH,
    Parameter,
    between,
    one_of,
)

#: Which device each type of NIC is; those that are not here are their own device.
NIC_DRIVERS: Final[dict[str, str]] = {"paravirtual": "virtio-net-pci"}

NIC_TYPES: Final = (
    *("paravirtual", "e1000", "e1000e", "i82551", "i82557b", "i82559er", "ne2k_pci", "pcnet", "rtl8139", "vmxnet3"),
)


PARAMETERS: Final = (
    Parameter(
        name="nic_type",
        kind=str,
        default="paravirtual",
        doc="What the guest sees its NICs as.",
        syntax=one_of(*NIC_TYPES),
    ),
    Parameter(
        name="virtio_net_queues",
        kind=int,
        default=1,
        doc="Queues of each paravirtual NIC: how many processors can send and receive at the same time.",
        syntax=between(1, 32),
    ),
    Parameter(
        name="vhost_net",
        kind=bool,
        default=True,
        doc="Whether the kernel moves the packets of paravirtual NICs, on a node whose kernel can.",
    ),
    Parameter(
        name="vnet_hdr",
        kind=bool,
        default=True,
        doc="Whether packets carry a virtio header between the guest and its taps, which saves checksums.",
    ),
    Parameter(
        name="network_script",
        kind=str,
        default="",
        doc="Program that is told when the interface of a NIC comes (up) and has gone (down), as its argument, and"
        " everything about the NIC by its environment. Empty: none.",
        syntax=ABSOLUTE_PATH,
    ),
)
