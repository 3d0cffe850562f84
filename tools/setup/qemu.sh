#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Installs QEMU where it is missing. Where that cannot be, says what to type and lets the caller go on.
set -eu
cd "$(dirname "$0")/../.."

packages=
if [ -z "${HVKIT_QEMU:-}" ] && ! command -v qemu-system-x86_64 >/dev/null 2>&1; then
    packages=qemu-system-x86
fi
if ! command -v qemu-img >/dev/null 2>&1; then
    packages="$packages qemu-utils"
fi
# UEFI firmware and a TPM, for those who want them; the tests of them are skipped without.
for program in swtpm:swtpm /usr/share/qemu/firmware:ovmf; do
    if ! command -v "${program%:*}" >/dev/null 2>&1 && [ ! -e "${program%:*}" ]; then
        packages="$packages ${program#*:}"
    fi
done
[ -n "$packages" ] || exit 0

# shellcheck disable=SC2086 # a list of words
if ! sh tools/setup/apt.sh $packages; then
    echo "hvkit: no QEMU here, so nothing real can run. As root, type:" \
        "apt-get install --no-install-recommends qemu-system-x86 qemu-utils" >&2
fi
