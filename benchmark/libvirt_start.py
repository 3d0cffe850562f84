# SPDX-License-Identifier: BSD-2-Clause
"""Starting a paused machine through libvirt: one start for each line of input; prints the seconds that it took.

The Python of the distribution runs this program, because it has libvirt's binding, in a mount namespace of its own.
libvirt's QEMU driver runs inside this process, with all its files in one directory. It requires an account that the
package of its daemon would create, so the program mounts copies of the account files that have it. Nothing outside the
namespace changes, and no daemon is involved. The program prints ``ready`` first.

Usage: libvirt_start.py DIRECTORY QEMU IMAGE
"""

import subprocess
import sys
import threading
import time
from pathlib import Path

import libvirt  # type: ignore[import-not-found]  # installed for the Python of the distribution only

_ACCOUNT = "libvirt-qemu"
_SETTINGS = """
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
dynamic_ownership = 0
remember_owner = 0
stdio_handler = "file"
"""
_DOMAIN = """
<domain type='qemu'>
  <name>bench</name>
  <memory unit='MiB'>64</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <features><acpi/></features>
  <devices>
    <emulator>{qemu}</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/><source file='{image}'/><target dev='vda' bus='virtio'/>
    </disk>
    <controller type='usb' model='none'/>
    <serial type='unix'><source mode='bind' path='{directory}/serial'/></serial>
    <memballoon model='virtio'/>
  </devices>
</domain>
"""


def _add_account(directory: Path) -> None:
    """Add the account that libvirt's driver requires, for this process and its children."""
    for file, line in (("passwd", f"{_ACCOUNT}:x:0:0::/:/bin/false"), ("group", f"{_ACCOUNT}:x:0:")):
        made = directory / file
        made.write_text(f"{Path('/etc', file).read_text()}{line}\n")
        subprocess.run(["mount", "--bind", made, f"/etc/{file}"], check=True)


def _serve_events() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


def main(directory: Path, qemu: str, image: str) -> None:
    """Start one machine for every line of input."""
    _add_account(directory)
    root = directory / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "qemu.conf").write_text(_SETTINGS)
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_serve_events, daemon=True).start()
    connection = libvirt.open(f"qemu:///embed?root={root}")
    domain = _DOMAIN.format(qemu=qemu, image=image, directory=directory)
    print("ready", flush=True)
    for _ in sys.stdin:
        start_s = time.perf_counter()
        started = connection.createXML(domain, libvirt.VIR_DOMAIN_START_PAUSED)
        print(time.perf_counter() - start_s, flush=True)
        started.destroy()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
