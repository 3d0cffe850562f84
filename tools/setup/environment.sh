#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Creates build/venv and build/link, again after a change of setup.cfg or pyproject.toml. Usage: environment.sh run|dev|bench
#
# run: requirements of the `hvkit` command; dev: also those of tests and checkers; bench: those of the benchmarks,
# including other QMP clients, in build/venv-bench. $PYTHON selects the interpreter.
#
# hvkit is an editable install of lib/. build/link/hvkit is a symlink to lib/ for programs that do not support editable
# installs (mypy).
#
# build/venv is a symlink to the newest environment, so that a failed installation, for example without network, keeps
# the previous one. An environment is created in its final directory, because its programs contain its path.
set -eu
cd "$(dirname "$0")/../.."
goal=$1
venv=build/venv
log=build/setup.log

fail() {
    printf 'hvkit: %s\n' "$@" >&2
    exit 1
}

new_enough() {
    command -v "$1" >/dev/null 2>&1 && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

choose_python() {
    if [ -n "${PYTHON:-}" ]; then
        new_enough "$PYTHON" || fail "PYTHON=$PYTHON is not a Python >= 3.11"
        echo "$PYTHON"
        return
    fi
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    fail "no Python >= 3.11 found; give its path: make PYTHON=/path/to/python3"
}

# Debian packages the requirements of `python -m venv` separately.
ensure_venv_module() {
    "$python" -c 'import ensurepip, venv' 2>/dev/null && return
    package=$("$python" -c 'import sys; print("python3.%d-venv" % sys.version_info.minor)')
    sh tools/setup/apt.sh "$package" && "$python" -c 'import ensurepip, venv' 2>/dev/null && return
    fail "$python cannot create virtual environments. As root, run:" \
        "    apt-get update && apt-get install --no-install-recommends $package"
}

install() {
    echo "hvkit: preparing $venv with $python (log: $log)"
    ensure_venv_module
    new=$(mktemp -d "$venv-XXXXXX")
    chmod 755 "$new"
    trap 'rm -rf "$new"' EXIT
    trap 'exit 1' HUP INT TERM
    if ! { "$python" -m venv "$new" && "$new/bin/python" -m pip install --editable "$requirement"; } >"$log" 2>&1; then
        tail -n 5 "$log" >&2
        [ ! -e "$venv" ] || echo "hvkit: $venv was not changed" >&2
        fail "the dependencies could not be installed; see $log. With network access to pip's index, run:" \
            "    make setup-$goal"
    fi
    echo "$state" >"$new/.hvkit-$goal"
    old=
    if [ -L "$venv" ]; then old=$(readlink -f "$venv"); else rm -rf "$venv"; fi
    ln -sfn "${new##*/}" "$venv"
    trap - EXIT
    rm -rf "$old"
}

mkdir -p build/link
ln -sfn ../../lib build/link/hvkit

python=$(choose_python)
case $goal in
    run) requirement='.[cli]' satisfied_by="run dev" ;;
    dev) requirement='.[dev]' satisfied_by=dev ;;
    bench) requirement='.[bench]' satisfied_by=bench venv=build/venv-bench log=build/setup-bench.log ;;
    *) fail "usage: environment.sh run|dev|bench" ;;
esac

# The working directory is part of the state, because a virtual environment cannot be moved.
state=$({ pwd; "$python" -c 'import sys; print(sys.executable, sys.version)'; cat setup.cfg pyproject.toml; } | sha256sum)
for done in $satisfied_by; do
    stamp="$venv/.hvkit-$done"
    if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$state" ] && "$venv/bin/python" -c '' 2>/dev/null; then
        exit 0
    fi
done
install
