# Sourced by ./demo.sh, ./test.sh and .ci/run: a virtual environment in .venv with exactly the locked packages.
# Needs Python 3.11 or newer with venv and pip; where the venv module is missing, Debian's package is installed.

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

have() { # have COMMAND: on the path, or where Debian keeps PostgreSQL's own programs
    command -v "$1" >/dev/null || ls /usr/lib/postgresql/*/bin/"$1" >/dev/null 2>&1
}

system_package() { # system_package COMMAND PACKAGE: have COMMAND, from the system's package manager if need be
    have "$1" && return
    say "installing $2"
    if command -v apt-get >/dev/null; then
        as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$2" >/dev/null
    elif command -v dnf >/dev/null; then as_root dnf install -y -q "$2"
    elif command -v brew >/dev/null; then brew install "$2"
    fi
    have "$1" || { say "$1 is needed and could not be installed; please install $2"; exit 1; }
}

find_python() {
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            echo "$candidate"
            return
        fi
    done
    say "Python 3.11 or newer is needed"
    exit 1
}

stamp() { echo ".venv/installed-$1-$(cat ".ci/$1.lock" pyproject.toml | cksum | cut -d' ' -f1)"; }

set_up() { # set_up LOCK: `requirements`, or the part of it that is `demo`
    [ -e "$(stamp "$1")" ] || [ -e "$(stamp requirements)" ] && return
    python=$(find_python)
    say "setting up .venv ($($python --version))"
    rm -rf .venv
    if ! "$python" -m venv .venv 2>/dev/null; then
        rm -rf .venv
        say "installing python3-venv"
        as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
        "$python" -m venv .venv
    fi
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r ".ci/$1.lock"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
    touch "$(stamp "$1")"
}
