"""A directory behind HTTP: one POST for a look-up.

    POST <url>                                   200  {"id": "acme-research", "org": "acme", "plan": "paid", …}
    {"credential": "sha256:<hex of the key>"}    404  it is not listed

The fields are those of `entries`; any other is an error. Everything but 200 and 404 is a failure, and so is an answer that is
not such an object or is longer than `LARGEST`. The URL has no query, since health shows it. The bearer token stands in a file,
which is read again when it changes.
TLS is verified; without it only this machine itself is asked: tokens and accounts must not cross a network in the clear.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from gateway.errors import ConfigError, LoadError, Place, Problem
from gateway.plugins.identity.cache import NOBODY
from gateway.plugins.identity.entries import DirectoryError, entry_of, unreadable
from gateway.plugins.reloaded import ReloadedFile
from gateway.strict.document import contents

CONNECTIONS: Final = 16
LARGEST: Final = 64 * 2**10
LARGEST_TOKEN: Final = 16 * 2**10
HEADERS: Final = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "sluicegate"}


class HttpSource:
    """A service. token_file: holds the bearer token it is asked with. Raises ConfigError."""

    kind = "http"
    connections = CONNECTIONS

    def __init__(self, url: str, token_file: Path | None) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" and not _loopback(parts.hostname or ""):
            raise _wrong("is asked without TLS", "write https://…; http:// is for this machine itself")
        if not parts.hostname or parts.username or parts.password or parts.fragment:
            raise _wrong("is not the URL of a service", "write https://host/path; a token belongs in identity.token_file")
        if parts.query or "?" in url:
            raise _wrong("has a query, and may show it", "write https://host/path; a token belongs in identity.token_file")
        self._url = url
        self.where = f"{parts.scheme}://{parts.netloc}{parts.path}"
        self._token = ReloadedFile(token_file, read_token) if token_file is not None else None
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def check(self) -> None:
        await self.ask(NOBODY)

    async def ask(self, digest: str) -> Mapping[str, object] | None:
        try:
            status, body = await self._post(digest)
        except aiohttp.ClientConnectorError as error:
            why = error.os_error.strerror or "no reason given"
            raise DirectoryError(f"cannot be reached: {type(error).__name__}", f"cannot be reached: {why}") from None
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):  # a kept connection may have ended meanwhile
            status, body = await self._post_again(digest)
        except (aiohttp.ClientError, OSError) as error:
            raise DirectoryError(f"broke off: {type(error).__name__}") from None
        if status == 404:
            return None
        if status != 200:
            raise DirectoryError(f"answered with status {status}")
        return read_entry(body)

    def refresh(self) -> str:
        if self._token is None:
            return ""
        self._token.refresh()
        return self._token.problem

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None and self._loop is asyncio.get_running_loop():
            await session.close()

    async def _post_again(self, digest: str) -> tuple[int, bytes]:
        try:
            return await self._post(digest)
        except (aiohttp.ClientError, OSError) as error:
            raise DirectoryError(f"broke off: {type(error).__name__}") from None

    async def _post(self, digest: str) -> tuple[int, bytes]:
        headers = {**HEADERS, "authorization": f"Bearer {self._token.content}"} if self._token else HEADERS
        async with self._opened().post(
            self._url, json={"credential": f"sha256:{digest}"}, headers=headers, allow_redirects=False
        ) as response:
            body = b""
            if response.status == 200:
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > LARGEST:
                        raise DirectoryError(f"answered with more than {LARGEST} bytes")
            return response.status, body

    def _opened(self) -> aiohttp.ClientSession:
        """The session of this loop: a dry run and a start each have one of their own."""
        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop:
            self._loop = loop
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTIONS, ttl_dns_cache=60),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None),
            )
        return self._session


def read_entry(body: bytes) -> dict[str, object]:
    """The entry that an answer holds. Raises DirectoryError for what is no JSON object, BadEntryError for a wrong field."""
    try:
        document = json.loads(body, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise DirectoryError(f"answered with what is not JSON: {error}"[:200]) from None
    if not isinstance(document, dict):
        raise DirectoryError("answered with JSON that is no object")
    entry, wrong = entry_of(document)
    if wrong:
        raise unreadable(entry, wrong)
    return entry


def read_token(path: Path) -> str:
    """The token in a file. Raises ConfigError where there is none, or none that fits in a header."""
    try:
        token = contents(path, LARGEST_TOKEN).strip()
    except LoadError as error:
        raise ConfigError(error.problems) from None
    if not token or not all(32 < byte < 127 for byte in token):
        raise ConfigError([Problem(Place(str(path)), "holds no bearer token", "put the token there and nothing else")])
    return token.decode()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _wrong(message: str, mend: str) -> ConfigError:
    return ConfigError([Problem(Place("identity.directory"), message, mend)])
