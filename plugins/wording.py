"""Texts of prompts made comparable: what is invisible dropped, what varies by nature masked, what frames kept.

Everything here is linear in the length of a text, and of a long one only its first three quarters and its last quarter are
looked at, up to a stated number of characters. Nothing leaves but hashes: `plugins.prompt` sees to that.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import islice
from typing import Any, Final
from unicodedata import category, normalize

import re2

from gateway.unicode import composed

LONGEST: Final = 8_192
MOST: Final = 16_384
FIRST_WORDS: Final = 8
LAST_WORDS: Final = 6
OPENING_WORDS: Final = 16
MOST_HEADINGS: Final = 24
LONGEST_HEADING: Final = 80
EDGE: Final = 240

_QUOTED: Final = re.compile(r"```.*?```|\"[^\"\n]{0,400}\"|'(?<!\w')[^'\n]{2,400}'(?!\w)", re.DOTALL)
_IDENTIFIER: Final = re.compile(r"[\w-]{12,}")
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


@lru_cache(maxsize=8)  # several signals of one exchange look at the same text
def normalised(text: str) -> str:
    """What is invisible dropped, NFKC, case folded, runs of blanks made one. Linear in the length."""
    text = folded(text)
    blanks = "  " in text or "\t" in text or "\r" in text or "\f" in text or "\v" in text  # NFKC leaves no other blank
    return _SPACE.sub(" ", text) if blanks else text


def folded(text: str) -> str:
    """`composed` and case folded.

    Most texts hold a few kinds of letters beyond ASCII, so their ASCII is folded as bytes and each such letter replaced
    wherever it stands: that costs a fifth of folding every character by the tables of Unicode.
    """
    if text.isascii():
        return text.lower()
    raw = text.encode("utf-8", "surrogatepass")
    beyond = raw.translate(None, _ASCII)
    if len(beyond) * _FEW > len(raw):
        return _composed(text).casefold()
    kinds, forms = set(beyond.decode("utf-8", "surrogatepass")), _forms()
    if not forms.keys() >= kinds:
        return _composed(text).casefold()
    raw = raw.lower()
    for letter in kinds:
        form = forms[letter]
        if form != letter:
            raw = raw.replace(letter.encode(), form.encode())
    return raw.decode()


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


@lru_cache(maxsize=8)
def plain(text: str) -> str:
    """A normalised text without its disguises: letters taken for Latin ones made those, accents dropped, spaced letters joined.

    For looking at frames and shapes, not for telling texts apart. Only a text of which a third is blanks is searched for
    s p a c e d letters, so that all others pay for one count. Linear in the length.
    """
    found = normalised(text)
    if found.count(" ") * 3 > len(found):
        found = normalised(_SPACED.sub(_joined, folded(text)))
    if not found.isascii():
        raw = found.encode("utf-8", "replace")
        if raw.translate(None, _NOT_LEADING):  # letters such as those of the table begin with these bytes, ideographs do not
            looks = _lookalikes()
            kinds = set(raw.translate(None, _ASCII).decode())
            for letter in looks.keys() & kinds:  # a few; translating every character costs five times as much
                found = found.replace(letter, looks[letter])
    return found


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
        return _told(text)
    return _told(capped(text, MOST)) + b"\0" + text[MOST * 3 // 4 : -(MOST // 4)].encode("utf-8", "replace")


@lru_cache(maxsize=8)  # the same first and last texts are hashed by several signals
def _told(text: str) -> bytes:
    return normalised(text).encode("utf-8", "replace")


def masked(text: str, most: slice = slice(None)) -> str:
    """The words of a text with what varies by nature (quotes, code, links, addresses, numbers, identifiers) as `_`.

    most: which of the words, when quotes and code are masked already.
    """
    if '"' in text or "'" in text or "```" in text:
        text = _QUOTED.sub("_", text)
    words = text.split()[most]
    if "@" in text or "://" in text or _DIGIT.search(text):
        words = [word if word.isalpha() or word.strip(_MARKS).isalpha() else _masked_word(word) for word in words]
    return " ".join(words)


def _masked_word(word: str) -> str:
    if "://" in word or 0 < word.find("@") < len(word) - 1:
        return "_"
    if not _DIGIT.search(word):
        return word
    return _NUMBER.sub("_", _IDENTIFIER.sub(lambda found: "_" if _DIGIT.search(found[0]) else found[0], word))


@lru_cache(maxsize=8)  # `prompt.template` and `prompt.kin` look at the same one
def skeleton(text: str) -> str:
    """The frame of one message: first words, heading lines in order, last words; volatile parts masked."""
    whole = plain(capped(text))
    first = masked(_first(whole), slice(FIRST_WORDS))
    long = len(whole) > 2 * EDGE or len(whole.split()) > FIRST_WORDS + LAST_WORDS
    last = masked(_last(whole), slice(-LAST_WORDS, None)) if long else ""
    return first + "\n" + "\n".join(headings(whole)) + "\n" + last


def opening(text: str) -> str:
    """The frame of a system text: its first words and heading lines; what is filled in stands behind them."""
    whole = plain(capped(text))
    return masked(_first(whole), slice(OPENING_WORDS)) + "\n" + "\n".join(headings(whole))


def headings(whole: str) -> list[str]:
    """The first lines of a normalised text that frame rather than fill (`# Title`, `Title:`, `<tag>`), masked."""
    lines = (masked(line) for line in whole.split("\n") if len(line) > 1 and _is_heading(line))
    return list(islice(lines, MOST_HEADINGS))


def _is_heading(line: str) -> bool:
    line = line.strip()
    return 1 < len(line) <= LONGEST_HEADING and (line[-1] == ":" or line[0] == "#" or (line[0] == "<" and line[-1] == ">"))


def _first(whole: str) -> str:
    return " ".join(whole[: 2 * EDGE].split())[:EDGE]


def _last(whole: str) -> str:
    return " ".join(whole[-2 * EDGE :].split())[-EDGE:]
