# SPDX-License-Identifier: BSD-2-Clause
"""Parameters: what QEMU is confined to."""

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


def _account_has_its_source(parameters: Mapping[str, Any]) -> None:
    for model, source in (("user", "security_domain"), ("pool", "security_pool")):
        if (parameters["security_model"] == model) is not bool(parameters[source]):
            problem = f"{source} is for security_model {model}, which is {parameters['security_model']}"
            if parameters["security_model"] == model:
                problem = f"security_model {model} needs it"
            raise ParameterError(source, parameters[source], problem)


PARAMETERS: Final = (
    Parameter(
        name="sandbox",
        kind=str,
        default="",
        doc="Whether the kernel refuses QEMU the system calls that it does not need: enabled demands that, disabled"
        " does without; empty: where the QEMU program can.",
        syntax=one_of("", "enabled", "disabled"),
        advice=lambda value: (
            "a guest that takes over QEMU can start programs on this node" if value == "disabled" else None
        ),
    ),
    Parameter(
        name="security_model",
        kind=str,
        default="none",
        doc="Who QEMU runs as: whoever starts it (none), the user security_domain (user), or one of security_pool"
        " that no other instance has (pool).",
        syntax=one_of("none", "user", "pool"),
    ),
    Parameter(
        name="security_domain",
        kind=str,
        default="",
        doc="User of this node that QEMU runs as, for security_model user.",
        syntax=WORD,
    ),
    Parameter(
        name="security_pool",
        kind=str,
        default="",
        doc="User ids for security_model pool, such as 60000-60999. Their groups have the same numbers. Nobody else"
        " should have them.",
        syntax=Check("user ids such as 60000-60999", passes(parse_account_pool)),
    ),
    Parameter(
        name="use_chroot",
        kind=bool,
        default=False,
        doc="Whether QEMU's root directory is an empty one once its machine is made.",
    ),
)

RULES: Final[tuple[Rule, ...]] = (_account_has_its_source,)
