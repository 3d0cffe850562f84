#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Installs Debian packages if we may. Usage: apt.sh PACKAGE... ; fails without a word where there is no apt or no root.
set -eu
cd "$(dirname "$0")/../.."
log=build/apt.log

command -v apt-get >/dev/null 2>&1 || exit 1
[ "$(id -u)" = 0 ] || exit 1

mkdir -p build
export DEBIAN_FRONTEND=noninteractive
echo "hvkit: installing $* (log: $log)"
# Old lists name packages that are no longer there. One source that cannot be reached must not stop the others.
apt-get update >"$log" 2>&1 || true
if ! apt-get -y -o DPkg::Lock::Timeout=120 install --no-install-recommends "$@" >>"$log" 2>&1 </dev/null; then
    tail -n 5 "$log" >&2
    exit 1
fi
