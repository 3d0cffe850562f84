# SPDX-License-Identifier: BSD-2-Clause
"""The root exception classes: `HypervisorError` for runtime failures, `ProgrammerError` for programming errors.

All exception classes of the package::

    HvkitError
    ├── HypervisorError             failures of QEMU, the kernel, the peer or the operator
    │   ├── QmpError                                                                       hvkit.qmp.errors
    │   │   ├── ConnectError        the connection could not be established
    │   │   │   └── AgentNotResponding      the guest agent does not answer; nothing was sent
    │   │   ├── ConnectionLost      the connection ended
    │   │   ├── CommandTimeout      a deadline passed; the outcome of the command is unknown
    │   │   │   └── AgentProgramTimeout     a program in the guest did not end in time
    │   │   ├── AgentFreezeExpired  the guest's filesystems did not stay frozen
    │   │   ├── EventTimeout        no matching event arrived in time
    │   │   │   └── JobTimeout      a job did not end in time; it continues
    │   │   ├── NotInThisQemu       this QEMU lacks the command or member; nothing was sent
    │   │   ├── JobError            a job failed
    │   │   │   └── JobCancelled    a job was cancelled
    │   │   ├── ProtocolError       the peer violated the protocol
    │   │   ├── DataError           received data does not match the schema; ALSO a ProgrammerError
    │   │   └── CommandError        QEMU refused the command
    │   │       ├── DeviceNotFound, DeviceNotActive, KvmMissingCapability
    │   │       └── CommandNotFound
    │   │           └── AgentCommandDisabled  the guest agent does not allow the command
    │   ├── InstanceError           an operation on one instance failed                    hvkit.hypervisor.errors
    │   │   ├── InstanceNotFound    this node has no instance of that name
    │   │   ├── InstanceStateError  the state of the instance does not allow the operation
    │   │   ├── InstanceBusy        another operation holds the lock of the instance
    │   │   ├── InstanceStartError  the instance did not start
    │   │   ├── HotplugError        a device could not be added, removed or changed
    │   │   ├── BackupError         disks could not be backed up
    │   │   ├── SnapshotError       a snapshot or an overlay could not be created, used or deleted
    │   │   ├── CaptureError        a screenshot or a memory dump could not be taken
    │   │   ├── MigrationError      a migration could not be started, or failed
    │   │   │   └── MigrationRefused        the node cannot provide the machine of the source
    │   │   └── RuntimeStateError   a state file cannot be read or written
    │   ├── ParameterError          a parameter or a device cannot be used
    │   ├── AdoptionError           an external instance cannot be inspected or adopted
    │   ├── PluginError             a hypervisor is unknown, or its plugin cannot be loaded
    │   ├── ProgramError            the program that runs instances cannot be used
    │   ├── NotSupported            the hypervisor does not have the capability
    │   ├── ProcessError            the kernel refuses an operation on a process or socket  hvkit.hypervisor.kvm
    │   │   └── TpmError            the TPM emulator cannot be started
    │   ├── NetworkError            a network interface cannot be set up
    │   ├── BlockNodeNotFound       QEMU has no block node of that name
    │   └── SpecError               the description of an instance in a file is invalid     hvkit.cli.spec
    └── ProgrammerError             mistakes of hvkit or its caller

`DataError` belongs to both families. A daemon that catches `HypervisorError` for each instance must survive invalid
data from one of them. The interface that hvkit implements requires `ProgrammerError` for data that cannot be
deserialized.
"""


class HvkitError(Exception):
    """Base class of all exceptions that hvkit defines."""


class HypervisorError(HvkitError):
    """Raised for a failure outside of hvkit and its caller: of QEMU, the kernel, the peer or the operator."""


class ProgrammerError(HvkitError):
    """Raised for a mistake of hvkit or its caller, such as a call out of order or an argument of the wrong type."""
