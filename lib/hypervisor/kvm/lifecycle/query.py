# SPDX-License-Identifier: BSD-2-Clause
"""Listings and states of instances, queried once or watched. No lock is taken, and no instance is changed."""

from hvkit.hypervisor.kvm.instance.watch import KvmWatch
from hvkit.hypervisor.kvm.subject import KvmSubject
from hvkit.hypervisor.model.reports import InstanceInfo
from hvkit.hypervisor.watch import InstanceWatch


class QueryVerbs(KvmSubject):
    """Reports which instances there are, and their states."""

    def list_instances(self) -> list[str]:
        return self._instances.directory.names()

    def get_instance_info(self, name: str) -> InstanceInfo:
        return self._instances.require(name).query()

    def get_all_instances_info(self) -> list[InstanceInfo]:
        """Return the current state of every instance, in the order of `list_instances`.

        All are queried before any reply is awaited. The timeout for those that do not answer is two seconds in total.
        """
        return self._instances.query_all()

    def watch(self) -> InstanceWatch:
        """Return a watch over all instances.

        It keeps a connection to the watch monitor of each instance. Only one watch of a `run_dir`, among all processes,
        holds the watch monitors. Until it is closed or its process ends, every other watch connects for each query,
        like `get_all_instances_info`. A watch also trims the logs of all instances once a minute.
        """
        return KvmWatch(self._instances)
