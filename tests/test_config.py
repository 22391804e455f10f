"""gateway.yaml: every key, strict, with defaults that need nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.audit.delivery import Endpoint
from gateway.config import HASH_KEY_VARIABLE, bundled_rules, load_config
from gateway.decision import Mode
from gateway.errors import ConfigError, Place
from gateway.facts import Cause
from gateway.failing import DEPENDENCIES, Dependency, Fail
from gateway.values import SECOND

SMALLEST = "upstreams: {openai: {url: 'http://127.0.0.1:1'}}\n"


def config(folder: Path, text: str, **environ: str):  # type: ignore[no-untyped-def]
    (folder / "gateway.yaml").write_text(text)
    return load_config(folder / "gateway.yaml", environ)


def test_defaults_need_nothing(tmp_path: Path) -> None:
    found = config(tmp_path, SMALLEST)
    assert (found.host, found.port, found.mode, found.state.url) == ("127.0.0.1", 8787, Mode.ENFORCE, "memory://")
    assert found.policy == (bundled_rules(),)
    assert found.records == tmp_path / "audit"
    assert found.upstreams["openai"].connect == 5 * SECOND
    assert found.fail.refuses(Cause.BODY_MALFORMED)
    assert not found.fail.refuses(Cause.CREDENTIAL_UNKNOWN)
    assert not found.lasting_key


def test_a_directory_makes_credentials_matter(tmp_path: Path) -> None:
    (tmp_path / "accounts.yaml").write_text("accounts: []\n")
    found = config(tmp_path, SMALLEST + "identity: {directory: accounts.yaml}\n")
    assert found.fail.refuses(Cause.CREDENTIAL_UNKNOWN)
    assert found.settings["identity"]["directory"] == tmp_path / "accounts.yaml"
    lenient = config(tmp_path, SMALLEST + "identity: {directory: accounts.yaml}\nfail: {credential-unknown: open}\n")
    assert not lenient.fail.refuses(Cause.CREDENTIAL_UNKNOWN)
    assert lenient.fail.refuses(Cause.CREDENTIAL_MISSING)


def test_fail_modes(tmp_path: Path) -> None:
    found = config(tmp_path, SMALLEST + "fail: {body-malformed: open, state: open}\nstate: {url: 'redis://127.0.0.1:1/0'}\n")
    assert not found.fail.refuses(Cause.BODY_MALFORMED)
    assert found.fail.of(Dependency.STATE) is Fail.OPEN
    usual = config(tmp_path, SMALLEST).fail
    assert {name: usual.of(name) for name in Dependency} == {name: row.default for name, row in DEPENDENCIES.items()}
    shared = config(tmp_path, SMALLEST + "fail: {state: degrade}\nstate: {url: 'redis://127.0.0.1:1/0', replicas: 3}\n")
    assert (shared.fail.of(Dependency.STATE), shared.state.replicas) == (Fail.DEGRADE, 3)


def test_the_hash_key_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"0123456789abcdef\n")
    assert config(tmp_path, SMALLEST + "identity: {hash_key_file: key}\n").hash_key == b"0123456789abcdef"
    found = config(tmp_path, SMALLEST, **{HASH_KEY_VARIABLE: "from the environment"})
    assert (found.hash_key, found.lasting_key) == (b"from the environment", True)
    assert config(tmp_path, SMALLEST).hash_key != config(tmp_path, SMALLEST).hash_key
    assert "0123456789abcdef" not in repr(config(tmp_path, SMALLEST + "identity: {hash_key_file: key}\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "gateway.yaml must be a mapping, not nothing"),
        ("upstreams: {openai: {}}", "an upstream needs 'url'"),
        (SMALLEST + "listen: 8787", "8787 is not an address; write it as"),
        (SMALLEST + "largest_body: lots", "'lots' is not a size; write it as 512KiB or 32MiB"),
        (SMALLEST + "state: {url: 'mysql://x'}", "is not a state; write memory:// or redis://host:6379/0"),
        (SMALLEST + "client_address: {trusted_proxies: [everyone]}", "'everyone' is not a network; write it as 10.0.0.0/8"),
        (SMALLEST + "client_address: {trusted_proxies: [10.1.2.3/8]}", "inside a network; write 10.0.0.0/8"),
        (
            SMALLEST + "fail: {body-malformd: open}",
            "gateway.yaml:2:8: unknown cause or dependency 'body-malformd' in fail; did you mean 'body-malformed'?",
        ),
        (SMALLEST + "state: {prefix: ' '}", "prefix: ' ' is blank"),
        (SMALLEST + "fail: {body-lost: open}", "unknown cause or dependency 'body-lost' in fail"),
        (SMALLEST + "fail: {body-malformed: maybe}", "'maybe' is none of open, closed, degrade"),
        (SMALLEST + "fail: {body-malformed: degrade}", "body-malformed: an exchange cannot be let pass in part; write open or"),
        (SMALLEST + "fail: {state: degrade}", "gateway.yaml:2:8: state: degrade needs to know among how many processes"),
        (SMALLEST + "fail: {route-unrecognised: open}", "an unrecognised route has no upstream"),
        (SMALLEST + "fail: {body-too-large: open}", "raise 'largest_body' instead"),
        (SMALLEST + "audit: {keep: 7}", "is not a number from 0 to 1"),
        (SMALLEST + "mode: dry-run", "'dry-run' is none of enforce, shadow, off"),
        (
            SMALLEST + "client_address: {header: forwarded}",
            "gateway.yaml:2:26: header: nobody is trusted to write it, so it is never",
        ),
        (
            SMALLEST + "client_address: {ja4: x-edge}",
            "gateway.yaml:2:23: ja4: nobody is trusted to write it, so it is never read; name",
        ),
        (
            SMALLEST + "client_address: {hops: 1, ja4: 'x edge'}",
            "gateway.yaml:2:32: ja4: 'x edge' is no name of a header; write it as",
        ),
        (SMALLEST + "client_address: {hops: 1, ja4: X-Api-Key}", "ja4: 'X-Api-Key' carries credentials"),
        (SMALLEST + "client_address: {hops: 1, ja4: cookie}", "ja4: 'cookie' carries credentials"),
        (SMALLEST + "client_address: {trusted_proxies: [0.0.0.0/0]}", "'0.0.0.0/0' is everybody, so any caller could"),
        (SMALLEST + "client_address: {trusted_proxies: ['::/0']}", "'::/0' is everybody"),
        (SMALLEST + "client_address: {trusted_proxies: ['::ffff:0:0/96']}", "'::ffff:0:0/96' is everybody"),
        (
            SMALLEST + "identity: {timeout: 1s}",
            "gateway.yaml:2:12: 'timeout' is for a directory that is asked, but there is no",
        ),
        (
            SMALLEST + "identity: {directory: key, query: q}",
            "'query' is for an SQL database, but the directory is a file; remove",
        ),
        (
            SMALLEST + "identity: {directory: key, token_file: key}",
            "'token_file' is for an HTTP service, but the directory is a",
        ),
        (
            SMALLEST + "identity: {directory: key, cache: {}}",
            "'cache' is for a directory that is asked, but the directory is a file",
        ),
        (SMALLEST + "declare: {link: 'http://example.com/'}", "'http://example.com/' is not reached over TLS; write https://…"),
        (SMALLEST + "geo: {max_age: long}", "max_age: 'long' is not a duration"),
        (SMALLEST + "identity: {hash_key_file: absent}", "absent; paths are relative to this file"),
        (SMALLEST + "idenity: {}", "did you mean 'identity'?"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(tmp_path, text)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_schemes_are_read_in_either_case(tmp_path: Path) -> None:
    text = (
        "upstreams: {openai: {url: 'HTTPS://api.example.com/V1'}}\nstate: {url: 'Redis://h:1/0'}\n"
        "identity: {directory: 'HTTPS://Accounts.example/'}\ndeclare: {link: 'HTTP://localhost/Declare'}\n"
    )
    found = config(tmp_path, text)
    assert (found.upstreams["openai"].url, found.state.url) == ("https://api.example.com/V1", "redis://h:1/0")
    assert found.settings["identity"]["directory"] == "https://Accounts.example/"
    assert found.settings["declare"]["link"] == "http://localhost/Declare"
    for host in ("127.0.0.1", "[::1]"):
        assert config(tmp_path, f"{SMALLEST}declare: {{link: 'http://{host}/x'}}\n").settings["declare"]["link"]


def test_settings_that_are_believed_pass(tmp_path: Path) -> None:
    for trusted in ("hops: 1", "trusted_proxies: [10.0.0.0/8, '::ffff:10.0.0.0/104', 'fd00::/8']"):
        given = config(tmp_path, f"{SMALLEST}client_address: {{{trusted}, header: forwarded, ja4: X-Edge-JA4}}\n").settings
        assert (str(given["client_address"]["header"]), given["client_address"]["ja4"]) == ("forwarded", "X-Edge-JA4")
    asked = config(tmp_path, f"{SMALLEST}identity: {{directory: 'https://x.example/', timeout: 1s}}\n")
    assert asked.settings["identity"]["timeout"] == SECOND


def test_plugins_are_told_where_their_settings_stand(tmp_path: Path) -> None:
    found = config(tmp_path, SMALLEST + "identity:\n  directory: https://x.example/\ndeclare: {link: 'https://x.example/'}\n")
    file = str(tmp_path / "gateway.yaml")
    assert found.settings["places"] == {
        "identity": Place(file, 2, 1), "identity.directory": Place(file, 3, 14),
        "declare": Place(file, 4, 1), "declare.link": Place(file, 4, 17),
    }  # fmt: skip


def test_a_password_in_an_upstream_is_refused_and_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="callers bring their own key; leave out what is before the @") as caught:
        config(tmp_path, "upstreams: {openai: {url: 'https://me:s3cret@api.example.com'}}\n")
    assert "s3cret" not in str(caught.value)


def test_a_short_hash_key_is_refused_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"short-secret")
    with pytest.raises(ConfigError, match="is shorter than 16 bytes") as caught:
        config(tmp_path, SMALLEST + "identity: {hash_key_file: key}\n")
    assert "short-secret" not in str(caught.value)


def test_all_problems_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        config(tmp_path, "listen: nowhere\nmode: dry\nupstreams: {openai: {url: x}}\nlargest_body: -1\n")
    assert len(caught.value.problems) == 4


def test_missing_files_are_named_with_everything_else(tmp_path: Path) -> None:
    written = (
        "mode: dry\nupstreams: {}\nidentity: {directory: accounts.yaml, hash_key_file: key}\n"
        "geo: {country: c.mmdb, asn: a.mmdb}\nreseller: {contradictions: x.yaml}\n"
    )
    with pytest.raises(ConfigError) as caught:
        config(tmp_path, written)
    assert [str(one).replace(f"{tmp_path}/", "") for one in caught.value.problems] == [
        "gateway.yaml:1:7: mode: 'dry' is none of enforce, shadow, off",
        *(
            f"gateway.yaml:{line}:{column}: {key}: there is no file {file}; paths are relative to this file"
            for line, column, key, file in (
                (3, 23, "directory", "accounts.yaml"), (3, 53, "hash_key_file", "key"), (4, 16, "country", "c.mmdb"),
                (4, 29, "asn", "a.mmdb"), (5, 28, "contradictions", "x.yaml"),
            )
        ),
    ]  # fmt: skip


def test_the_traces_endpoint_is_a_url_or_says_more(tmp_path: Path) -> None:
    assert config(tmp_path, SMALLEST).otlp is None
    assert config(tmp_path, SMALLEST + "audit: {otlp: 'HTTP://127.0.0.1:4318'}\n").otlp == Endpoint("http://127.0.0.1:4318")
    (tmp_path / "ca.pem").write_text("")
    found = config(
        tmp_path,
        SMALLEST + "audit: {otlp: {endpoint: 'grpcs://[::1]:4317', headers: {x-key: {env: KEY}}, ca_file: ca.pem, timeout: 2s,"
        " compression: gzip}}\n",
        KEY="secret",
    )
    assert found.otlp == Endpoint("grpcs://[::1]:4317", {"x-key": "secret"}, tmp_path / "ca.pem", 2 * SECOND, True)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("'ftp://h'", "is no OTLP endpoint"),
        ("'grpc://h'", "is no OTLP endpoint"),
        ("'http://user:word@h/v1'", "is no OTLP endpoint"),
        ("{headers: {}}", "otlp needs 'endpoint'"),
        ("{endpoint: 'http://h', headers: {'a b': c}}", "a name is none of a header"),
        ("{endpoint: 'http://h', headers: {a: 'b\tc'}}", "is no value of a header"),
        ("{endpoint: 'http://h', compression: zip}", "is none of none, gzip"),
        ("{endpoint: 'https://h', ca_file: none.pem}", "there is no file"),
        ("{endpoint: 'http://h', ca_file: gateway.yaml}", "not asked over TLS"),
    ],
)
def test_a_bad_traces_endpoint_is_told(tmp_path: Path, written: str, said: str) -> None:
    with pytest.raises(ConfigError) as found:
        config(tmp_path, SMALLEST + f"audit: {{otlp: {written}}}\n")
    assert said in str(found.value)
