"""What is listened to in an answer; and what it says, gathered as it passes by in bounded memory where that is captured."""

from __future__ import annotations

from dataclasses import replace

from gateway.facts import Said
from gateway.judgement import Judgement
from gateway.protocol import Heard, Hearing


class Gathered:
    """The beginning of an answer's text. most: characters of it that are kept; one more tells that there were more."""

    def __init__(self, most: int) -> None:
        self._room = most + 1
        self._texts: list[str] = []
        self._finish = ""
        self.whole = True

    @property
    def began(self) -> bool:
        """Whether anything was said."""
        return bool(self._texts)

    def add(self, heard: Heard) -> None:
        """Take what one document, or one event of a stream, says."""
        if heard.text and self._room > 0:
            self._texts.append(heard.text[: self._room])
            self._room -= len(self._texts[-1])
        self._finish = heard.finish or self._finish

    def said(self) -> Said:
        """What was gathered."""
        return Said("".join(self._texts), self._finish, self.whole)


def hearing_of(judgement: Judgement) -> Hearing:
    """What is listened to in the answer of a judged exchange."""
    hearing = judgement.engine.hears(judgement.view)
    return replace(hearing, content=judgement.capture) if judgement.capture else hearing
