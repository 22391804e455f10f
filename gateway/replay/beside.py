"""The test files that stand beside packs: `<pack>.test.yaml`. None is passed over in silence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from gateway.errors import Place, PolicyError, Problem
from gateway.language.compile import pack_files

ENDING: Final = ".test.yaml"
_PACK: Final = ".yaml"


def tests_beside(packs: Sequence[Path], folders: Iterable[Path] = ()) -> tuple[Path, ...]:
    """The test files of these packs and folders of packs.

    Raises PolicyError for a test file that no pack owns: in these folders, and beside a pack that has none but this one, which
    is named nearly like it.
    """
    files = pack_files(packs)
    tests = tuple(file for pack in files if (file := _tests_of(pack)).exists())
    searched = dict.fromkeys(path for path in (*packs, *folders) if path.is_dir())
    strays = dict.fromkeys([*(stray for folder in searched for stray in _strays(folder)), *_misspelt(files)])
    if strays:
        known = [pack.stem for pack in files]
        raise PolicyError([_problem(stray, known) for stray in strays])
    return tests


def no_packs(paths: Iterable[Path], configs: Iterable[Path]) -> list[Problem]:
    """What is wrong with paths that a command takes for packs: files of tests, configurations, other files."""
    named = set(configs)
    return [Problem(Place(str(path)), *said) for path in paths if path.is_file() and (said := _what(path, path in named))]


def _what(path: Path, config: bool) -> tuple[str, str] | None:
    if path.name.endswith(ENDING):
        owner = path.with_name(path.name.removesuffix(ENDING) + _PACK)
        return "holds the tests of a pack and is no pack itself", f"name {owner}, or the folder of packs"
    if config:
        return "is the configuration of a gateway and holds no rules", "name the packs or folders that its 'policy' names"
    if path.suffix != _PACK:
        return "is no pack: packs end in .yaml", "name a pack, or a folder of packs"
    return None


def _tests_of(pack: Path) -> Path:
    return pack.with_name(f"{pack.stem}{ENDING}")


def _strays(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.glob(f"*{ENDING}")):
        if not file.with_name(file.name.removesuffix(ENDING) + _PACK).exists():
            yield file


def _misspelt(files: Iterable[Path]) -> Iterator[Path]:
    for pack in files:
        if not _tests_of(pack).exists() and pack.parent.is_dir():
            strays = {stray.name.removesuffix(ENDING): stray for stray in _strays(pack.parent)}
            yield from (strays[stem] for stem in get_close_matches(pack.stem, strays))


def _problem(stray: Path, known: Sequence[str]) -> Problem:
    stem = stray.name.removesuffix(ENDING)
    close = get_close_matches(stem, known, n=1)
    mend = f"did you mean '{close[0]}{ENDING}'?" if close else "name it after its pack"
    return Problem(Place(str(stray)), f"belongs to no pack: there is no {stem}{_PACK} beside it", mend)
