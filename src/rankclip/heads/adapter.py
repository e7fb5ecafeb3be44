"""The ranking-aware adapter at work: stored patch tokens and an instruction -> values in the unit of the labels. NumPy and ONNX Runtime.

A pack holds `head.onnx` (tokens, facts, pooled embedding, instruction -> score; none where no task has a share of it), `kernels.npz` (what is mixed
with the network's score) and, where it was trained to tell instructions apart, `matcher.npz`. Its card lists the tasks it knows; a score is
standardised for its task, and only a known task gives values with a unit.

Source: Yu et al. 2025 (ICLR), regression head only: the pair head is for training (it is not transitive).
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from rankclip.errors import ModelError
from rankclip.heads import kernel
from rankclip.heads.kernel import KERNELS, Regression
from rankclip.heads.packs import Pack
from rankclip.heads.wording import Wording, order
from rankclip.instructions import Instruction, parse

GRAPH, MATCHER = "head.onnx", "matcher.npz"
BATCH = 64
GRAMS = 2_048  # hashed words and pairs of words that the matcher reads
KERNELS_ALONE = "kernels"  # size of a head without a network
POOLED = ("lite", "ridge", KERNELS_ALONE)  # sizes that read the pooled embedding alone, no patch tokens
NONE = ""  # the matcher's class for instructions that no task answers
SUBJECT = "{}"  # stands for the subject in the instruction of an open task, such as counting

Embed = Callable[[list[str]], np.ndarray]  # texts -> float32 [Q, D], unit rows
States = Callable[[list[str]], tuple[np.ndarray, np.ndarray]]  # texts -> float32 [Q, S, V], bool [Q, S]


@dataclass(frozen=True, slots=True)
class Task:
    """What an adapter knows about one instruction; part of the pack's card."""

    name: str
    instruction: str  # as it was trained; {} stands for the subject of an open task
    unit: str = ""
    log2: bool = False  # the head predicts log2(1 + value)
    median: float = 0.0  # of the (transformed) labels
    spread: float = 1.0  # their interquartile range
    low: float = -math.inf  # smallest and largest label seen
    high: float = math.inf
    knots: tuple[float, ...] = ()  # predictions (transformed) at which the 80 % half widths below hold
    widths: tuple[float, ...] = ()
    share: float = 1.0  # of the network's score beside the kernel regression, where the pack has one for this task
    subject: tuple[float, ...] = ()  # linear probe "the photo holds it" on the pooled embedding: D weights, bias
    subject_z: float | None = None  # or, for an open task, the least z-score of the photo's cosine with the subject's name
    wording: Wording = Wording()  # the words by which it is asked for
    figures: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Task:
        """Make a task of its record in a card. Raises TypeError for unknown or missing keys."""
        lists = {name: tuple(record.get(name, ())) for name in ("knots", "widths", "subject")}
        return cls(**{**record, **lists, "wording": Wording.read(record.get("wording", {}))})

    @property
    def open(self) -> bool:
        return SUBJECT in self.instruction

    def values(self, scores: np.ndarray) -> np.ndarray:
        """Turn scores into the labels' unit, float32 [N]."""
        return self._back(scores * self.spread + self.median)

    def intervals(self, scores: np.ndarray) -> np.ndarray:
        """80 % intervals in the labels' unit, float32 [N, 2]."""
        at = np.asarray(scores, np.float64) * self.spread + self.median
        width = np.interp(at, self.knots, self.widths)
        return np.stack([self._back(at - width), self._back(at + width)], axis=1)

    def _back(self, transformed: np.ndarray) -> np.ndarray:
        plain = np.exp2(np.minimum(transformed, 40.0)) - 1 if self.log2 else transformed
        return np.clip(plain, self.low, self.high).astype(np.float32)

    def standardised(self, values: np.ndarray) -> np.ndarray:
        """Turn labels into what the head is trained on, float32 [N]."""
        plain = np.log2(1 + np.maximum(values, 0)) if self.log2 else values
        return ((plain - self.median) / self.spread).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Match:
    """A known task that an instruction asks for, and which end comes first."""

    task: Task
    ascending: bool
    text: str  # what the head is asked
    why: str


class Adapter:
    """An adapter's pack, loaded on demand."""

    def __init__(self, pack: Pack) -> None:
        self.pack = pack
        try:
            self.tasks = [Task.read(record) for record in pack.card.config["tasks"]]
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{pack.folder}: the card does not describe an adapter ({error})", hint="train or install the head again") from error

    @property
    def key(self) -> str:
        """Names the weights in the score cache."""
        beside = zlib.crc32(repr([self.pack.card.files.get(KERNELS), *(task.share for task in self.tasks)]).encode())
        return f"{self.pack.name}|{self.pack.card.files.get(GRAPH, KERNELS_ALONE)[:16]}|{beside:08x}"

    # ------------------------------------------------------------ which task an instruction asks for

    def match(self, instruction: Instruction, embed: Embed) -> Match | None:
        """Return the task that an instruction means, or None.

        First by the tasks' own words and the grammar (the same attribute of the same subject as the task's own instruction). Only a text that
        holds none of the words is read by the matcher, which was trained on paraphrases and near misses.
        """
        named = asked(self.tasks, instruction)
        if named is None:
            return self._matched(instruction, embed)
        if named.task is None:
            return None
        return Match(named.task, not named.up, named.task.instruction, f"head {self.pack.name} was trained on {named.task.instruction!r}")

    def _matched(self, instruction: Instruction, embed: Embed) -> Match | None:
        if self._matcher is None:
            return None
        name, sign, sure = self._matcher.read(instruction, embed)
        if not name:
            return None
        task = next(task for task in self.tasks if task.name == name)
        text = task.instruction.replace(SUBJECT, counted(instruction)) if task.open else task.instruction
        return Match(task, sign < 0, text, f"the instruction means {text!r} ({sure:.0%} sure)")

    @cached_property
    def _matcher(self) -> Matcher | None:
        return Matcher.read_file(self.pack) if MATCHER in self.pack.card.files else None

    # ------------------------------------------------------------ scores

    @property
    def reads_tokens(self) -> bool:
        """Whether the head reads patch tokens; else the pooled embedding is enough."""
        return self.pack.card.config.get("size") not in POOLED

    def text(self, text: str, embed: Embed, states: States) -> tuple[np.ndarray, np.ndarray]:
        """What the head reads of an instruction: float32 [1, S, V] and bool [1, S].

        The token states; for A-lite the embedding as the only one, since its width was that in training; for ridge, which reads no text, a zero.
        Only what is needed is computed.
        """
        if self.reads_tokens:
            return states([text])
        given = embed([text]) if self.pack.card.config["size"] == "lite" else np.zeros((1, 1), np.float32)
        return given[:, None], np.ones((1, 1), bool)

    def scores(self, tokens: Callable[[np.ndarray], np.ndarray], facts: np.ndarray, pooled: np.ndarray, states: np.ndarray, mask: np.ndarray,
               advance: Callable[[int], None] = lambda count: None) -> np.ndarray:  # fmt: skip
        """Score photos for one instruction: float32 [N], standardised, higher is more.

        tokens: rows int64 [B] -> float32 [B, P, W], only called where the head reads them. facts: float32 [N, 7], NaN where unknown.
        pooled: float32 [N, D]. states: float32 [1, S, V] and mask: bool [1, S], as `text` gives them.
        """
        out = np.empty(len(pooled), np.float32)
        wanted = {one.name for one in self._session.get_inputs()}
        known = np.where(np.isfinite(facts), facts, self._plain_facts).astype(np.float32)
        for start in range(0, len(pooled), BATCH):
            rows = np.arange(start, min(start + BATCH, len(pooled)))
            feed = {"facts": known[rows], "pooled": pooled[rows], "text": states, "mask": mask}
            feed |= {"tokens": tokens(rows)} if "tokens" in wanted else {}
            out[rows] = self._session.run(["score"], {name: value for name, value in feed.items() if name in wanted})[0]
            advance(len(rows))
        return out

    def runs_network(self, task: Task) -> bool:
        """Whether the network has a share in a task's scores; a head need not hold one."""
        return task.share > 0 or task.name not in self._kernels

    def joined(self, task: Task, scores: np.ndarray, pooled: np.ndarray, measured: np.ndarray) -> np.ndarray:
        """Mix the network's scores, float32 [N], with the task's kernel regression.

        pooled: float32 [N, D]. measured: float32 [N, 7 + S], pixel facts and stages, NaN where unknown.
        """
        beside = self._kernels.get(task.name)
        return scores if beside is None else mixed(scores, beside.scores(pooled, measured), task.share)

    @cached_property
    def _kernels(self) -> dict[str, Regression]:
        return kernel.read_bytes(self.pack.file(KERNELS).read_bytes()) if KERNELS in self.pack.card.files else {}

    def applies(self, task: Task, pooled: np.ndarray, embed: Embed, text: str, null: tuple[float, float]) -> np.ndarray | None:
        """Say which photos hold the task's subject, bool [N]; None where the head does not know."""
        if task.subject:
            weights = np.array(task.subject, np.float32)
            return np.asarray(pooled @ weights[:-1] + weights[-1] > 0)
        if task.open and task.subject_z is not None:
            noun = text[len(task.instruction.partition(SUBJECT)[0]) :]
            cosine = pooled @ embed([f"a photo of {noun}"])[0]
            return np.asarray((cosine - null[0]) / null[1] > task.subject_z)
        return None

    @property
    def _plain_facts(self) -> np.ndarray:
        return np.array(self.pack.card.config.get("fact_mean") or [0.0] * 7, np.float32)

    @cached_property
    def _session(self) -> Any:
        return self.pack.session(GRAPH)


def mixed(scores: np.ndarray, beside: np.ndarray, share: float) -> np.ndarray:
    """Mean of the network's scores and those beside them, float32 [N]."""
    return np.asarray(share * scores + (1 - share) * beside, np.float32)


@dataclass(frozen=True, slots=True)
class Named:
    """What the words of an instruction ask for: a task and whether its own order (else the reverse), or, with a task's words about something else, nothing."""

    task: Task | None
    up: bool = True


def asked(tasks: Iterable[Task], instruction: Instruction) -> Named | None:
    """Read an instruction by words and grammar; None where neither has anything to say.

    The grammar only answers for tasks whose words do not speak against it. An instruction that two tasks claim asks for neither.
    """
    closed = [task for task in tasks if not task.open]
    signs = {task.name: order(task.wording, instruction.text) for task in closed}
    found = [Named(task, signs[task.name] == 1) for task in closed if signs[task.name]]
    if not found:
        silent = [task for task in closed if signs[task.name] is None or not task.wording.whole]
        found = [Named(task, same) for task in silent if (same := same_order(parse(task.instruction), instruction)) is not None][:1]
    if len(found) == 1:
        return found[0]
    return Named(None) if found or any(signs[task.name] is not None and task.wording.whole for task in closed) else None


def same_order(own: Instruction, asked: Instruction) -> bool | None:
    """Say whether two instructions ask for the same order (True), the reverse (False), or for something else (None).

    >>> same_order(parse("sort by age"), parse("youngest first"))
    False
    """
    if own.attribute and own.attribute == asked.attribute and own.subject == asked.subject:
        return own.ascending == asked.ascending
    ends, asked_ends = (own.first, own.last), (asked.first, asked.last)
    return True if ends == asked_ends else False if ends == asked_ends[::-1] else None


def counted(instruction: Instruction) -> str:
    """The noun that a counting instruction counts.

    >>> counted(parse("most apples first"))
    'apples'
    """
    axis = instruction.attribute.removeprefix("number of ").strip()
    return axis if instruction.attribute.startswith("number of ") else instruction.subject or "things"


@dataclass(frozen=True, slots=True)
class Matcher:
    """A two-layer classifier from an instruction's embeddings and words to task and polarity; trained on paraphrases and near misses.

    inner: float32 [3D + GRAMS, H], bias_inner [H], outer [H, C], bias_outer [C]. classes: "age+", "age-", ..., "" for none of them.
    """

    inner: np.ndarray
    bias_inner: np.ndarray
    outer: np.ndarray
    bias_outer: np.ndarray
    classes: tuple[str, ...]
    threshold: float

    @classmethod
    def read_file(cls, pack: Pack) -> Matcher:
        with np.load(pack.file(MATCHER), allow_pickle=False) as found:
            inner, bias_inner, outer, bias_outer = (found[name] for name in ("inner", "bias_inner", "outer", "bias_outer"))
            return cls(inner, bias_inner, outer, bias_outer, tuple(found["classes"].tolist()), float(found["threshold"]))

    def read(self, instruction: Instruction, embed: Embed) -> tuple[str, int, float]:
        """Return task ("" for none), +1 or -1, and how sure."""
        logits = np.maximum(matcher_input([instruction], embed) @ self.inner + self.bias_inner, 0) @ self.outer + self.bias_outer  # [1, C]
        shares = np.exp(logits[0] - logits[0].max())
        shares /= shares.sum()
        best = int(shares.argmax())
        name = self.classes[best]
        if not name or shares[best] < self.threshold:
            return NONE, 1, float(shares[best])
        return name[:-1], -1 if name.endswith("-") else 1, float(shares[best])


def matcher_input(instructions: Sequence[Instruction], embed: Embed) -> np.ndarray:
    """What the matcher reads: the embeddings of the text, of what comes first and of what comes last, then the text's words: float32 [Q, 3D + GRAMS]."""
    texts = [text for one in instructions for text in (one.text, one.first, one.last)]
    named = [text for text in dict.fromkeys(texts) if text]
    table = dict(zip(named, embed(named), strict=True))
    nothing = np.zeros_like(table[named[0]])
    return np.stack([np.concatenate([*(table.get(text, nothing) for text in (one.text, one.first, one.last)), grams(one.text)]) for one in instructions])


def grams(text: str) -> np.ndarray:
    """Words and pairs of neighbouring words, hashed, float32 [GRAMS], a unit row: embeddings of short texts hardly tell "first" from "last".

    >>> bool(grams("Old before young") @ grams("old before young") > 0.999 > grams("old before young") @ grams("young before old"))
    True
    """
    words = re.findall(r"[\w'-]+", text.lower())
    found = np.zeros(GRAMS, np.float32)
    for gram in (*words, *(f"{one} {other}" for one, other in pairwise(("^", *words, "$")))):
        found[zlib.crc32(gram.encode()) % GRAMS] = 1.0
    return found / max(1.0, float(np.linalg.norm(found)))
