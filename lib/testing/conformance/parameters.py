# SPDX-License-Identifier: BSD-2-Clause
"""Conformance tests of instance names and parameters."""

from __future__ import annotations

import pickle

import attrs
import pytest

from hvkit.hypervisor import BaseHypervisor, InstanceNotFound, ParameterError
from hvkit.testing.conformance.calls import BAD_NAMES, BY_NAME
from hvkit.testing.conformance.subject import ConformanceFixtures, Subject


class ParameterTests(ConformanceFixtures):
    """Tests of the checks of instance names and parameters."""

    @pytest.mark.parametrize("method", BY_NAME)
    @pytest.mark.parametrize("name", BAD_NAMES)
    def test_method_rejects_invalid_name(self, hypervisor: BaseHypervisor, method: str, name: str) -> None:
        with pytest.raises(ParameterError):
            BY_NAME[method](hypervisor, name)

    @pytest.mark.parametrize("method", sorted(BY_NAME.keys() - {"cleanup_instance"}))
    def test_method_with_unknown_instance_raises_not_found(self, hypervisor: BaseHypervisor, method: str) -> None:
        with pytest.raises(InstanceNotFound) as caught:
            BY_NAME[method](hypervisor, "unknown")
        assert caught.value.instance == "unknown"
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 - our own bytes

    def test_parameter_defaults_pass_syntax_check(self, hypervisor: BaseHypervisor) -> None:
        hypervisor.check_parameter_syntax({})
        hypervisor.check_parameter_syntax({name: each.default for name, each in hypervisor.PARAMETERS.items()})

    def test_parameter_checks_reject_unknown_parameter(self, hypervisor: BaseHypervisor) -> None:
        for check in (
            hypervisor.check_parameter_syntax,
            hypervisor.validate_parameters,
            hypervisor.assess_parameters,
        ):
            with pytest.raises(ParameterError) as caught:
                check({"no_such_parameter": 1})
            assert caught.value.name == "no_such_parameter"

    def test_syntax_check_rejects_value_of_wrong_type(self, hypervisor: BaseHypervisor) -> None:
        for name in hypervisor.PARAMETERS:
            with pytest.raises(ParameterError) as caught:
                hypervisor.check_parameter_syntax({name: ["a list"]})
            assert caught.value.name == name

    def test_start_with_unknown_parameter_leaves_no_instance(
        self, subject: Subject, hypervisor: BaseHypervisor
    ) -> None:
        instance = subject.make_instance("conform")
        parameters = {**instance.parameters, "no_such_parameter": 1}
        with pytest.raises(ParameterError):
            hypervisor.start_instance(attrs.evolve(instance, parameters=parameters))
        assert hypervisor.list_instances() == []
