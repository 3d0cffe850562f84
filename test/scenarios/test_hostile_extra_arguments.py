# SPDX-License-Identifier: BSD-2-Clause
"""Hostile extra arguments: refused, or without effect on the management of any instance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from hvkit.hypervisor import Instance, InstanceStartError, InstanceState, StopCause
from hvkit.hypervisor.errors import ParameterError
from hvkit.hypervisor.kvm import KvmHypervisor
from hvkit.hypervisor.kvm.host.paths import RunDirectory
from hvkit.hypervisor.kvm.lifecycle import start
from hvkit.qmp import QmpConnection
from hvkit.qmp.schema import QueryName

MakeInstance = Callable[..., Instance]

pytestmark = pytest.mark.qemu

#: Arguments that QEMU accepts. DIR is a directory of the test.
HARMLESS: Final = (
    "-qmp unix:DIR/more,server=on,wait=off",
    "-qmp stdio",
    "-monitor stdio",
    "-monitor none -serial none -parallel none",
    "-mon chardev=more,mode=readline -chardev null,id=more",
    "-msg timestamp=on,guest-name=on",
    "-d in_asm",
    "-machine hpet=off",
    "-gdb unix:DIR/gdb,server=on,wait=off",
    "-snapshot",
    "-global isa-debugcon.iobase=0x402",
    "-display vnc=unix:DIR/vnc",
    "-compat deprecated-input=crash,deprecated-output=hide",
)

#: Arguments with which QEMU does not start, and the reason in the error.
FATAL: Final = {
    "-mon chardev=control,mode=control": "'control' is in use",
    "-chardev null,id=control": "Duplicate ID 'control'",
    "-chardev null,id=serial0": "Duplicate ID 'serial0'",
    "-serial stdio": "Duplicate ID 'serial0'",
    "-device help": "QEMU ended with exit code 0",
    "-smbios type=1,uuid=00000000-0000-4000-8000-000000000001": "the machine that answers calls itself web1, with uuid",
    "-set chardev.control.server=off": "QEMU ended",
    "-add-fd fd=3,set=99": "fd is not valid or already in use",
    "-no-such-option": "invalid option",
}


@pytest.fixture
def beside(kvm: KvmHypervisor, make_toy: MakeInstance) -> Iterator[Instance]:
    """A second instance that runs until the end of the test."""
    beside = make_toy("beside")
    kvm.start_instance(beside)
    yield beside
    _assert_is_managed(kvm, beside)


def _assert_is_managed(kvm: KvmHypervisor, instance: Instance) -> None:
    (info,) = (each for each in kvm.get_all_instances_info() if each.name == instance.name)
    assert (info.state, info.uuid, info.vcpus) == (InstanceState.RUNNING, instance.uuid, instance.vcpus)
    paths = RunDirectory(kvm.run_dir).instance(instance.name)
    for path in (paths.control_socket, paths.shared_socket):
        with QmpConnection(path) as monitor:
            assert monitor.execute(QueryName()).name == instance.name


@pytest.mark.usefixtures("beside")
@pytest.mark.parametrize("extra", HARMLESS)
def test_harmless_extra_arguments_do_not_affect_other_instances(
    kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path, extra: str
) -> None:
    toy = make_toy(parameters={"kvm_extra": extra.replace("DIR", str(tmp_path))})
    kvm.start_instance(toy)
    assert kvm.list_instances() == ["beside", "web1"]
    _assert_is_managed(kvm, toy)
    with kvm.monitor("web1") as monitor:
        monitor.execute("quit")
    # QEMU ends after its reply to quit.
    paths = RunDirectory(kvm.run_dir).instance("web1")
    kvm.stop_instance("web1", force=True)
    info = kvm.get_instance_info("web1")
    assert (info.state, info.cause) == (InstanceState.SHUTDOWN, StopCause.REQUEST)
    kvm.cleanup_instance("web1")
    assert not paths.dir.exists()


@pytest.mark.usefixtures("beside")
@pytest.mark.parametrize(("extra", "reason"), FATAL.items())
def test_start_with_invalid_extra_arguments_leaves_nothing(
    kvm: KvmHypervisor, make_toy: MakeInstance, extra: str, reason: str
) -> None:
    with pytest.raises(InstanceStartError) as caught:
        kvm.start_instance(make_toy(parameters={"kvm_extra": extra}))
    assert reason in str(caught.value)
    assert kvm.list_instances() == ["beside"]


@pytest.mark.usefixtures("beside")
def test_qemu_that_waits_for_a_connection_is_terminated(
    kvm: KvmHypervisor, make_toy: MakeInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "_GREETING_S", 1.0)
    with pytest.raises(InstanceStartError, match="QEMU waiting for connection"):
        kvm.start_instance(make_toy(parameters={"kvm_extra": f"-qmp unix:{tmp_path}/more,server=on"}))
    assert kvm.list_instances() == ["beside"]


@pytest.mark.parametrize(
    "extra",
    [
        "-qmp unix:{control},server=on,wait=off",
        "-chardev socket,id=more,path={shared},server=on,wait=off",
        "-chardev file,id=more,path={runtime}",
        '-device \'{{"driver":"isa-serial","x":"{escaped}"}}\'',
        "-drive file={runtime},format=raw",
        "-qmp unix:{around},server=on,wait=off",
    ],
    ids=["monitor", "chardev", "file", "json", "drive", "around"],
)
def test_extra_arguments_with_files_of_another_instance_are_refused(
    kvm: KvmHypervisor, make_toy: MakeInstance, beside: Instance, extra: str
) -> None:
    paths = RunDirectory(kvm.run_dir).instance(beside.name)
    words = extra.format(
        control=paths.control_socket,
        shared=paths.shared_socket,
        runtime=paths.runtime_file,
        escaped=str(paths.runtime_file).replace("/", "\\/"),
        around=f"{kvm.run_dir}/../{kvm.run_dir.name}/./sockets/{paths.control_socket.name}",
    )
    with pytest.raises(ParameterError, match="which is reserved for hvkit") as caught:
        kvm.start_instance(make_toy(parameters={"kvm_extra": words}))
    assert caught.value.name == "kvm_extra"
    assert kvm.list_instances() == ["beside"]
