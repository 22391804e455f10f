"""The product in one minute: a stub upstream, the gateway, labelled traffic by the real SDKs, and what became of it.

Everything runs on loopback; no key, no account, no database. Ten callers behave in ten ways; the table says what the
gateway did to each and why, and one decision is explained leaf by leaf.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anthropic
import httpx
import openai
from mmdb_writer import MMDBWriter
from netaddr import IPSet
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
COUNTRIES = {"192.0.2.0/24": "FR", "198.51.100.0/24": "KP", "203.0.113.0/24": "SG"}
FRANCE, EXCLUDED, SINGAPORE = "192.0.2.10", "198.51.100.20", "203.0.113.30"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_geo(path: Path) -> None:
    """A country database of the documentation networks, dated today."""
    writer = MMDBWriter(ip_version=4, database_type="Demo-Country", languages=["en"])
    for network, code in COUNTRIES.items():
        writer.insert_network(IPSet([network]), {"country": {"iso_code": code}})
    writer.to_db_file(str(path))


def write_config(folder: Path, gateway: int, upstream: int) -> Path:
    """The example's configuration with ports of this run, today's geo database and pool accounts created this week."""
    week = (datetime.now(UTC) - timedelta(days=3)).strftime("%Y-%m-%dT00:00:00Z")
    accounts = (HERE / "accounts.yaml").read_text()
    young = [line[:-1] + f", created: {week}}}" if "id: pool-" in line else line for line in accounts.splitlines()]
    (folder / "accounts.yaml").write_text("\n".join(young))
    write_geo(folder / "country.mmdb")
    text = (HERE / "gateway.yaml").read_text().replace(":8787", f":{gateway}").replace(":8788", f":{upstream}")
    text = text.replace("../../rules, plan.yaml", f"{HERE.parents[1] / 'rules'}, {HERE / 'plan.yaml'}")
    text = text.replace("# geo: {country: country.mmdb}  ", "geo: {country: country.mmdb}  ")
    (folder / "gateway.yaml").write_text(text)
    return folder / "gateway.yaml"


@contextmanager
def running(*command: str, health: str) -> Iterator[None]:
    """A process, up once its health address answers, and ended afterwards."""
    process = subprocess.Popen(command)
    try:
        for _ in range(200):
            try:
                httpx.get(health, timeout=1)
                break
            except httpx.TransportError:
                if process.poll() is not None:
                    sys.exit(f"{' '.join(command)} ended with {process.returncode}")
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)


class Callers:
    """Ten ways to use the API."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.seen: dict[str, Counter[str]] = defaultdict(Counter)

    def openai(self, key: str, address: str) -> openai.OpenAI:
        headers = {"X-Forwarded-For": address}
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, default_headers=headers)

    def count(self, caller: str, error: openai.APIStatusError | anthropic.APIStatusError | None = None) -> None:
        self.seen[caller]["passed" if error is None else str(error.status_code)] += 1

    def ask(self, caller: str, client: openai.OpenAI, text: str, **more: object) -> None:
        try:
            client.chat.completions.create(model="stub", messages=[{"role": "user", "content": text}], **more)  # type: ignore[call-overload]
            self.count(caller)
        except openai.APIStatusError as error:
            self.count(caller, error)

    def product(self) -> None:
        """A support bot: one system prompt, streamed conversations of end users."""
        client = self.openai("demo-acme", FRANCE)
        for number in range(15):
            messages = [{"role": "system", "content": "You are the support assistant of Acme."}]
            messages += [{"role": "user", "content": f"my order {number} is late, where is it?"}]
            for part in client.chat.completions.create(model="stub", messages=messages, stream=True, user=f"u{number}"):  # type: ignore[call-overload]
                assert part.choices is not None
            self.count("product: a support bot, streamed")

    def agent(self) -> None:
        """A coding agent: one conversation that grows, with tools."""
        client = anthropic.Anthropic(base_url=self.url, api_key="demo-lumen", max_retries=0,
                                     default_headers={"X-Forwarded-For": FRANCE})  # fmt: skip
        tool = {"name": "run", "description": "run a command", "input_schema": {"type": "object", "properties": {}}}
        messages: list[object] = [{"role": "user", "content": "fix the failing test; use the tool"}]
        for turn in range(12):
            answer = client.messages.create(model="stub", max_tokens=100, messages=messages, tools=[tool])  # type: ignore[arg-type]
            self.count("agent: a coding session with tools")
            result = {"type": "tool_result", "tool_use_id": f"t{turn}", "content": "1 failed"}
            use = {"type": "tool_use", "id": f"t{turn}", "name": "run", "input": {}}
            messages += [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
            assert answer.id

    def benchmark(self) -> None:
        """A benchmark: forty fixed items, each asked five times."""
        client = self.openai("demo-bench", FRANCE)
        for _ in range(5):
            for item in range(40):
                self.ask("benchmark: 40 items, 5 times", client, f"Question {item}: which of A, B, C, D holds? Answer:",
                         temperature=0, seed=1234)  # fmt: skip

    def hobbyist(self) -> None:
        """A free plan of 20 requests a minute, asked 30 times."""
        for number in range(30):
            self.ask("hobbyist: 30 requests on a plan of 20", self.openai("demo-hobby", FRANCE), f"a haiku about {number}")

    def region(self) -> None:
        self.ask("traveller: billed in FR, network in KP", self.openai("demo-traveller", EXCLUDED), "hello")
        self.ask("excluded: billed in KP, network in KP", self.openai("demo-excluded", EXCLUDED), "hello")
        self.ask("owned elsewhere: owner in IR, network in SG", self.openai("demo-owned", SINGAPORE), "hello")

    def stranger(self) -> None:
        self.ask("stranger: an unknown key", self.openai("demo-nobody", FRANCE), "hello")

    def harvest(self) -> None:
        """One template filled with a hundred topics, through a relay that claims to be an SDK."""
        caller = "harvest: one template, 100 fillings, via a relay"
        with httpx.Client(base_url=self.url) as client:
            for topic in range(100):
                text = f"Come up with 5 tasks about <topic>item{topic}</topic> & answer each step by step.\nFormat:\n- task"
                self._relayed(caller, client, "demo-farm", text)

    def pool(self) -> None:
        """Two dozen accounts of one week, one egress, one template, through the same relay."""
        with httpx.Client(base_url=self.url) as client:
            for number in range(1_000):
                text = f"Write a solution with reasoning.\nProblem:\n<p>case {number} & more</p>\nSolution:"
                self._relayed("ring: 24 new accounts, one template, via a relay", client, f"demo-pool-{number % 24}", text)

    def _relayed(self, caller: str, client: httpx.Client, key: str, text: str) -> None:
        body = json.dumps(
            {"max_tokens": 64, "messages": [{"content": text, "role": "user"}], "model": "stub", "temperature": 0.9}
        )
        escaped = body.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json", "user-agent": "OpenAI/Python 2.1.0",
                   "x-forwarded-for": SINGAPORE}  # fmt: skip
        status = client.post("/v1/chat/completions", content=escaped, headers=headers).status_code
        self.seen[caller]["passed" if status == 200 else str(status)] += 1

    def all(self) -> None:
        for act in (
            self.product,
            self.agent,
            self.benchmark,
            self.hobbyist,
            self.region,
            self.stranger,
            self.harvest,
            self.pool,
        ):
            act()


CALLER_OF = {
    "acme-support": "product: a support bot, streamed", "lumen-agents": "agent: a coding session with tools",
    "northlight-bench": "benchmark: 40 items, 5 times", "hobby": "hobbyist: 30 requests on a plan of 20",
    "traveller": "traveller: billed in FR, network in KP", "excluded": "excluded: billed in KP, network in KP",
    "owned-elsewhere": "owned elsewhere: owner in IR, network in SG",
    "datafarm": "harvest: one template, 100 fillings, via a relay",
}  # fmt: skip
RING, STRANGER = "ring: 24 new accounts, one template, via a relay", "stranger: an unknown key"


def tell(records: list[dict], seen: dict[str, Counter[str]], console: Console) -> str:
    """Print what became of each caller, from the audit records; returns the reference of one refusal."""
    done: dict[str, Counter[str]] = defaultdict(Counter)
    why: dict[str, Counter[str]] = defaultdict(Counter)
    shown = ""
    for record in records:
        account = record["signals"].get("account.id", "")
        caller = CALLER_OF.get(account, RING if account.startswith("pool-") else STRANGER)
        action = record["outcome"]["action"]
        done[caller]["passed" if action in ("allow", "observe") else action] += 1
        acting = record["decision"]["by"] if action not in ("allow",) else []
        why[caller].update(record["outcome"].get("by", acting))
        if action == "throttle" and account.startswith("pool-"):
            shown = record["reference"]
    columns = ("passed", "tag", "throttle", "verify", "deny")
    table = Table("caller", "requests", "passed", "tagged", "throttled", "to verify", "denied", "because of", show_lines=True)
    for caller in seen:
        cells = [str(done[caller][name] or "") for name in columns]
        reasons = ", ".join(f"{name} ({count})" for name, count in why[caller].most_common(4))
        table.add_row(caller, str(sum(done[caller].values())), *cells, reasons)
    console.print(table)
    return shown


def main() -> None:
    console = Console(width=150)
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        gateway, upstream = free_port(), free_port()
        config = write_config(folder, gateway, upstream)
        url = f"http://127.0.0.1:{gateway}"
        stack.enter_context(running(sys.executable, str(HERE / "upstream.py"), str(upstream),
                                    health=f"http://127.0.0.1:{upstream}/v1/models"))  # fmt: skip
        with running(sys.executable, "-m", "gateway", "serve", str(config), health=f"{url}/healthz"):
            callers = Callers(url)
            started = time.perf_counter()
            callers.all()
            seconds = time.perf_counter() - started
        segments = sorted((folder / "audit/1").glob("0*.jsonl"))
        records = [json.loads(line) for segment in segments for line in segment.read_text().splitlines()]
        console.print(f"\n{len(records)} requests through the gateway in {seconds:.1f} s, {len(records)} audit records\n")
        reference = tell(records, callers.seen, console)
        console.print(f"\nsluice explain {reference}\n", highlight=False)
        subprocess.run([sys.executable, "-m", "gateway", "explain", reference, "--config", str(config)], check=True)


if __name__ == "__main__":
    main()
