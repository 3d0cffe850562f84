#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Installs libvirt's QEMU driver and the Python binding, without the daemon, for the benchmarks. A failure prints a
# warning and exits with 0, so that the benchmarks run without it.
set -eu
cd "$(dirname "$0")/../.."

python=/usr/bin/python3
[ -x "$python" ] && "$python" -c 'import libvirt' 2>/dev/null && exit 0
sh tools/setup/apt.sh python3-libvirt libvirt-daemon-driver-qemu ||
    echo "hvkit: continuing without libvirt: it could not be installed" >&2
