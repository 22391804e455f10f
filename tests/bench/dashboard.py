"""Every query of `examples/grafana.json` in a real Prometheus: `python -m tests.bench.dashboard [--prometheus PATH]`.

A gateway with limits, traffic of several ends, and a Prometheus (`apt-get install prometheus`) that scrapes it every second.
Printed is what each query answers; exit 1 where one is no PromQL, or answers nothing though there was something to see.
`tests/test_dashboard.py` holds names and labels without a Prometheus.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from tests.test_dashboard import QUERIES
from tests.web.conftest import PACK
from tests.web.faulty import Faulty
from tests.web.running import free_port, gateway

SCRAPES = """global: {{scrape_interval: 1s}}
scrape_configs: [{{job_name: sluice, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]
"""
RATE = "6s"  # in the place of $__rate_interval
PATIENCE = 60.0
QUIET = ("sluice_state_duration", "sluice_dependency_touched", "sluice_causes", "sluice_spans", "sluice_policy_refused")
MODELS = ("m", "forbidden", "unverified", "restricted", "bursty", "planned", "metered", "delayed")


def answered(url: str, query: str) -> list[Any]:
    """The series of a query now. Raises RuntimeError where Prometheus refuses it."""
    asked = query.replace("$__rate_interval", RATE).replace("$instance", ".*")
    told = httpx.get(f"{url}/api/v1/query", params={"query": asked}, trust_env=False, timeout=20).json()
    if told["status"] != "success":
        raise RuntimeError(told.get("error"))
    found: list[Any] = told["data"]["result"]
    return found


def judged(url: str, ask: Any) -> list[str]:
    """What is wrong, once every query that has something to see answers, or patience is over."""
    until = time.monotonic() + PATIENCE
    while True:
        ask()
        found = {query: answered(url, query) for query in QUERIES}
        empty = [query for query, series in found.items() if not series and not any(name in query for name in QUIET)]
        if not empty or time.monotonic() > until:
            break
    for query, series in found.items():
        print(f"{len(series):>4}  {query}")
    return empty


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prometheus", default=shutil.which("prometheus"))
    program = parser.parse_args().prometheus
    if program is None:
        raise SystemExit("no Prometheus: install one (apt-get install prometheus), or name it by --prometheus")
    port, metrics, upstream = free_port(), free_port(), Faulty()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "prometheus.yml").write_text(SCRAPES.format(port=metrics))
        command = [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        settings = f"upstreams: {{openai: {{url: {upstream.url}}}}}\nmetrics: {{listen: '127.0.0.1:{metrics}'}}\n"
        with gateway(folder / "g", settings, PACK) as running, (folder / "log").open("wb") as log:

            def ask() -> None:
                for model in MODELS:
                    body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
                    url, headers = f"{running.url}/v1/chat/completions?do=plain_json", {"authorization": "Bearer sk-bench"}
                    httpx.post(url, json=body, headers=headers, trust_env=False, timeout=20)

            server = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
            try:
                _ready(f"http://127.0.0.1:{port}", server)
                wrong = judged(f"http://127.0.0.1:{port}", ask)
            finally:
                server.terminate()
                server.wait()
    print(json.dumps({"queries": len(QUERIES), "empty": wrong}))
    return 1 if wrong else 0


def _ready(url: str, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and server.poll() is None:
        try:
            if httpx.get(f"{url}/-/ready", trust_env=False, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise SystemExit("Prometheus did not start")


if __name__ == "__main__":
    sys.exit(main())
