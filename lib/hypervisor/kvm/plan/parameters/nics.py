# SPDX-License-Identifier: BSD-2-Clause
"""Parameters: NICs."""

from typing import Final

from hvkit.hypervisor.parameters import (
    ABSOLUTE_PATH,
    Parameter,
    between,
    one_of,
)

#: The device model of each type of NIC; other types are names of device models.
NIC_DRIVERS: Final[dict[str, str]] = {"paravirtual": "virtio-net-pci"}

NIC_TYPES: Final = (
    *("paravirtual", "e1000", "e1000e", "i82551", "i82557b", "i82559er", "ne2k_pci", "pcnet", "rtl8139", "vmxnet3"),
)


PARAMETERS: Final = (
    Parameter(
        name="nic_type",
        kind=str,
        default="paravirtual",
        doc="Type of the NICs.",
        syntax=one_of(*NIC_TYPES),
    ),
    Parameter(
        name="virtio_net_queues",
        kind=int,
        default=1,
        doc="Number of queues of each paravirtual NIC: the number of vCPUs that can send and receive at the same time.",
        syntax=between(1, 32),
    ),
    Parameter(
        name="vhost_net",
        kind=bool,
        default=True,
        doc="Whether paravirtual NICs use vhost-net, if the kernel of the node has it.",
    ),
    Parameter(
        name="vnet_hdr",
        kind=bool,
        default=True,
        doc="Whether taps use the virtio header, which allows checksum and segmentation offload.",
    ),
    Parameter(
        name="network_script",
        kind=str,
        default="",
        doc="Program to run with the argument up after the tap of a NIC was created, and with down after it was"
        " removed. Environment variables describe the NIC. Empty: none.",
        syntax=ABSOLUTE_PATH,
    ),
)
