# SPDX-License-Identifier: BSD-2-Clause
"""The exception behind the error replies of the simulated QEMU."""


class QmpRefusal(Exception):
    """Raised when the simulator answers a command with an error.

    Attributes:
        description: the error's ``desc``, in QEMU's wording.
        error_class: the error's ``class``.
    """

    def __init__(self, description: str, error_class: str = "GenericError") -> None:
        super().__init__(description)
        self.description = description
        self.error_class = error_class
