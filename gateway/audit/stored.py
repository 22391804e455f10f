"""Files of records, wherever they are stored and however they are packed: found, and opened to be read line by line.

A name is a file, a folder, a pattern (`logs/*.jsonl.gz`), `-` for standard input, or a URL of any filesystem that fsspec knows
(`s3://bucket/day/*.zst`; extra `scale`). What packs a file is told by its first bytes, never by its suffix, so that a pipe may
be packed too. A line is read only as far as `LONGEST`, so that memory is bounded by one line.
"""

from __future__ import annotations

import codecs
import glob
import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, cast
from urllib.parse import unquote

from gateway.errors import Place, RecordError, secrets_of, without_secrets

LONGEST: Final = 256 * 2**20
PARQUET: Final = b"PAR1"
SUFFIXES: Final = frozenset({".jsonl", ".ndjson", ".json", ".log", ".csv", ".gz", ".zst", ".parquet"})
BROKEN: Final = (OSError, EOFError, zlib.error)  # what reading a packed file raises where it is damaged or cut off
STDIN: Final = "-"
_CHUNK: Final = 2**17
_WIDE: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def is_url(name: str) -> bool:
    """Whether a name is a URL, for fsspec to open."""
    return "://" in name


def files_of(name: str) -> list[str]:
    """The files a name stands for, in the order of their names; a name that is one file is itself, whether or not it is there.

    Raises RecordError for a pattern or a folder without files of records, and for a URL that cannot be looked into.
    """
    if is_url(name):
        return _found_at(name)
    if name == STDIN or Path(name).exists():
        return _inside(name) if name != STDIN and Path(name).is_dir() else [name]
    if not glob.has_magic(name):
        return [name]
    found = sorted(file for file in glob.glob(name, recursive=True) if Path(file).is_file())  # noqa: PTH207 - absolute patterns, too
    return found or _nothing(name, "matches no file; patterns know *, ?, [abc] and ** for folders")


def _inside(folder: str) -> list[str]:
    """The files of records in a folder and those below. A file of another kind is not passed over in silence."""
    found = sorted(str(file) for file in Path(folder).rglob("*") if file.is_file() and not file.name.startswith("."))
    if other := next((file for file in found if Path(file).suffix not in SUFFIXES), None):
        known = ", ".join(sorted(SUFFIXES))
        raise RecordError(Place(folder), f"holds {other}, which ends in none of {known}; name the files by a pattern")
    return found or _nothing(folder, "is a folder that holds no ledger and no file of records")


def _nothing(name: str, why: str) -> list[str]:
    raise RecordError(Place(name), why)


def _found_at(url: str) -> list[str]:
    with _told(url):
        system, path = _system(url)
        if glob.has_magic(path):
            paths = [str(found) for found in system.glob(path)]
        else:
            paths = system.find(path) if system.isdir(path) else [path]
        found = sorted(system.unstrip_protocol(one) for one in paths)
    return found or _nothing(url, "matches no file")


def _system(url: str) -> tuple[Any, str]:
    """The filesystem of a URL, and the path in it. Raises RecordError where a package is missing, ImportError for its own."""
    try:
        from fsspec.core import url_to_fs  # type: ignore[import-untyped]  # an extra: only where a URL is named
    except ImportError:
        raise RecordError(Place(url), "URLs need the fsspec package; install sluicegate[scale]") from None
    return cast("tuple[Any, str]", url_to_fs(url))


@contextmanager
def _told(url: str, what: str = "read") -> Iterator[None]:
    """Has what a filesystem raises become a RecordError that says how to mend it."""
    try:
        yield
    except RecordError:
        raise
    except ImportError as error:
        needs = f"{url.partition('://')[0]}:// needs a package of its own beside sluicegate[scale]: {error}"
        raise RecordError(Place(url), needs) from None
    except Exception as error:  # filesystems are other people's, and raise whatever their clients raise
        raise RecordError(Place(url), f"cannot be {what}: {type(error).__name__}: {_safe(str(error), url)}") from None


def _safe(text: str, url: str) -> str:
    """What a filesystem says, without the secrets of URLs in it, and of this one wherever it repeats them."""
    for secret in filter(None, secrets_of(url)):
        text = text.replace(secret, "…").replace(unquote(secret), "…")
    return without_secrets(text)


@contextmanager
def created(name: str) -> Iterator[IO[bytes]]:
    """A new file, or one at a URL, to be written to. Raises OSError, and RecordError for what a filesystem raises."""
    if not is_url(name):
        with Path(name).open("wb") as file:
            yield file
        return
    with _told(name, "written"):
        system, path = _system(name)
        with system.open(path, "wb") as file:
            yield file


def remote(url: str) -> IO[bytes]:
    """A file at a URL, to be read from anywhere in it. Raises RecordError."""
    with _told(url):
        system, path = _system(url)
        return cast("IO[bytes]", system.open(path, "rb"))


@contextmanager
def opened(name: str) -> Iterator[IO[bytes]]:
    """A file or standard input as it is stored, packed or not, buffered. Raises RecordError."""
    if name == STDIN:
        yield sys.stdin.buffer
    elif is_url(name):
        with remote(name) as file:
            yield file
    else:
        try:
            local = Path(name).open("rb")  # noqa: SIM115 - closed below, but what is read from it raises elsewhere
        except OSError as error:
            raise RecordError(Place(name), f"cannot be read: {error.strerror}") from None
        with local:
            yield local


@contextmanager
def unpacked(name: str) -> Iterator[IO[bytes]]:
    """The bytes of a file of records, unpacked if it is packed. Reading them raises one of `BROKEN`. Raises RecordError."""
    with opened(name) as stored:
        file = stored if hasattr(stored, "peek") else io.BufferedReader(cast("io.RawIOBase", stored), _CHUNK)
        begins = cast("io.BufferedReader", file).peek(4)[:4]
        unpack = next((unpack for magic, unpack in _PACKED.items() if begins.startswith(magic)), None)
        yield file if unpack is None else unpack(file, name)


def is_parquet(name: str) -> bool:
    """Whether a file is Parquet, by its first bytes; what is no file is not. Raises RecordError."""
    if name == STDIN or (not is_url(name) and not Path(name).is_file()):
        return False
    with opened(name) as file:
        return file.read(len(PARQUET)) == PARQUET


def lines(name: str, file: IO[bytes], on_error: Callable[[RecordError], None]) -> Iterator[tuple[Place, bytes]]:
    """The lines of a file that hold something, with their places. What cannot be read is handed to `on_error`.

    A mark of byte order at the beginning and the ends of lines, \\r\\n included, are left out.
    """
    number = 0
    while True:
        number += 1
        place = Place(name, number, 1)
        try:
            text = file.readline(LONGEST)
            if len(text) == LONGEST and not text.endswith(b"\n"):
                _rest_of_line(file)
                on_error(RecordError(place, f"is longer than {LONGEST // 2**20} MiB; one record is one line"))
                continue
        except BROKEN as error:
            on_error(RecordError(place, f"the file is broken from here: {error}"))
            return
        if not text:
            return
        if number == 1 and text.startswith(_WIDE):
            on_error(RecordError(place, "is UTF-16; write the records as UTF-8 (iconv -f UTF-16 -t UTF-8)"))
            return
        if number == 1:
            text = text.removeprefix(codecs.BOM_UTF8)
        if text.strip():
            yield place, text


def _rest_of_line(file: IO[bytes]) -> None:
    while (more := file.readline(_CHUNK)) and not more.endswith(b"\n"):
        pass


class _Zstandard(io.RawIOBase):
    """Unpacks Zstandard, frame by frame; a frame that is cut off raises EOFError, damage OSError."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        try:
            import zstandard  # an extra: only where something is packed by it
        except ImportError:
            raise RecordError(Place(name), "Zstandard needs the zstandard package; install sluicegate[scale]") from None
        self._file, self._module = file, zstandard
        self._frame: Any = None
        self._held = self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._held and self._more():
            pass
        size = min(len(buffer), len(self._held))
        buffer[:size], self._held = self._held[:size], self._held[size:]
        return size

    def _more(self) -> bool:
        """Unpack some more. Whether there was any. Raises OSError, EOFError."""
        packed = self._rest or self._file.read(_CHUNK)
        if not packed:
            if self._frame is not None:
                raise EOFError("the Zstandard data is cut off")
            return False
        frame = self._frame or self._module.ZstdDecompressor().decompressobj()
        try:
            self._held = frame.decompress(packed)
        except self._module.ZstdError as error:
            raise OSError(str(error)) from None
        self._frame, self._rest = (None, frame.unused_data) if frame.eof else (frame, b"")
        return True


_PACKED: Final[dict[bytes, Callable[[IO[bytes], str], IO[bytes]]]] = {
    b"\x1f\x8b": lambda file, name: cast("IO[bytes]", gzip.GzipFile(fileobj=file)),
    b"\x28\xb5\x2f\xfd": lambda file, name: cast("IO[bytes]", io.BufferedReader(_Zstandard(file, name), _CHUNK)),
}
