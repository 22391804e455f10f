"""The processes that the tests of the web faces share: a stub provider, a faulty one, and gateways before them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import httpx
import pytest

from tests.state.conftest import own_redis as own_redis  # a fixture, for tests that stop their Redis
from tests.web.faulty import Faulty
from tests.web.keeping import Keeping
from tests.web.running import HOSTS, KEY, ROOT, Gateway, free_port, gateway, process

PACK = """
pack: try
version: 1
language: 1
rules:
  - {id: try.deny, title: no such use, family: identity, owner: tests, when: {request.model: forbidden}, mode: enforce,
     then: {action: deny}, public: {code: not-for-you, message: This model is not for you.}}
  - {id: try.region, title: excluded, family: identity, owner: tests, when: {request.model: excluded}, mode: enforce,
     then: {action: deny, status: 451}, public: {code: region-not-supported, message: Not available in your region.}}
  - {id: try.verify, title: prove it, family: identity, owner: tests, when: {request.model: unverified}, mode: enforce,
     then: {action: verify, link: "https://verify.example/start"}, public: {code: verification-required, message: Verify.}}
  - {id: try.tag, title: marked, family: identity, owner: tests, when: {request.model: tagged}, mode: enforce,
     then: {action: tag, tag: first-mark}}
  - {id: try.tag-too, title: marked twice, family: identity, owner: tests, when: {request.model: tagged}, mode: enforce,
     then: {action: tag, tag: second-mark}}
  - {id: try.slow, title: held, family: volume, owner: tests, when: {request.model: delayed}, mode: enforce,
     then: {action: delay, hold: 300ms}}
  - {id: try.burst, title: too fast, family: volume, owner: tests, when: {request.model: bursty}, mode: enforce,
     then: {action: throttle, limit: 1/hour, per: [account.id]}}
  - {id: try.less, title: less of it, family: identity, owner: tests, when: {request.model: restricted}, mode: enforce,
     then: {action: restrict, to: {max_tokens: 16, n: 1, logprobs: false, reasoning: false}},
     public: {code: reduced-service, message: Answers are shorter here.}}
  - {id: try.less-too, title: less of it, family: identity, owner: tests, when: {request.model: restricted}, mode: enforce,
     then: {action: restrict, to: {max_tokens: 99}}}
limits:
  - {id: slots, per: [account.id], limit: 2 concurrent, when: {request.model: narrow}, on_missing: skip, mode: enforce}
  - {id: words, per: [account.id], limit: 100 tokens/hour, reserve: 60, when: {request.model: metered}, on_missing: skip,
     mode: enforce}
  - {id: trial, per: [account.id], limit: 2/hour, when: {request.model: planned}, on_missing: skip, mode: enforce}
"""
DIRECTORY = "accounts: [{{id: acme, credentials: ['sha256:{digest}'], plan: paid}}]\n"


@pytest.fixture(scope="session")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the stub provider of the examples."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    errors = tmp_path_factory.mktemp("stub") / "stderr"
    with process([str(ROOT / "examples/minimal/upstream.py"), str(port)], f"{url}/v1/models", errors):
        yield url


@pytest.fixture(scope="session")
def faulty() -> Iterator[Faulty]:
    server = Faulty()
    yield server
    server.close()


@pytest.fixture(scope="session", params=HOSTS)
def host(request: pytest.FixtureRequest) -> str:
    """Both hosts of the exchange, one after the other: what a gateway does must not depend on which it is."""
    return str(request.param)


@pytest.fixture(scope="session")
def _plain(host: str, stub: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = f"upstreams: {{openai: {{url: {stub}}}, anthropic: {{url: {stub}}}}}\n"
    with gateway(tmp_path_factory.mktemp("plain"), settings, PACK, host) as running:
        yield running


@pytest.fixture(scope="session")
def _before_faulty(host: str, faulty: Faulty, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    upstream = f"{{url: {faulty.url}, connect: 1s, read: 1s}}"
    settings = f"upstreams: {{openai: {upstream}, anthropic: {upstream}}}\nlargest_body: 8MiB\n"
    with gateway(tmp_path_factory.mktemp("before-faulty"), settings, PACK, host) as running:
        yield running


@pytest.fixture(scope="session")
def _with_directory(host: str, stub: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("with-directory")
    (folder / "accounts.yaml").write_text(DIRECTORY.format(digest=hashlib.sha256(KEY.encode()).hexdigest()))
    settings = (
        f"upstreams: {{openai: {{url: {stub}}}, anthropic: {{url: 'http://127.0.0.1:{free_port()}', connect: 1s}}}}\n"
        "identity: {directory: accounts.yaml}\n"
    )
    with gateway(folder, settings, PACK, host) as running:
        yield running


@pytest.fixture
def plain(_plain: Gateway) -> Iterator[Gateway]:
    """A gateway before the stub provider; it must be well after the test."""
    yield _plain
    _plain.check()


@pytest.fixture
def shaky(_before_faulty: Gateway) -> Iterator[Gateway]:
    """A gateway before the faulty provider, with short time-outs and bodies of at most 8 MiB."""
    yield _before_faulty
    _before_faulty.check()


@pytest.fixture
def listed(_with_directory: Gateway) -> Iterator[Gateway]:
    """A gateway with an account directory that knows one key; its Anthropic upstream is down."""
    yield _with_directory
    _with_directory.check()


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=10, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def keeping() -> Iterator[Keeping]:
    """An upstream that keeps what it got, for all tests of a file."""
    server = Keeping()
    yield server
    server.close()
