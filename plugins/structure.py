"""What a prompt asks for by its build: a table of shapes, each a linear pattern over the plain text of one call.

A shape says how a prompt is made (it asks for so many new questions, it lays out candidates and a scale, it gives an answer and
asks for the way there), never what it is about. Every one has honest users, named beside it; alone none of them means anything,
and rules read them as shares over many requests. The ideas are those of public descriptions of synthetic-data pipelines and of
evaluation harnesses; the patterns are our own and hold no sentence of theirs.

What is looked at: the system text and the last user message, of longer ones the first three quarters and the last quarter
of so many characters (`LONGEST_SYSTEM`, `LONGEST_USER`), normalised and without look-alike letters (`wording.plain`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import re2

from gateway.facts import Call
from gateway.plugins.wording import capped, plain_bytes

LONGEST_SYSTEM: Final = 4_096
LONGEST_USER: Final = 8_192
MEMORY: Final = 64 * 2**20  # of the automaton's states; with less it falls back to a form five times as slow

_GAP: Final = r"[^\w\n.!?:;]+"  # between two words of one clause
# Longer gaps are whole clauses, not numbers of words: counted gaps multiply the automaton's states, fifty times as slow.
_ON: Final = r"[^\n.!?:;]*[^\w\n.!?:;]"  # anything of the same clause, up to the beginning of a word
_MAKES: Final = (
    r"(?:generate|write|create|produce|compose|propose|construct|formulate|come up with|develop|design|draft|craft|devise"
    r"|invent|synthesi[sz]e)"
)
_ASKS: Final = rf"(?:{_MAKES}|give(?: me)?|list|provide|suggest|brainstorm|extract)"
_MANY: Final = (
    r"(?:\d+|two|three|four|five|six|seven|eight|nine|ten|twelve|fifteen|twenty|several|multiple|(?:set|list|series|batch) of)"
)
_THINGS: Final = (
    r"(?:questions|tasks|instructions|examples|pairs|samples|prompts|problems|variations|scenarios|dialogues|conversations"
    r"|entries|rows|records|items|personas|topics|subtopics|queries)"
)
_EXERCISE: Final = (
    r"(?:questions?|tasks?|instructions?|problems?|prompts?|quer(?:y|ies)|dialogues?|conversations?|exercises?|puzzles?"
    r"|personas?|flashcards?|scenarios?|subtopics?|pairs?)"
)
_ELSEWHERE: Final = (  # the same in Spanish and Portuguese, French, German, and Chinese; accents are dropped beforehand
    r"(?:genera|gere|crea|crie|escribe|escreva|redacta|genere[rz]?|cree[rz]?|redige[rz]?|erstellen?|generieren?|erzeugen?|schreiben?)"
    rf"\b{_ON}(?:preguntas?|perguntas?|tareas?|tarefas?|instrucciones|instrucoes|ejemplos|exemplos|dialogos?"
    r"|problemas?|taches?|consignes?|exemples|dialogues?|problemes?|fragen|frage|aufgaben?|anweisung(?:en)?|beispiele|dialoge?)\b"
    r"|(?:生成|编写|创建|设计|提出|撰写)[^\n。!?;]*(?:问题|任务|指令|题目|问答对|样本|对话)"
)
_PART: Final = r"(?:response|answer|candidate|output|completion|assistant|solution|text|option|model)"
_TASK: Final = r"(?:prompt|question|instruction|task|problem|query|text)"
_DATA: Final = r"(?:data|datasets?|sets?|examples?|samples?|pairs?|corpus|corpora)"


@dataclass(frozen=True, slots=True)
class Shape:
    """One row: what is called by this name, how it is seen, and who honestly shows it."""

    name: str
    pattern: str
    meaning: str
    confounder: str


SHAPES: Final = (
    Shape("generate_n", rf"\b{_ASKS}\b{_ON}{_MANY}\b{_ON}{_THINGS}\b",
          "asks for a number of new questions, tasks or examples", "brainstorming, quiz makers, query expansion"),
    Shape("make_task", rf"\b{_MAKES}(?:{_GAP}[\w-]+){{0,3}}{_GAP}{_EXERCISE}\b|{_ELSEWHERE}",
          "asks for a new question, task or conversation to be written", "quiz makers, query rewriting in retrieval, testers"),
    Shape("rewrite_task", rf"\b(?:rewrite|rephrase|paraphrase|reword|evolve|complicate|simplify)\b{_ON}{_TASK}\b",
          "asks to change a task or question into another", "editors, query rewriting in retrieval"),
    Shape("variety", r"\b(?:diverse|diversity|varied|variety|unique|distinct from|non-overlapping"
          r"|differ(?:s|ent)? from (?:the|each|all|any|those|previous|one)"
          r"|(?:avoid|without|no|not|never|don't) (?:repeat|repet|duplicat)\w*)\b",
          "asks for answers that differ from each other", "brainstorming, naming, test data"),
    Shape("training_data", rf"\b(?:training|fine-? ?tun(?:e|ing)|synthetic|instruction[- ]tuning)[- ]{_DATA}\b|\bdatasets?\b",
          "speaks of data to train on", "people who work on such data and ask about it"),
    Shape("rubric", r"\b(?:rate|score|grade|judge|assess|evaluate|rating|scoring)\b"
          r"[^\n]*\b\d+ ?(?:-|–|to|and|/|through) ?\d+\b",
          "asks for a rating on a scale of numbers", "judges in evaluations, surveys, review tools"),
    Shape("candidates", rf"(?m)^\W*{_PART}s? ?#?(?:a|1|one)\b[^\n]*$(?:.|\n)*?^\W*{_PART}s? ?#?(?:b|2|two)\b",
          "lays out two candidates or more", "judges in evaluations, comparison shopping"),
    Shape("answer_given", r"(?m)^\W*(?:correct|final|reference|expected|gold|ground[- ]truth|given|target) "
          r"(?:answer|solution|output|response)\W*:",
          "gives the answer", "graders, tutors"),
    Shape("asks_reasoning", r"\bstep[- ]by[- ]step\b|\bchain[- ]of[- ]thought\b"
          r"|\b(?:explain|show|articulate|describe|write out|justify)\b"
          rf"{_ON}(?:reasoning|rationale|thought process|thinking|derivation)\b|一步一步|逐步|schritt fur schritt|paso a paso"
          r"|passo a passo|etape par etape",
          "asks for the way to the answer", "most evaluation prompts, tutors"),
    Shape("reasoning_tags", r"</?(?:think|thinking|thought|thoughts|reasoning|analysis|scratchpad|rationale)>",
          "names tags that reasoning is to stand in", "reinforcement-learning and reasoning evaluations"),
    Shape("verbatim", r"\bverbatim\b|\bword[- ](?:for|by)[- ]word\b"
          r"|\bdo not (?:omit|abbreviate|summari[sz]e|leave out|shorten)\b",
          "asks for nothing to be left out", "transcription, legal drafting"),
    Shape("multiple_choice", r"(?m)^\s*\(?a[).:] ?\S[^\n]*$(?:\n[^\n]*){0,4}?\n\s*\(?b[).:] ?\S",
          "lays out options a and b", "quizzes"),
    Shape("answer_format", r"\\boxed|####|\banswer\b[^\n]*(?:\$|<[a-z]+>|\[letter|\bletter\b|\boption\b)"
          r"|\b(?:last|final|separate) line\b[^\n]*\banswer\b"
          r"|\bonly (?:with )?(?:the|a|one|your) (?:final )?(?:letter|answer|word|number)\b",
          "says how the final answer is to be written", "parsers of any kind"),
)  # fmt: skip
_NONE: Final[frozenset[str]] = frozenset()
NAMES: Final = tuple(shape.name for shape in SHAPES)


class Shapes:
    """All shapes as one automaton: a text is read once, whatever the number of shapes."""

    def __init__(self, shapes: tuple[Shape, ...] = SHAPES) -> None:
        options = re2.Options()
        options.max_mem = MEMORY
        self._names = tuple(shape.name for shape in shapes)
        self._set = re2.Set.SearchSet(options)
        for shape in shapes:
            self._set.Add(shape.pattern)
        self._set.Compile()

    def of(self, text: bytes) -> frozenset[str]:
        """The shapes of a plain text (`wording.plain_bytes`)."""
        found = self._set.Match(text)
        return frozenset([self._names[place] for place in found]) if found else _NONE


def looked_at(call: Call, user: str) -> bytes:
    """What is looked at of a call whose last user text is `user`, as plain text: the system text, a line end, and that."""
    system = plain_bytes(capped(call.system, LONGEST_SYSTEM)) if call.system else b""
    return system + b"\n" + plain_bytes(capped(user, LONGEST_USER))
