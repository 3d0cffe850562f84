#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Unpacks Ganeti's package, and what its client of monitors imports, into build/ganeti: to be measured beside others.
# Where that cannot be, says so and lets the caller go on without. Usage: ganeti.sh PYTHON
set -eu
cd "$(dirname "$0")/../.."
python=$1
place=build/ganeti
log=build/setup-ganeti.log

[ ! -e "$place" ] || exit 0
mkdir -p build
new=$(mktemp -d "$place-XXXXXX")
trap 'rm -rf "$new"' EXIT
trap 'exit 1' HUP INT TERM

unpack() {
    (cd "$new" && apt-get download ganeti-3.0 && dpkg-deb -x ganeti-3.0_*.deb .) &&
        "$python" -m pip install --target "$new/site" bitarray pyOpenSSL simplejson
}

if unpack >"$log" 2>&1; then
    chmod 755 "$new"
    mv "$new" "$place"
else
    echo "hvkit: going on without Ganeti's client, whose package could not be had; why is in $log" >&2
fi
