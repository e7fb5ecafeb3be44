"""A language model as the writer of instructions: any endpoint that speaks OpenAI's chat protocol, for example a local one.

It is shown one caption, never a photo, and answers with an instruction, the caption of the changed photo, and the nouns that stay and go. Each
outcome is a line of a triplet file at once, so that an interrupted run goes on where it stopped and no paid answer is lost.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankclip.errors import Interrupted
from rankclip.evaluation.triplets import Triplet
from rankclip.training import writer
from rankclip.training.composer_gather import Captioned
from rankclip.training.generator.words import singular
from rankclip.types import Progress

SHORTEST, LONGEST = 3, 12  # words of an instruction
OVERLAP = 0.2  # least share of words that the two captions have in common
ANSWER = 256  # tokens of an answer: two sentences and two short lists
EDITS = {  # what to change -> in how many of twenty answers
    "an attribute such as a colour or material": 5, "an object swapped for another": 4, "an object added": 3, "an object removed": 2,
    "the number of something": 2, "an action or pose": 2, "the scene, time or weather": 2,
}  # fmt: skip
TURNS = tuple(edit for _, edit in sorted(((i + 0.5) / count, edit) for edit, count in EDITS.items() for i in range(count)))  # each kind evenly spread
ASK = (
    "A photo is described by this sentence: {caption}\n"
    "Think of another photo that differs in one respect: {edit}. Answer with one JSON object and nothing else, with these keys:\n"
    '"instruction": what to change, 3 to 12 words, as an order or as "is ..." or "has ...";\n'
    '"modified_caption": one sentence that describes the other photo;\n'
    '"keeps": a list of the nouns that both photos show;\n'
    '"removes": a list of the nouns that are not in the other photo any more.'
)
EMPTY = frozenset(("a an the of in on at is are with and to").split())


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to ask; the key comes from RANKCLIP_WRITER_KEY, as for `finetune difference`."""

    address: str
    model: str

    def ask(self, caption: str, edit: str) -> writer.Answer:
        """Ask for one change. Raises NetworkError when the endpoint gives no answer."""
        return writer.Endpoint(self.address, self.model).complete(ASK.format(caption=caption, edit=edit), longest=ANSWER)


def read_answer(text: str, caption: str) -> dict[str, Any] | None:
    """Read an answer as keys of a triplet line, or None where it is no use.

    No use is: no such JSON, an instruction too short or too long, nothing changed, too much changed, a noun that was removed and is still there, or
    one that was kept and is gone.

    >>> answer = '{"instruction": "make it night", "modified_caption": "a dog on a beach at night", "keeps": ["dog", "beach"], "removes": []}'
    >>> read_answer(answer, "a dog on a beach")["caption"]
    'a dog on a beach at night'
    """
    match = re.search(r"\{.*\}", text, re.S)
    try:
        found: dict[str, Any] = json.loads(match[0]) if match else {}
        instruction, changed = " ".join(str(found["instruction"]).split()), " ".join(str(found["modified_caption"]).split())
        keeps, removes = nouns(found.get("keeps")), nouns(found.get("removes"))
    except (ValueError, KeyError, TypeError):
        return None
    right_length = SHORTEST <= len(instruction.split()) <= LONGEST and instruction.isascii()
    if not right_length or not is_change(caption, changed) or not agrees(changed, keeps, removes):
        return None
    return {"instruction": instruction, "caption": changed, "original": caption, "keeps": keeps, "removes": removes}


def nouns(given: Any) -> list[str]:
    """Read a list of nouns; a single one may stand for itself. Raises TypeError for anything else."""
    listed = [given] if isinstance(given, str) else given or []
    if not isinstance(listed, list) or not all(isinstance(noun, str) for noun in listed):
        raise TypeError("not a list of nouns")
    return [noun.strip().lower() for noun in listed if words(noun)]


def is_change(caption: str, changed: str) -> bool:
    """Whether a caption is another one about something alike: not the same words in the same order, and enough of them in common."""
    before, after = words(caption), words(changed)
    share = len(set(before) & set(after)) / max(1, len(set(before) | set(after)))
    return before != after and share >= OVERLAP


def agrees(changed: str, keeps: Sequence[str], removes: Sequence[str]) -> bool:
    """Whether a caption shows every noun that was kept and none that was removed, whatever their number."""
    there = {singular(word) for word in words(changed)}
    return all(singular(words(noun)[-1]) in there for noun in keeps) and not any({singular(word) for word in words(noun)} <= there for noun in removes)


def words(text: str) -> list[str]:
    """The words of a caption that mean something, in their order."""
    return [word for word in re.findall(r"\w+", text.lower()) if word not in EMPTY]


def read(path: Path) -> list[Triplet]:
    """Read the triplets that were written; answers that were dropped are in the file, too, and left out here."""
    return [Triplet(row["reference"], row["instruction"], (), row["caption"], row["original"], row["split"]) for row in writer.read(path) if "caption" in row]


def write(endpoint: Endpoint, photos: Sequence[Captioned], path: Path, *, token_limit: int, cancel: threading.Event, progress: Progress) -> int:
    """Ask about each photo that the file does not hold yet; returns how many triplets it holds now.

    token_limit: stop before asking more once so many tokens were spent, over all runs; 0 for no limit.
    """
    rows = list(writer.read(path)) if path.exists() else []
    done, spent, kept = {row["reference"] for row in rows}, sum(row.get("tokens", 0) for row in rows), sum("caption" in row for row in rows)
    progress.start(len(photos) - len(done), "captions")
    with path.open("a", encoding="utf-8") as lines:
        for number, photo in enumerate(photos):
            if photo.path in done:
                continue
            if cancel.is_set():
                raise Interrupted(f"stopped; {kept} triplets are kept in {path}", signal_number=2)
            if token_limit and spent >= token_limit:
                break
            answer = endpoint.ask(photo.captions[0], TURNS[number % len(TURNS)])
            found = read_answer(answer.text, photo.captions[0])
            spent += answer.tokens
            kept += found is not None
            row = {"reference": photo.path, "tokens": answer.tokens, "split": "train", **(found or {"dropped": answer.text[:200]})}
            lines.write(json.dumps(row) + "\n")
            lines.flush()
            progress.advance()
    progress.done()
    return kept
