"""Texts of prompts made comparable: what is invisible dropped, what varies by nature masked, what frames kept.

Everything here is linear in the length of a text, and of a long one only its first three quarters and its last quarter are
looked at, up to a stated number of characters. Nothing leaves but hashes: `plugins.prompt` sees to that.
"""

from __future__ import annotations

import re
from collections.abc import Set
from functools import lru_cache
from typing import Any, Final
from unicodedata import category, normalize

import re2

from gateway.plugins.keyed import keyed
from gateway.unicode import composed

LONGEST: Final = 8_192
MOST: Final = 16_384
FIRST_WORDS: Final = 8
LAST_WORDS: Final = 6
OPENING_WORDS: Final = 16
MOST_HEADINGS: Final = 24
LONGEST_HEADING: Final = 80
EDGE: Final = 240
SHORTEST_IDENTIFIER: Final = 12

_QUOTED: Final = re.compile(r"```.*?```|\"[^\"\n]{0,400}\"|'(?<!\w')[^'\n]{2,400}'(?!\w)", re.DOTALL)
_IDENTIFIER: Final = re.compile(rf"[\w-]{{{SHORTEST_IDENTIFIER},}}")
_NUMBER: Final = re.compile(r"\d+(?:[.,:]\d+)*")
_DIGIT: Final = re.compile(r"\d")
_SPACE: Final = re.compile(r"[^\S\n]+")
_SPACED: Final = re.compile(r"(?<!\w)(?:\w )+\w(?!\w)")
_SCRIPTS: Final = (  # letters of Cyrillic, Greek, Armenian and phonetic writing beside the Latin ones they are taken for
    ("авеіјӏкмнорстухԁԛԝѕһɡɑıʏ", "abeijlkmhopctyxdqwshgaiy"),
    ("αβγεζηικμνορτυχω", "abyezhikmvoptuxw"),
    ("օսհոցզ", "ouhngq"),
)
_ACCENTED: Final = range(0xC0, 0x250)
_ASCII: Final = bytes(range(0x80))
_NOT_LEADING: Final = bytes(byte for byte in range(0x100) if not 0xC3 <= byte <= 0xD6)  # of U+00C0 to U+05BF in UTF-8
_FEW: Final = 4  # of so many bytes one may be of a letter beyond ASCII
_TREATED_ALONE: Final = range(0x80, 0x3000)
_MARKS: Final = ".,;:!?()[]{}<>*`\"'"  # around a word that is nothing but letters; a slash or an at sign says more
_JAMO: Final = frozenset(map(chr, range(0x1100, 0x1200)))
_JOINING: Final = ("Mn", "Mc", "Me", "Cf")


# a normalised text, as it is hashed too, and its kinds of letters beyond ASCII; None where they were not looked for
Read = tuple[str, bytes, Set[str] | None]
_NO_LETTERS: Final[Set[str]] = frozenset()


def normalised(text: str) -> str:
    """What is invisible dropped, NFKC, case folded, runs of blanks made one. Linear in the length."""
    return _read(text)[0]


@lru_cache(maxsize=8)  # several signals of one exchange look at the same text
def _read(text: str) -> Read:
    found, raw, kinds = _folded(text)
    if b"  " in raw or b"\t" in raw or b"\r" in raw or b"\f" in raw or b"\v" in raw:  # NFKC leaves no other blank
        found = _SPACE.sub(" ", found)
        raw = found.encode("utf-8", "replace")
    return found, raw, kinds


def _folded(text: str) -> Read:
    """`composed` and case folded.

    Most texts hold a few kinds of letters beyond ASCII, so their ASCII is folded as bytes and each such letter replaced
    wherever it stands: that costs a fifth of folding every character by the tables of Unicode.
    """
    if text.isascii():
        found = text.lower()
        return found, found.encode(), _NO_LETTERS
    raw = text.encode("utf-8", "surrogatepass")
    beyond = raw.translate(None, _ASCII)
    kinds = set(beyond.decode("utf-8", "surrogatepass")) if len(beyond) * _FEW <= len(raw) else set()
    if not kinds or not _forms().keys() >= kinds:
        found = _composed(text).casefold()
        return found, found.encode("utf-8", "replace"), None
    raw = raw.lower()
    changed = _changed()
    for letter in changed.keys() & kinds:
        form = changed[letter]
        raw = raw.replace(letter.encode(), form.encode())
        kinds.update(form)
    return raw.decode(), raw, kinds


def folded(text: str) -> str:
    """`composed` and case folded."""
    return _folded(text)[0]


@lru_cache(maxsize=1)
def _changed() -> dict[str, str]:
    """Those of `_forms` that do not stay as they are."""
    return {letter: form for letter, form in _forms().items() if letter != form}


@lru_cache(maxsize=1)
def _forms() -> dict[str, str]:
    """Letters beyond ASCII that NFKC and case folding treat alike whatever stands beside them, to what they become.

    Neither do they begin with what joins the letter before (marks, medial and final jamo), nor are they dropped.
    """
    found = {}
    for code in _TREATED_ALONE:
        letter = chr(code)
        form = normalize("NFKC", letter).casefold()
        alone = category(letter) not in _JOINING and category(normalize("NFKD", letter)[0])[0] != "M" and letter not in _JAMO
        if alone and _rare().search(letter.encode()) is None and form == normalize("NFKC", form).casefold():
            found[letter] = form
    # what a letter becomes must stay as it is when other letters are replaced
    return {letter: form for letter, form in found.items() if all(part.isascii() or found.get(part) == part for part in form)}


def _composed(text: str) -> str:
    """As `composed`, which looks for unseen characters and marks at ten times the cost of finding out that there are none."""
    if text.isascii():
        return text
    return normalize("NFKC", text) if _rare().search(text.encode("utf-8", "replace")) is None else composed(text)


@lru_cache(maxsize=1)
def _rare() -> Any:
    """Everything that `composed` treats before NFKC does, and more: marks, format characters, and letters that are not seen."""
    unseen = r"\x{2065}\x{115f}\x{1160}\x{3164}\x{ffa0}\x{fff0}-\x{fff8}\x{ff9e}\x{ff9f}\x{e0000}-\x{e0fff}"
    return re2.compile(rf"[\p{{M}}\p{{Cf}}{unseen}]".encode())


def plain(text: str) -> str:
    """A normalised text without its disguises: letters taken for Latin ones made those, accents dropped, spaced letters joined.

    For looking at frames and shapes, not for telling texts apart. Only a text of which a third is blanks is searched for
    s p a c e d letters, so that all others pay for one count. Linear in the length.
    """
    return _undisguised(text)[0]


def plain_bytes(text: str) -> bytes:
    """The same as it is searched: in UTF-8."""
    return _undisguised(text)[1]


@lru_cache(maxsize=8)
def _undisguised(text: str) -> tuple[str, bytes]:
    found, raw, kinds = _read(text)
    if raw.count(b" ") * 3 > len(found):
        found, raw, kinds = _read(_SPACED.sub(_joined, folded(text)))
    looks = _lookalikes()
    changed = looks.keys() & (_kinds(raw) if kinds is None else kinds)
    for letter in changed:  # a few; translating every character costs more
        found = found.replace(letter, looks[letter])
    return found, found.encode("utf-8", "replace") if changed else raw


def _kinds(raw: bytes) -> set[str]:
    """The kinds of letters beyond ASCII, if one of them begins with a byte that the letters of the table begin with."""
    return set(raw.translate(None, _ASCII).decode()) if raw.translate(None, _NOT_LEADING) else set()


def _joined(found: re.Match[str]) -> str:
    return found[0].replace(" ", "")


@lru_cache(maxsize=1)
def _lookalikes() -> dict[str, str]:
    """Letters outside ASCII, as `normalised` leaves them, to the ASCII letter each is taken for."""
    bases = {chr(code): normalize("NFD", chr(code))[0] for code in _ACCENTED}
    found = {letter: base for letter, base in bases.items() if base.isascii()}
    for letters, latin in _SCRIPTS:
        found.update(zip(letters, latin, strict=True))
    return found


def capped(text: str, most: int = LONGEST) -> str:
    """The first three quarters and the last quarter of a text of more than so many characters."""
    if len(text) <= most:
        return text
    return text[: most * 3 // 4] + "\n" + text[-(most // 4) :]


def wording(text: str) -> bytes:
    """What a text says: normalised as far as that is done, the middle of a longer one as it is."""
    if len(text) <= MOST:
        return _read(text)[1]
    return _read(capped(text, MOST))[1] + b"\0" + text[MOST * 3 // 4 : -(MOST // 4)].encode("utf-8", "replace")


@lru_cache(maxsize=8)  # one text is often first and last of what a user said
def hashed(text: str, key: bytes) -> str:
    """The keyed hash of what a text says."""
    return keyed(wording(text), key)


def masked(text: str) -> str:
    """The words of a text with what varies by nature (quotes, code, links, addresses, numbers, identifiers) as `_`."""
    words = (_QUOTED.sub("_", text) if _quotes(text) else text).split()
    return _masked_words(words, " ".join(words))


def _quotes(text: str) -> bool:
    return '"' in text or "'" in text or "```" in text


def _masked_words(words: list[str], text: str) -> str:
    """Words with what varies by nature masked; text: the same, joined. Most have no need to be looked at one by one."""
    numbered = _DIGIT.search(text) is not None
    if "@" in text or "://" in text or (numbered and max(map(len, words)) >= SHORTEST_IDENTIFIER):
        return " ".join([word if word.isalpha() else _masked_word(word) for word in words])
    return _NUMBER.sub("_", text) if numbered else text


def _masked_word(word: str) -> str:
    if word.strip(_MARKS).isalpha():
        return word
    if "://" in word or 0 < word.find("@") < len(word) - 1 or word.isdecimal():
        return "_"
    if not _DIGIT.search(word):
        return word
    if len(word) >= SHORTEST_IDENTIFIER:
        word = _IDENTIFIER.sub(lambda found: "_" if _DIGIT.search(found[0]) else found[0], word)
    return _NUMBER.sub("_", word)


@lru_cache(maxsize=8)  # `prompt.template` and `prompt.kin` look at the same one
def skeleton(text: str) -> str:
    """The frame of one message: first words, heading lines in order, last words; volatile parts masked."""
    whole = plain(capped(text))
    long = len(whole) > 2 * EDGE or len(whole.split()) > FIRST_WORDS + LAST_WORDS
    last = _last(whole, LAST_WORDS) if long else ""
    return _first(whole, FIRST_WORDS) + "\n" + "\n".join(headings(whole)) + "\n" + last


def opening(text: str) -> str:
    """The frame of a system text: its first words and heading lines; what is filled in stands behind them."""
    whole = plain(capped(text))
    return _first(whole, OPENING_WORDS) + "\n" + "\n".join(headings(whole))


def headings(whole: str) -> list[str]:
    """The first lines of a normalised text that frame rather than fill (`# Title`, `Title:`, `<tag>`), masked."""
    lines = [
        line
        for line in map(str.strip, whole.split("\n"))
        if 1 < len(line) <= LONGEST_HEADING
        and (line[-1] == ":" or line[0] == "#" or (line[0] == "<" and line[-1] == ">"))
    ]  # fmt: skip
    return [masked(line) for line in lines[:MOST_HEADINGS]]


def _first(whole: str, most: int) -> str:
    """The first words of the first `EDGE` characters, masked."""
    begin = whole[: 2 * EDGE]
    words = begin.split(None, most)[:most]
    text = " ".join(words)
    if _cut(text):
        words = _QUOTED.sub("_", " ".join(begin.split())[:EDGE]).split()[:most]
        text = " ".join(words)
    return _masked_words(words, text)


def _last(whole: str, most: int) -> str:
    """The last words of the last `EDGE` characters, masked."""
    end = whole[-2 * EDGE :]
    words = end.rsplit(None, most)[-most:]
    text = " ".join(words)
    if _cut(text):
        words = _QUOTED.sub("_", " ".join(end.split())[-EDGE:]).split()[-most:]
        text = " ".join(words)
    return _masked_words(words, text)


def _cut(text: str) -> bool:
    """Whether cutting their edge to `EDGE` characters, or masking quotes that may reach out of it, can change these words."""
    return len(text) > EDGE or _quotes(text)
