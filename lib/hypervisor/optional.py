# SPDX-License-Identifier: BSD-2-Clause
"""What the parts of the interface that not every hypervisor has stand on."""

from __future__ import annotations

from typing import ClassVar, NoReturn

from hvkit.hypervisor.errors import NotSupported
from hvkit.hypervisor.model import Capability


class OptionalMethods:
    """Methods that a hypervisor has where it declares their capability, and that raise `NotSupported` otherwise.

    Attributes:
        name: what the hypervisor is called.
    """

    name: ClassVar[str]

    def _lacks(self, capability: Capability) -> NoReturn:
        raise NotSupported(self.name, capability.value)
