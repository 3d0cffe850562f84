# SPDX-License-Identifier: BSD-2-Clause
"""The taps of an instance's NICs, and the network script that configures them.

The kernel removes a tap at the end of QEMU. Configuration by a network script has to be removed by the script. So the
state file lists the NICs that the script was run for, and the first operation after the end of QEMU runs it again with
``down``. The script gets the uuid of the NIC, which never changes.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final, Literal
from uuid import uuid4

import attrs

from hvkit.hypervisor.kvm.host.network import (
    NetworkError,
    Tap,
    TapOptions,
    check_bridge,
    has_interface,
    make_tap,
    open_tap,
    route_to,
    run_tool,
)
from hvkit.hypervisor.kvm.host.runtime import Runtime
from hvkit.hypervisor.kvm.plan.devices import TapFiles, default_tap_name, tap_name
from hvkit.hypervisor.model import Instance, Nic

_log: Final = logging.getLogger("hvkit.hypervisor.kvm")

#: The type of NIC that supports vhost-net and several queues.
_PARAVIRTUAL: Final = "paravirtual"


def plan_tap_options(parameters: Mapping[str, Any]) -> TapOptions:
    """Return how the taps of an instance are opened.

    Args:
        parameters: of the instance, filled and checked.
    """
    is_paravirtual = parameters["nic_type"] == _PARAVIRTUAL
    return TapOptions(
        queues=parameters["virtio_net_queues"] if is_paravirtual else 1,
        vnet_hdr=parameters["vnet_hdr"],
        vhost=parameters["vhost_net"] and is_paravirtual,
    )


def check_nic(nic: Nic, options: TapOptions, *, replaces: str) -> None:
    """Check that the tap of a NIC can be created, while the NIC that it replaces still exists.

    Args:
        nic: the NIC.
        options: how its tap is opened.
        replaces: the name of the interface that is removed first; empty for none.

    Raises:
        NetworkError: it cannot be created.
    """
    name = tap_name(nic)
    if nic.mode == "external":
        if name != replaces:
            open_tap(name, options).close()
    elif nic.has_tap:
        if name != replaces and has_interface(name):
            raise NetworkError(name, "cannot be created: an interface of that name exists")
        if nic.mode == "tap" and nic.link:
            check_bridge(name, nic.link)
        # Try it with a tap outside the bridge, where it is not visible to others.
        make_tap(default_tap_name(uuid4()), options, mtu=nic.mtu).close()


def open_nic(instance: Instance, nic: Nic, options: TapOptions, *, script: str) -> Tap:
    """Create or open the tap of a NIC, and run the network script with ``up``.

    After success the caller owns the tap, and calls `take_down_nic` after QEMU has closed it. After failure the tap is
    closed, and the script was run with ``down`` if it was run with ``up``.

    Args:
        instance: the instance of the NIC.
        nic: a NIC whose mode needs a tap.
        options: how to open the tap.
        script: the path of the network script; empty for none.

    Raises:
        NetworkError: the tap cannot be created or opened, or the script failed.
    """
    name = tap_name(nic)
    if nic.mode == "external":
        tap = open_tap(name, options)
    else:
        tap = make_tap(name, options, bridge=nic.link if nic.mode == "tap" else "", mtu=nic.mtu)
    try:
        if nic.mode == "routed":
            route_to(name, nic.ip, table=nic.link)
        _run_script(script, "up", instance, nic)
    except BaseException:
        tap.close()
        take_down_nic(instance, nic, script=script)
        raise
    return tap


def take_down_nic(instance: Instance, nic: Nic, *, script: str) -> None:
    """Run the network script of a NIC with ``down``. A failure is logged and otherwise ignored."""
    try:
        _run_script(script, "down", instance, nic)
    except NetworkError as error:
        _log.warning("%s: %s", instance.name, error)


def take_down_nics(runtime: Runtime) -> None:
    """Run the network script with ``down`` for the NICs of an instance whose process has ended.

    After a crash the next operation does so again, so the script may be run twice for a NIC.
    """
    nics = {nic.uuid: nic for nic in runtime.instance.nics}
    for record in runtime.devices:
        if record.script and record.uuid in nics:
            take_down_nic(runtime.instance, nics[record.uuid], script=record.script)


def tap_files(tap: Tap) -> TapFiles:
    """Return how QEMU refers to a tap whose descriptors it inherits."""
    return TapFiles(queues=tuple(map(str, tap.queues)), vhosts=tuple(map(str, tap.vhosts)))


def without_scripts(runtime: Runtime) -> Runtime:
    """Return the state to persist after `take_down_nics`."""
    return attrs.evolve(runtime, devices=tuple(attrs.evolve(record, script="") for record in runtime.devices))


def _run_script(script: str, what: Literal["up", "down"], instance: Instance, nic: Nic) -> None:
    if script:
        run_tool(tap_name(nic), [script, what], _script_environment(instance, nic))


def _script_environment(instance: Instance, nic: Nic) -> dict[str, str]:
    """Return the environment of the network script, with the variables of Ganeti's network scripts."""
    return {
        "INSTANCE": instance.name,
        "INSTANCE_UUID": str(instance.uuid),
        "INTERFACE": tap_name(nic),
        "INTERFACE_UUID": str(nic.uuid),
        "MODE": nic.mode,
        "LINK": nic.link,
        "MAC": nic.mac,
        "IP": nic.ip,
        "MTU": str(nic.mtu) if nic.mtu else "",
    }
