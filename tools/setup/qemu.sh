#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Installs QEMU if it is missing. A failure prints the command to run as root and exits with 0.
set -eu
cd "$(dirname "$0")/../.."

packages=
if [ -z "${HVKIT_QEMU:-}" ] && ! command -v qemu-system-x86_64 >/dev/null 2>&1; then
    packages=qemu-system-x86
fi
if ! command -v qemu-img >/dev/null 2>&1; then
    packages="$packages qemu-utils"
fi
# Optional: UEFI firmware and swtpm. Their tests are skipped without them.
for program in swtpm:swtpm /usr/share/qemu/firmware:ovmf; do
    if ! command -v "${program%:*}" >/dev/null 2>&1 && [ ! -e "${program%:*}" ]; then
        packages="$packages ${program#*:}"
    fi
done
[ -n "$packages" ] || exit 0

# shellcheck disable=SC2086 # a list of packages
if ! sh tools/setup/apt.sh $packages; then
    echo "hvkit: QEMU is not installed, so instances cannot run. As root, run:" \
        "apt-get install --no-install-recommends qemu-system-x86 qemu-utils" >&2
fi
