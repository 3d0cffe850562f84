# SPDX-License-Identifier: BSD-2-Clause
"""The two families of errors: the world's fault, and ours.

The whole tree, so that a caller can choose what to catch::

    HvkitError
    ├── HypervisorError             the world: QEMU, the kernel, the peer, the operator
    │   ├── QmpError                                                         hvkit.qmp.errors
    │   │   ├── ConnectError        the monitor never became usable
    │   │   │   └── AgentNotResponding      no answer from the guest agent; nothing was sent
    │   │   ├── ConnectionLost      it was usable and went away
    │   │   ├── CommandTimeout      a deadline passed; what became of the command is unknown
    │   │   │   └── AgentProgramTimeout     a program in the guest did not end in time
    │   │   ├── AgentFreezeExpired  the guest's filesystems did not stay frozen
    │   │   ├── EventTimeout        no event that was waited for came in time
    │   │   │   └── JobTimeout      a job did not end in time; it continues
    │   │   ├── NotInThisQemu       it lacks what it is asked for; nothing was sent
    │   │   ├── JobError            a job failed
    │   │   │   └── JobCancelled    it was cancelled
    │   │   ├── ProtocolError       the peer broke the protocol
    │   │   ├── DataError           what the peer sent does not fit; ALSO a ProgrammerError
    │   │   └── CommandError        QEMU said no
    │   │       ├── DeviceNotFound, DeviceNotActive, KvmMissingCapability
    │   │       └── CommandNotFound
    │   │           └── AgentCommandDisabled  the guest agent has it, and will not
    │   ├── PluginError             no such hypervisor, or one that cannot be loaded  hvkit.hypervisor.errors
    │   ├── ParameterError          a parameter or a device that cannot be used
    │   ├── InstanceNotFound        no instance of that name here
    │   ├── InstanceStateError      the instance is not in a state that allows this
    │   ├── InstanceBusy            somebody else is working on the instance
    │   ├── InstanceStartError      QEMU did not come up
    │   ├── HotplugError            a device could not be added, removed or changed
    │   ├── BackupError             disks could not be backed up
    │   ├── SnapshotError           a snapshot could not be taken, used or given up
    │   ├── CaptureError            a picture of a screen, or a dump of memory, could not be taken
    │   ├── AdoptionError           a machine that somebody else started could not be taken over
    │   ├── MigrationError          a migration could not be started or did not end well
    │   │   └── MigrationRefused    the node cannot be what the instance is on its source
    │   ├── RuntimeStateError       what is remembered of an instance cannot be read
    │   └── NotSupported            this hypervisor does not have that capability
    └── ProgrammerError             us or our caller

Received garbage is in both families (`DataError`): a node daemon that guards one machine with
``except HypervisorError`` must survive that machine's garbage, and an interface that promises `ProgrammerError` for
data that cannot be deserialized keeps its word.
"""


class HvkitError(Exception):
    """The root of every error that hvkit raises on purpose."""


class HypervisorError(HvkitError):
    """Raised when the world does not do its part: QEMU, the kernel, the peer or the operator."""


class ProgrammerError(HvkitError):
    """Raised when hvkit or its caller is wrong: a call out of order, an argument that cannot be sent."""
