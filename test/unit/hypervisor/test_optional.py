# SPDX-License-Identifier: BSD-2-Clause
"""Declarations of optional methods, and the errors in their contracts."""

from __future__ import annotations

import pytest

from hvkit.hypervisor import BaseHypervisor, Capability
from hvkit.hypervisor.base import OPTIONAL_METHODS
from hvkit.testing.conformance.calls import OPTIONAL, OPTIONAL_BY_NAME, OPTIONAL_LOCKED, OPTIONAL_NOT_WHEN_STOPPED

DECLARED = {method for methods in OPTIONAL_METHODS.values() for method in methods}


def contract_of(method: str) -> str:
    contract = getattr(BaseHypervisor, method).__doc__
    assert contract
    return str(contract)


def test_every_capability_has_methods() -> None:
    assert set(OPTIONAL_METHODS) == set(Capability)


def test_conformance_suite_calls_every_optional_method() -> None:
    assert set(OPTIONAL) == DECLARED


@pytest.mark.parametrize("method", sorted(DECLARED))
def test_contract_lists_the_errors_that_the_conformance_suite_checks(method: str) -> None:
    contract = contract_of(method)
    assert "NotSupported: the hypervisor does not have " in contract
    assert ("InstanceNotFound: " in contract) or method not in OPTIONAL_BY_NAME
    assert ("InstanceStateError: " in contract) or method not in OPTIONAL_NOT_WHEN_STOPPED
    assert ("InstanceBusy: " in contract) or method not in OPTIONAL_LOCKED
