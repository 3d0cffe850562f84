# SPDX-License-Identifier: BSD-2-Clause
"""hvkit: run virtual machines through a typed protocol.

`hvkit.qmp` is a typed client of the QEMU Machine Protocol; `hvkit.hypervisor` runs instances over it. Importing this
package imports neither.
"""

__version__ = "0.1.0"
