# SPDX-License-Identifier: BSD-2-Clause
"""Conformance suite: the contract of `BaseHypervisor` as pytest tests for any plugin.

A plugin's tests derive a class from `HypervisorConformance` and define the fixture ``subject``::

    class TestConformance(HypervisorConformance):
        @pytest.fixture
        def subject(self, tmp_path):
            return Subject(open=lambda: MyHypervisor(run_dir=tmp_path / "run"), make_instance=..., make_broken=...)

To see the compared values of a failed assertion, call
``pytest.register_assert_rewrite("hvkit.testing.conformance")`` in a conftest.py before the first import.
"""

from hvkit.testing.conformance.calls import BAD_NAMES, call_optional_method
from hvkit.testing.conformance.lifecycle import LifecycleTests
from hvkit.testing.conformance.optional import OptionalMethodTests
from hvkit.testing.conformance.parameters import ParameterTests
from hvkit.testing.conformance.reports import ReportTests
from hvkit.testing.conformance.subject import Subject

__all__ = ["BAD_NAMES", "HypervisorConformance", "Subject", "call_optional_method"]


class HypervisorConformance(LifecycleTests, ReportTests, ParameterTests, OptionalMethodTests):
    """All conformance tests. Instances are stopped and cleaned up after each test, also after a failure."""
