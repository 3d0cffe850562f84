#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Back up a disk of a running virtual machine to a qcow2 file, and show the progress.

    backup.py /run/vm1.sock disk0 /backup/vm1-disk0.qcow2

The backup has the disk's content at the start of the job. The disk is given by its block node name. QEMU writes the
file, so the path must be valid for the QEMU process. Ctrl-C cancels the job and leaves an incomplete file; after the
job has completed it has no effect.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from hvkit.errors import HypervisorError
from hvkit.qmp import QmpConnection
from hvkit.qmp.jobs import Job, JobProgress, run_job
from hvkit.qmp.schema import (
    BlockdevAdd,
    BlockdevBackup,
    BlockdevCreate,
    BlockdevCreateOptionsFile,
    BlockdevCreateOptionsQcow2,
    BlockdevDel,
    BlockdevOptionsFile,
    BlockdevOptionsQcow2,
    QueryNamedBlockNodes,
)

JOB, FILE, IMAGE = "backup", "backup-file", "backup-image"


def size_of(connection: QmpConnection, node: str) -> int:
    """Return the virtual size of a block node in bytes."""
    for each in connection.execute(QueryNamedBlockNodes(flat=True)):
        if each.node_name == node:
            return each.image.virtual_size
    sys.exit(f"block node {node} does not exist")


def show(progress: JobProgress) -> None:
    """Print the progress on the current line."""
    done = "" if progress.fraction is None else f" {progress.fraction:4.0%}"
    rate = "" if progress.bytes_per_s is None else f" {progress.bytes_per_s / 2**20:.0f} MiB/s"
    print(f"\r{progress.status}{done}{rate}".ljust(40), end="", flush=True)


def copy(connection: QmpConnection, node: str, bytes_per_s: int | None, interrupted: threading.Event) -> None:
    """Copy a block node to the open image. Cancel the job when `interrupted` is set."""
    command = BlockdevBackup(job_id=JOB, device=node, target=IMAGE, sync="full", speed=bytes_per_s)
    with Job.start(connection, command) as job:
        for progress in job.progress(interval_s=0.2):
            show(progress)
            if interrupted.is_set():
                job.cancel()  # no effect on a completed job
        print()
        job.wait()  # raises if the job failed


def back_up(connection: QmpConnection, node: str, path: str, bytes_per_s: int | None) -> None:
    """Create and open an image, copy a block node to it, and close it. Ctrl-C cancels the job."""
    interrupted = threading.Event()  # KeyboardInterrupt would break the connection within a command
    signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    size = size_of(connection, node)
    file = BlockdevCreateOptionsFile(filename=path, size=0)
    run_job(connection, BlockdevCreate(job_id=JOB, options=file), timeout=60)
    connection.execute(BlockdevAdd(BlockdevOptionsFile(driver="file", node_name=FILE, filename=path)))
    try:
        image = BlockdevCreateOptionsQcow2(file=FILE, size=size)
        run_job(connection, BlockdevCreate(job_id=JOB, options=image), timeout=60)
        connection.execute(BlockdevAdd(BlockdevOptionsQcow2(node_name=IMAGE, file=FILE)))
        try:
            copy(connection, node, bytes_per_s, interrupted)
        finally:
            connection.execute(BlockdevDel(node_name=IMAGE))
    finally:
        connection.execute(BlockdevDel(node_name=FILE))


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description="back up a disk of a running virtual machine to a qcow2 file")
    parser.add_argument("address", help="QMP socket: a path, or @name for an abstract socket")
    parser.add_argument("node", help="block node name of the disk")
    parser.add_argument("path", help="backup file to create")
    parser.add_argument("--speed", type=int, metavar="MIB", help="limit in MiB per second")
    arguments = parser.parse_args()
    bytes_per_s = None if arguments.speed is None else arguments.speed * 2**20
    try:
        with QmpConnection(arguments.address) as connection:
            back_up(connection, arguments.node, arguments.path, bytes_per_s)
    except HypervisorError as error:
        sys.exit(f"{parser.prog}: {error}")


if __name__ == "__main__":
    main()
