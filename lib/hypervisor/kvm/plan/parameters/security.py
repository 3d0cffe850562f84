# SPDX-License-Identifier: BSD-2-Clause
"""Parameters: confinement of QEMU."""

from collections.abc import Mapping
from typing import Any, Final

from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm.plan.confinement import parse_account_pool
from hvkit.hypervisor.kvm.plan.parameters.checks import WORD, passes
from hvkit.hypervisor.parameters import (
    Check,
    Parameter,
    Rule,
    one_of,
)


def _check_account_source(parameters: Mapping[str, Any]) -> None:
    for model, source in (("user", "security_domain"), ("pool", "security_pool")):
        if (parameters["security_model"] == model) is not bool(parameters[source]):
            problem = f"requires security_model {model}, not {parameters['security_model']}"
            if parameters["security_model"] == model:
                problem = f"security_model {model} requires it"
            raise ParameterError(source, parameters[source], problem)


PARAMETERS: Final = (
    Parameter(
        name="sandbox",
        kind=str,
        default="",
        doc="Whether QEMU runs in a seccomp sandbox, which forbids system calls that it does not need. Empty: if the "
        "program supports it.",
        syntax=one_of("", "enabled", "disabled"),
        advice=lambda value: (
            "a guest that takes over QEMU can start programs on this node" if value == "disabled" else None
        ),
    ),
    Parameter(
        name="security_model",
        kind=str,
        default="none",
        doc="User that QEMU runs as: that of hvkit (none), security_domain (user), or one of security_pool (pool).",
        syntax=one_of("none", "user", "pool"),
    ),
    Parameter(
        name="security_domain",
        kind=str,
        default="",
        doc="Name of the user that QEMU runs as, for security_model user.",
        syntax=WORD,
    ),
    Parameter(
        name="security_pool",
        kind=str,
        default="",
        doc="Range of user ids for security_model pool. The group ids are the same numbers. Reserve them for hvkit.",
        syntax=Check("user ids such as 60000-60999", passes(parse_account_pool)),
    ),
    Parameter(
        name="use_chroot",
        kind=bool,
        default=False,
        doc="Whether QEMU changes its root directory to an empty directory after it has created the machine.",
    ),
)

RULES: Final[tuple[Rule, ...]] = (_check_account_source,)
