"""The gateway of a config on the raw ASGI host alone: `python -m tests.web.asgi_host gateway.yaml`.

As `sluice serve` does, but every request goes through the app, so that tests can put the same questions to both hosts.
"""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn

from gateway.config import load_config
from gateway.web.app import build
from gateway.web.server import protocol_for
from gateway.web.stopping import Stopping


def main(file: Path) -> None:
    settings = load_config(file)
    process = build(settings)
    config = uvicorn.Config(
        process.app, host=settings.host, port=settings.port, http=protocol_for(settings.settings["client_address"]), ws="none",
        proxy_headers=False, log_level="warning", access_log=False, server_header=False, date_header=False,
        timeout_keep_alive=round(process.service.waits.idle),
    )  # fmt: skip
    Stopping(config, process).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
