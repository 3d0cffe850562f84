#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Copy a disk of a running machine into a qcow2 file, with progress; the copy is the disk as it was at the start.

    backup.py /run/vm1.sock disk0 /backup/vm1-disk0.qcow2

The disk is named by its node. QEMU writes the file, so its path is as QEMU sees it. Interrupted, the job is cancelled,
and what there is of the file stays; an interrupt that comes when the copy is whole changes nothing.
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
    """Return the size of a node in bytes."""
    for each in connection.execute(QueryNamedBlockNodes(flat=True)):
        if each.node_name == node:
            return each.image.virtual_size
    sys.exit(f"there is no node {node}")


def show(progress: JobProgress) -> None:
    """Print progress over the line that is there."""
    done = "" if progress.fraction is None else f" {progress.fraction:4.0%}"
    rate = "" if progress.bytes_per_s is None else f" {progress.bytes_per_s / 2**20:.0f} MiB/s"
    print(f"\r{progress.status}{done}{rate}".ljust(40), end="", flush=True)


def copy(connection: QmpConnection, node: str, bytes_per_s: int | None, interrupted: threading.Event) -> None:
    """Copy a node into the image that is open, until that is done or somebody interrupts."""
    command = BlockdevBackup(job_id=JOB, device=node, target=IMAGE, sync="full", speed=bytes_per_s)
    with Job.start(connection, command) as job:
        for progress in job.progress(interval_s=0.2):
            show(progress)
            if interrupted.is_set():
                job.cancel()  # does nothing to a job that has ended
        print()
        job.wait()  # tells how


def back_up(connection: QmpConnection, node: str, path: str, bytes_per_s: int | None) -> None:
    """Make a file, open it, copy a node into it, and close it; Ctrl-C cancels the copying."""
    interrupted = threading.Event()  # an exception in the middle of a conversation would end it
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
    parser = argparse.ArgumentParser(description="copy a disk of a running machine into a qcow2 file")
    parser.add_argument("address", help="path of the monitor's socket, or @name of an abstract one")
    parser.add_argument("node", help="node name of the disk")
    parser.add_argument("path", help="file to make")
    parser.add_argument("--speed", type=int, metavar="MIB", help="copy at most so many MiB a second")
    arguments = parser.parse_args()
    bytes_per_s = None if arguments.speed is None else arguments.speed * 2**20
    try:
        with QmpConnection(arguments.address) as connection:
            back_up(connection, arguments.node, arguments.path, bytes_per_s)
    except HypervisorError as error:
        sys.exit(f"{parser.prog}: {error}")


if __name__ == "__main__":
    main()
