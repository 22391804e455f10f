#!/bin/sh
# Set up what is needed, then show the product at work: a stub upstream, the gateway, real SDKs, and what became of each.
set -eu
cd "$(dirname "$0")"
. .ci/setup.sh
set_up demo
exec .venv/bin/python examples/minimal/demo.py
