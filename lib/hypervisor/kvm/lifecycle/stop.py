# SPDX-License-Identifier: BSD-2-Clause
"""The stop of an instance, whose cause and reason are persisted."""

import logging
from typing import Final

import attrs

from hvkit.hypervisor.errors import RuntimeStateError
from hvkit.hypervisor.kvm.host.log import read_log_end
from hvkit.hypervisor.kvm.host.nics import take_down_nics, without_scripts
from hvkit.hypervisor.kvm.host.paths import remove_socket
from hvkit.hypervisor.kvm.host.process import Process
from hvkit.hypervisor.kvm.host.runtime import Phase, Runtime
from hvkit.hypervisor.kvm.host.tpm import end_tpm
from hvkit.hypervisor.kvm.instance.handle import InstanceHandle
from hvkit.hypervisor.kvm.instance.state import find_process
from hvkit.hypervisor.kvm.instance.stop import ENDED_BY_ITSELF, stop_process
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model import check_timeout

_log = logging.getLogger(__name__)

#: The default timeout for the guest to shut down, in seconds.
_GUEST_S: Final = 60.0


class StopVerbs(KvmSubject):
    """Stops instances."""

    def stop_instance(
        self, name: str, *, force: bool = False, timeout: float | None = None, retry: bool = False
    ) -> None:
        """Stop an instance. The default timeout is 60 s.

        The ACPI power button event is sent again every few seconds, because a guest that is booting misses it. After
        the timeout, or at once with `force`, QEMU is told to quit; if it does not, it is sent SIGTERM and SIGKILL. A
        guest whose vCPUs are stopped is not shut down gracefully. An instance whose state file cannot be read is
        stopped as well.
        """
        guest_timeout_s = check_timeout(timeout, default_s=_GUEST_S)
        handle = self._instances.require(name)
        if force:
            guest_timeout_s = 0.0
        with handle.locked():
            runtime = handle.load_if_sound()
            process = find_process(runtime, handle.paths)
            if process is None:
                return
            with process:
                if runtime is None:
                    stop_process(process, handle.paths, guest_timeout_s=guest_timeout_s, sends_powerdown=not retry)
                else:
                    _stop_and_persist(
                        handle, runtime, process, guest_timeout_s=guest_timeout_s, sends_powerdown=not retry
                    )
            handle.paths.remove_traces()


def _stop_and_persist(
    handle: InstanceHandle, runtime: Runtime, process: Process, *, guest_timeout_s: float, sends_powerdown: bool
) -> None:
    """End the QEMU of an instance, release its host resources, and persist the cause and the reason of the end.

    The stop continues if the state file cannot be written, for example because the disk is full. The state is then
    derived from the log and the pid file of QEMU.
    """
    if not runtime.has_acpi or runtime.phase is Phase.STARTING:  # no power button, or the guest never ran
        guest_timeout_s = 0.0
    paths = handle.paths
    runtime = attrs.evolve(runtime, process=process.identity)
    _persist_if_possible(handle, attrs.evolve(runtime, phase=Phase.STOPPING))
    try:
        result = stop_process(process, paths, guest_timeout_s=guest_timeout_s, sends_powerdown=sends_powerdown)
    except BaseException:
        _persist_if_possible(handle, runtime)
        raise
    end_tpm(paths.tpm_dir)
    take_down_nics(runtime)
    remove_socket(runtime.incoming_socket)
    remove_socket(runtime.copies_target)
    if result is ENDED_BY_ITSELF:
        result = attrs.evolve(result, cause=read_log_end(paths.log_file).cause)
    stopped = attrs.evolve(without_scripts(runtime), phase=Phase.STOPPED)
    _persist_if_possible(handle, attrs.evolve(stopped, reason=result.reason, stop_cause=result.cause))


def _persist_if_possible(handle: InstanceHandle, runtime: Runtime) -> None:
    try:
        handle.persist(runtime)
    except RuntimeStateError as error:
        _log.warning("%s", error)
