#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Makes build/venv and build/link, once for each state of setup.cfg and pyproject.toml. Usage: environment.sh run|dev|bench
#
# run: what the `hvkit` command needs; dev: also the tests and the checkers; bench: what benchmarks need, the clients of
# others included, in build/venv-bench. $PYTHON chooses the interpreter.
#
# The package is installed as editable, for its entry points and the `hvkit` command: the code that runs is lib/. For
# programs that do not follow such an install (mypy), build/link/hvkit is a symlink to lib/.
#
# The environment is a symlink too, to an environment that was made beside the one before it: what cannot be made, because
# there is no network, takes nothing away. An environment cannot be moved, its programs name their place.
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
    fail "no Python >= 3.11 found; name one: make PYTHON=/path/to/python3"
}

# Debian keeps what `python -m venv` needs in a package of its own.
ensure_venv_module() {
    "$python" -c 'import ensurepip, venv' 2>/dev/null && return
    package=$("$python" -c 'import sys; print("python3.%d-venv" % sys.version_info.minor)')
    sh tools/setup/apt.sh "$package" && "$python" -c 'import ensurepip, venv' 2>/dev/null && return
    fail "$python cannot make virtual environments. As root, type:" \
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
        [ ! -e "$venv" ] || echo "hvkit: $venv is left as it was" >&2
        fail "the dependencies could not be installed; all of it is in $log. With a network to pip's index, type:" \
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

# The place is part of it: a virtual environment cannot be moved.
state=$({ pwd; "$python" -c 'import sys; print(sys.executable, sys.version)'; cat setup.cfg pyproject.toml; } | sha256sum)
for done in $satisfied_by; do
    stamp="$venv/.hvkit-$done"
    if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$state" ] && "$venv/bin/python" -c '' 2>/dev/null; then
        exit 0
    fi
done
install
