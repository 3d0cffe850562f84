# SPDX-License-Identifier: BSD-2-Clause
"""The parameter table of the KVM plugin with its node checks: whether this node provides what a valid value needs."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from hvkit.hypervisor.kvm.host.accounts import can_change_account, find_account
from hvkit.hypervisor.kvm.plan.parameters import (
    EMPTY,
    HUGE_PAGES,
    TABLE,
    is_file,
    parse_cpu_mask,
    parse_host_nodes,
)
from hvkit.hypervisor.kvm.plan.parameters.checks import passes
from hvkit.hypervisor.node import find_interface_address, read_numa_nodes, read_online_cpus
from hvkit.hypervisor.parameters import DIRECTORY, EXECUTABLE_FILE, READABLE_FILE, Check, ParameterTable

#: The device through which the kernel provides vsock to guests.
VSOCK_DEVICE: Final = "/dev/vhost-vsock"
#: One directory for each size of huge pages that the kernel supports.
_HUGE_PAGES_DIR: Final = Path("/sys/kernel/mm/hugepages")
_CERTIFICATE_FILES: Final = ("ca-cert.pem", "server-cert.pem", "server-key.pem")


def _has_cpus(text: str) -> bool:
    """Return whether each affinity mask has an online CPU, which is all that the kernel requires."""
    return all(cpus is None or cpus & read_online_cpus() for cpus in parse_cpu_mask(text))


def _has_numa_nodes(text: str) -> bool:
    return frozenset[int]().union(*parse_host_nodes(text)) <= read_numa_nodes()


def _has_huge_pages(size: str) -> bool:
    return (_HUGE_PAGES_DIR / f"hugepages-{HUGE_PAGES[size] * 1024}kB").is_dir()


def _has_address(value: str) -> bool:
    return DIRECTORY.accepts(value) if value.startswith("/") else bool(find_interface_address(value))


def _has_certificates(directory: str) -> bool:
    return all(READABLE_FILE.accepts(f"{directory}/{name}") for name in _CERTIFICATE_FILES)


_CD_IMAGE: Final = Check(
    "a URL, or a readable file on this node", lambda image: not is_file(image) or READABLE_FILE.accepts(image)
)
_FLOPPY_IMAGE: Final = Check(READABLE_FILE.condition, lambda image: image == EMPTY or READABLE_FILE.accepts(image))
_VNC_ADDRESS: Final = Check(
    "an address, a network interface on this node with an IPv4 address, or a directory on this node", _has_address
)
_SPICE_ADDRESS: Final = Check("an address, or a network interface on this node with an IPv4 address", _has_address)
_CERTIFICATES: Final = Check(f"a directory on this node with {', '.join(_CERTIFICATE_FILES)}", _has_certificates)
_CPUS: Final = Check("CPUs that are online on this node", _has_cpus)

#: The node check of each parameter that has one.
NODE_CHECKS: Final[Mapping[str, Check]] = {
    "kvm_path": EXECUTABLE_FILE,
    "tpm": Check(
        "true only if swtpm is installed",
        lambda value: not value or bool(shutil.which("swtpm")),
        problem="swtpm is not installed",
    ),
    "vsock_cid": Check(
        f"other than 0 only if {VSOCK_DEVICE} exists",
        lambda value: not value or os.path.exists(VSOCK_DEVICE),
        problem=f"{VSOCK_DEVICE} does not exist; load the kernel module vhost_vsock",
    ),
    "cpu_mask": _CPUS,
    "io_thread_mask": _CPUS,
    "mem_path": DIRECTORY,
    "hugepages": Check("a size of huge pages that this node's kernel supports", _has_huge_pages),
    "numa_host_nodes": Check("NUMA nodes that this node has", _has_numa_nodes),
    "kernel_path": READABLE_FILE,
    "initrd_path": READABLE_FILE,
    "cdrom_image_path": _CD_IMAGE,
    "cdrom2_image_path": _CD_IMAGE,
    "floppy_image_path": _FLOPPY_IMAGE,
    "network_script": EXECUTABLE_FILE,
    "vnc_bind_address": _VNC_ADDRESS,
    "vnc_x509_path": _CERTIFICATES,
    "vnc_password_file": READABLE_FILE,
    "spice_bind": _SPICE_ADDRESS,
    "spice_password_file": READABLE_FILE,
    "spice_x509_path": _CERTIFICATES,
    "security_model": Check(
        "user or pool only if hvkit runs as root",
        lambda model: model == "none" or can_change_account(),
        problem="only root can start QEMU as another user",
    ),
    "security_domain": Check("a user of this node other than root", passes(find_account)),
    "use_chroot": Check(
        "true only if hvkit runs as root",
        lambda value: not value or can_change_account(),
        problem="only root can change the root directory of QEMU",
    ),
    "migration_tls_dir": DIRECTORY,
}

#: The parameters of the KVM plugin with both phases of checks.
NODE_TABLE: Final[ParameterTable] = TABLE.with_node_checks(NODE_CHECKS)


def resolve_interfaces(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the names of network interfaces to listen on by their addresses.

    Args:
        parameters: of the instance, filled and checked on this node.

    Returns:
        A copy of the parameters.
    """
    resolved = dict(parameters)
    for name in ("vnc_bind_address", "spice_bind"):
        place = parameters[name]
        if place and not place.startswith("/"):
            resolved[name] = find_interface_address(place)
    return resolved
