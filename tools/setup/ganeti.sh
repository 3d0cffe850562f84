#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Unpacks Ganeti's QMP client and its requirements into build/ganeti, for the benchmarks. A failure prints a warning and
# exits with 0, so that the benchmarks run without it. Usage: ganeti.sh PYTHON
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
    echo "hvkit: continuing without Ganeti's client: its package could not be downloaded; see $log" >&2
fi
