# SPDX-License-Identifier: BSD-2-Clause
"""Texts, attributes and pickling of the exceptions."""

from __future__ import annotations

import pickle

import pytest

from hvkit.errors import HypervisorError
from hvkit.hypervisor import errors

ALL = [
    (errors.PluginError("xen", "not known"), "hypervisor 'xen': not known"),
    (errors.ParameterError("acpi", 1, "expected true or false", ["a", "b"]), "acpi: expected true or false; did you "),
    (errors.InstanceNotFound("web1"), "web1: no such instance on this node"),
    (errors.InstanceStateError("web1", "running", "cannot be started"), "web1: cannot be started (it is running)"),
    (errors.InstanceBusy("web1", 12), "web1: locked by another operation (process 12); try again later"),
    (errors.InstanceBusy("web1"), "web1: locked by another operation; try again later"),
    (errors.InstanceStartError("web1", "exited with 1", "a\nb"), "web1: did not start: exited with 1: a | b"),
    (errors.InstanceError("web1", "no"), "web1: no"),
    (errors.ProgramError("/bin/true", "/bin/true is not QEMU", "a\nb"), "/bin/true is not QEMU: a | b"),
    (errors.HotplugError("web1", "disk-1", "slot taken"), "web1: device disk-1: slot taken"),
    (errors.BackupError("web1", "the disk is full"), "web1: backup: the disk is full"),
    (errors.SnapshotError("web1", "no room"), "web1: snapshot: no room"),
    (errors.AdoptionError("/run/qmp", "it has ended"), "/run/qmp: cannot be adopted: it has ended"),
    (errors.CaptureError("web1", "it has no screen"), "web1: capture: it has no screen"),
    (errors.MigrationError("web1", "refused"), "web1: migration: refused"),
    (
        errors.MigrationRefused(
            "web1",
            [
                errors.MigrationObstacle(errors.ObstacleKind.CPU, "CPU model: a on the source, and b here"),
                errors.MigrationObstacle(errors.ObstacleKind.DISK, "/x: No such file"),
            ],
        ),
        "web1: migration: CPU model: a on the source, and b here; /x: No such file",
    ),
    (errors.RuntimeStateError("web1", "/run/x", "no JSON"), "web1: /run/x: no JSON"),
    (errors.NotSupported("fake", "migration"), "hypervisor 'fake' does not support migration"),
]


@pytest.mark.parametrize(("error", "text"), ALL, ids=lambda value: type(value).__name__)
def test_error_has_expected_text_and_survives_pickling(error: HypervisorError, text: str) -> None:
    assert str(error).startswith(text)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(again) is type(error)
    assert (str(again), vars(again)) == (str(error), vars(error))


def test_list_of_errors_is_complete() -> None:
    defined = {value for value in vars(errors).values() if isinstance(value, type) and value is not HypervisorError}
    defined = {cls for cls in defined if issubclass(cls, HypervisorError)}
    assert defined == {type(error) for error, _ in ALL}


def test_parameter_error_keeps_unpicklable_value_as_text() -> None:
    assert errors.ParameterError("x", object, "no").value == "<class 'object'>"
