# SPDX-License-Identifier: BSD-2-Clause
"""The node's side of an instance's NICs: opened before QEMU, and taken down after it.

A tap needs no taking down, for it goes when its QEMU goes. What a script set up for it does: so it is remembered which
NICs a script has seen, and whoever first works on the instance once its process has ended runs the script again. The
script gets the NIC's uuid, which stays the same while NICs come and go.
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

#: The types of NIC for which the kernel can move packets, and that can have several queues.
_PARAVIRTUAL: Final = "paravirtual"


def plan_tap_options(parameters: Mapping[str, Any]) -> TapOptions:
    """Return how the taps of an instance are opened, from its parameters, which are filled and checked."""
    is_paravirtual = parameters["nic_type"] == _PARAVIRTUAL
    return TapOptions(
        queues=parameters["virtio_net_queues"] if is_paravirtual else 1,
        vnet_hdr=parameters["vnet_hdr"],
        vhost=parameters["vhost_net"] and is_paravirtual,
    )


def check_nic(nic: Nic, options: TapOptions, *, replaces: str) -> None:
    """Find out whether the interface of a NIC could be made, as far as that can be told while another one is there.

    Args:
        nic: the NIC.
        options: how its tap is to be opened.
        replaces: name of the interface that goes before this one comes; empty for none.

    Raises:
        NetworkError: it could not.
    """
    name = tap_name(nic)
    if nic.mode == "external":
        if name != replaces:
            open_tap(name, options).close()
    elif nic.has_tap:
        if name != replaces and has_interface(name):
            raise NetworkError(name, "cannot be made: there is an interface of that name already")
        if nic.mode == "tap" and nic.link:
            check_bridge(name, nic.link)
        # One that joins no bridge: there it could be seen.
        make_tap(default_tap_name(uuid4()), options, mtu=nic.mtu).close()


def open_nic(instance: Instance, nic: Nic, options: TapOptions, *, script: str) -> Tap:
    """Make or open the tap of a NIC, and have the script set up what it will.

    After success the caller has the tap, and calls `take_down_nic` once no QEMU has it any more. After failure there is
    no tap of ours, and the script was told that the NIC goes if it was told that it comes.

    Args:
        instance: whose it is.
        nic: one that has a tap.
        options: how to open it.
        script: path of the network script; empty for none.

    Raises:
        NetworkError: it cannot be made or opened, or the script failed.
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
    """Have the script take down what it set up for a NIC. What it says is logged; nothing can be done about it."""
    try:
        _run_script(script, "down", instance, nic)
    except NetworkError as error:
        _log.warning("%s: %s", instance.name, error)


def take_down_nics(runtime: Runtime) -> None:
    """Have the script take down what it set up for the NICs of an instance whose process has ended.

    Whoever dies over it leaves it to the next one, who may tell the script a second time.
    """
    nics = {nic.uuid: nic for nic in runtime.instance.nics}
    for record in runtime.devices:
        if record.script and record.uuid in nics:
            take_down_nic(runtime.instance, nics[record.uuid], script=record.script)


def tap_files(tap: Tap) -> TapFiles:
    """Return what QEMU is told of a tap whose open files it inherits."""
    return TapFiles(queues=tuple(map(str, tap.queues)), vhosts=tuple(map(str, tap.vhosts)))


def without_scripts(runtime: Runtime) -> Runtime:
    """Return what is to be remembered once `take_down_nics` is done."""
    return attrs.evolve(runtime, devices=tuple(attrs.evolve(record, script="") for record in runtime.devices))


def _run_script(script: str, what: Literal["up", "down"], instance: Instance, nic: Nic) -> None:
    if script:
        run_tool(tap_name(nic), [script, what], _script_environment(instance, nic))


def _script_environment(instance: Instance, nic: Nic) -> dict[str, str]:
    """Say all there is to know of a NIC in the words that Ganeti's scripts know."""
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
