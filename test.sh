#!/bin/sh
# Set up what is needed, then run the tests. Arguments go to pytest.
set -eu
cd "$(dirname "$0")"
. .ci/setup.sh
system_package redis-server redis-server
system_package initdb postgresql
system_package curl curl
set_up
exec .venv/bin/python -m pytest "$@"
