"""`sluice config`, and secrets that stand elsewhere: what is in force is printed, secrets are not, wherever they come from."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.config import Config, load_config
from gateway.errors import ConfigError
from gateway.values import SECOND

SMALLEST = "upstreams: {openai: {url: 'https://api.example.com'}}\n"
SECRET = "s3cret-word"


def loaded(folder: Path, text: str, **environ: str) -> Config:
    file = folder / "gateway.yaml"
    file.write_text(text)
    return load_config(file, environ)


def printed(folder: Path, text: str, **environ: str) -> Result:
    file = folder / "gateway.yaml"
    file.write_text(text)
    return CliRunner(env=environ).invoke(main, ["config", str(file)])


@pytest.mark.parametrize("way", ["{env: THE_SECRET}", "{file: secrets/one}"])
def test_a_secret_is_read_from_elsewhere(way: str, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    url = f"redis://me:{SECRET}@host:6379/0"
    (tmp_path / "secrets" / "one").write_text(f"{url}\n")
    text = SMALLEST + f"state: {{url: {way}}}\n"
    assert loaded(tmp_path, text, THE_SECRET=url).state.url == url
    result = printed(tmp_path, text, THE_SECRET=url)
    assert result.exit_code == 0
    assert SECRET not in result.output
    (line,) = [line for line in result.output.splitlines() if "***" in line and not line.startswith("#")]
    assert line.startswith("  url: '***'  # ")
    assert line.endswith("environment variable THE_SECRET" if "env" in way else f"file {tmp_path}/secrets/one")


def test_a_proxy_and_a_directory_too(tmp_path: Path) -> None:
    text = "upstreams: {openai: {url: 'https://a.example', proxy: {env: P}}}\nidentity: {directory: {env: D}}\n"
    found = loaded(tmp_path, text, P=f"http://me:{SECRET}@p:1", D=f"postgresql+psycopg://me:{SECRET}@h/d")
    assert found.upstreams["openai"].proxy == f"http://me:{SECRET}@p:1"
    assert found.settings["identity"]["directory"] == f"postgresql+psycopg://me:{SECRET}@h/d"
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("{env: NOT_SET}", "there is no environment variable NOT_SET"),
        ("{env: EMPTY}", "there is no environment variable EMPTY"),
        ("{file: gone}", "gone"),
        ("{file: empty}", "is empty; write the value alone into it"),
        ("{file: binary}", "is not text"),
        ("{env: A, file: b}", "has one place; write {env: NAME} or {file: PATH}"),
        ("{vault: x}", "has one place"),
        ("{}", "has one place"),
        ("{env: 3}", "has one place"),
        ("{env: WRONG}", "'***' is not a state"),
    ],
)
def test_what_is_wrong_is_said_with_its_place_and_without_the_secret(way: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, SMALLEST + f"state: {{url: {way}}}\n", EMPTY="", WRONG=f"mysql://me:{SECRET}@h", A="memory://")
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "gateway.yaml:2:" in str(caught.value) or str(tmp_path) in str(caught.value)


def test_connections_of_an_address_cannot_be_counted_behind_proxies_that_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nobody knows which connections are proxies'; name the proxies"):
        loaded(tmp_path, SMALLEST + "clients: {per_address: 9}\nclient_address: {hops: 1}\n")


def test_elsewhere_is_for_secrets_only(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="url must be a single value, not a mapping"):
        loaded(tmp_path, "upstreams: {openai: {url: {env: X}}}\n", X="https://a.example")


@pytest.mark.parametrize(
    "url",
    [
        f"redis://me:{SECRET}@h:1/0",
        f"redis://:{SECRET}@h:1/0",
        f"redis://me:a/{SECRET}@h:1/0",
        f"redis://h:1/0?password={SECRET}",
    ],
)
def test_passwords_in_urls_are_not_printed(url: str, tmp_path: Path) -> None:
    result = printed(tmp_path, SMALLEST + f"state: {{url: '{url}'}}\n")
    assert result.exit_code == 0
    assert SECRET not in result.output
    assert "***" in result.output
    assert "h:1/0" in result.output


def test_what_is_in_force_is_printed_and_can_be_read_again(tmp_path: Path) -> None:
    text = (
        "upstreams:\n  openai: {url: [https://a.example, {url: https://b.example, weight: 3}], read: 9s,"
        " routes: {embeddings: {total: 20s}}}\n"
        "clients: {per_address: 7}\nstop: {grace: 90s}\nreload: {watch: 5s}\nlargest_body: 8MiB\nfail: {media-type: open}\n"
    )
    before = loaded(tmp_path, text)
    result = printed(tmp_path, text, SLUICE_HASH_KEY=SECRET * 2)
    assert result.exit_code == 0
    assert "  head: 30s  # default\n" in result.output
    assert "  per_address: 7\n" in result.output
    assert "  grace: 90s\n" in result.output
    assert "# hash key: ***, from the environment variable SLUICE_HASH_KEY" in result.output
    assert SECRET not in result.output
    document = yaml.safe_load(result.output)
    assert document["fail"]["media-type"] == "open"
    del document["fail"]
    after = loaded(tmp_path, yaml.safe_dump(document))
    for name in ("upstreams", "waits", "stop", "watch", "largest_body", "host", "port", "policy", "state", "records", "mode"):
        assert getattr(after, name) == getattr(before, name), name


def test_a_bad_config_is_reported_as_by_the_others(tmp_path: Path) -> None:
    result = printed(tmp_path, "listen: nowhere\n")
    assert result.exit_code == 2
    assert "gateway.yaml:1:" in result.output


def test_several_upstreams_and_the_time_outs_of_routes(tmp_path: Path) -> None:
    text = (
        "upstreams: {openai: {url: [https://a.example, {url: https://b.example, weight: 3}], read: 9s, total: 1m,"
        " routes: {embeddings: {total: 20s}, models: {read: 2s}}}, anthropic: {url: https://c.example}}\n"
    )
    found = loaded(tmp_path, text).upstreams
    assert found["openai"].urls == (("https://a.example", 1), ("https://b.example", 3))
    assert found["openai"].url == "https://a.example"
    assert found["openai"].routes == {"embeddings": (9 * SECOND, 20 * SECOND), "models": (2 * SECOND, 60 * SECOND)}
    assert found["anthropic"].urls == (("https://c.example", 1),)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("[]", "url is empty"),
        ("[{weight: 2}]", "needs 'url'"),
        ("[{url: 'https://a.example', weight: 0}]", "0 is not a whole number from 1 to 1000"),
        ("[{url: 'https://a.example', wieght: 2}]", "did you mean 'weight'"),
        ("['ftp://a.example']", "is not an http(s) URL"),
        ("[[x]]", "must be a single value"),
        (f"[{{url: 'https://me:{SECRET}@a.example'}}]", "a user or password in it is not sent"),
    ],
)
def test_what_is_wrong_with_several_upstreams(url: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, f"upstreams: {{openai: {{url: {url}}}}}\n")
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)


def test_headers_of_the_traces_endpoint_are_never_printed(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"Bearer {SECRET}-a")
    audit = (
        "audit: {otlp: {endpoint: 'grpc://127.0.0.1:4317', headers: {authorization: {file: token}, x-key: " + SECRET + "}}}\n"
    )
    found = printed(tmp_path, SMALLEST + audit)
    assert "otlp: {endpoint: grpc://127.0.0.1:4317, headers: {authorization: '***', x-key: '***'}}" in found.output
    assert SECRET not in found.output
    endpoint = loaded(tmp_path, SMALLEST + audit).otlp
    assert endpoint is not None
    assert endpoint.headers == {"authorization": f"Bearer {SECRET}-a", "x-key": SECRET}
    assert SECRET not in repr(endpoint)
