#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Installs libvirt's driver for QEMU and its binding for the distribution's Python, without its daemon: to be measured
# beside others. Where that cannot be, says so and lets the caller go on without.
set -eu
cd "$(dirname "$0")/../.."

python=/usr/bin/python3
[ -x "$python" ] && "$python" -c 'import libvirt' 2>/dev/null && exit 0
sh tools/setup/apt.sh python3-libvirt libvirt-daemon-driver-qemu ||
    echo "hvkit: going on without libvirt, which could not be installed" >&2
