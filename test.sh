#!/bin/sh
# Set up what is needed, then run the tests, on every core. Arguments go to pytest (`-n 0`: in one process).
set -eu
cd "$(dirname "$0")"
. .ci/setup.sh
system_package redis-server redis-server
system_package initdb postgresql
system_package curl curl
system_package chromedriver chromium-driver # brings chromium with it
set_up requirements
exec .venv/bin/python -m pytest -n auto --dist loadfile "$@"
