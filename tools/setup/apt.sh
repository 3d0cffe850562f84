#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Installs Debian packages. Usage: apt.sh PACKAGE... ; fails without a message if there is no apt or the user is not root.
set -eu
cd "$(dirname "$0")/../.."
log=build/apt.log

command -v apt-get >/dev/null 2>&1 || exit 1
[ "$(id -u)" = 0 ] || exit 1

mkdir -p build
export DEBIAN_FRONTEND=noninteractive
echo "hvkit: installing $* (log: $log)"
# Outdated lists name packages that no longer exist. An unreachable source must not block the others.
apt-get update >"$log" 2>&1 || true
if ! apt-get -y -o DPkg::Lock::Timeout=120 install --no-install-recommends "$@" >>"$log" 2>&1 </dev/null; then
    tail -n 5 "$log" >&2
    exit 1
fi
