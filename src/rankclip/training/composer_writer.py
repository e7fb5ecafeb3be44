"""A language model as the writer of instructions: any endpoint that speaks OpenAI's chat protocol, for example a local one.

It is shown one caption, never a photo, and answers with an instruction and the caption of the changed photo. Each outcome is a line of a
triplet file at once, so that an interrupted run goes on where it stopped and no paid answer is lost.
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
from rankclip.types import Progress

LONGEST = 12  # words of an instruction
OVERLAP = 0.2  # least share of words that the two captions have in common
EDITS = (
    "an attribute such as a colour or material", "an object swapped for another", "an object added", "an object removed", "the number of something",
    "an action or pose", "the scene, time or weather",
)  # fmt: skip
ASK = (
    "A photo is described by this sentence: {caption}\n"
    "Think of another photo that differs in one respect: {edit}. Answer with one JSON object and nothing else, with these keys:\n"
    '"instruction": what to change, 3 to 12 words, as an order or as "is ..." or "has ...";\n'
    '"modified_caption": one sentence that describes the other photo;\n'
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
        return writer.Endpoint(self.address, self.model).complete(ASK.format(caption=caption, edit=edit))


def read_answer(text: str, caption: str) -> dict[str, str] | None:
    """Read an answer, or None where it is no use: no JSON, nothing changed, too much changed, or what was removed is still there.

    >>> answer = '{"instruction": "make it night", "modified_caption": "a dog on a beach at night", "removes": []}'
    >>> read_answer(answer, "a dog on a beach")["caption"]
    'a dog on a beach at night'
    """
    match = re.search(r"\{.*\}", text, re.S)
    try:
        found: dict[str, Any] = json.loads(match[0]) if match else {}
        instruction, changed = " ".join(str(found["instruction"]).split()), " ".join(str(found["modified_caption"]).split())
        removed = [str(noun).lower() for noun in found.get("removes") or []]
    except (ValueError, KeyError, TypeError):
        return None
    before, after = words(caption), words(changed)
    share = len(before & after) / max(1, len(before | after))
    too_long = not 1 <= len(instruction.split()) <= LONGEST
    if too_long or not instruction.isascii() or before == after or share < OVERLAP or any(noun in after for noun in removed):
        return None
    return {"instruction": instruction, "caption": changed, "original": caption}


def read(path: Path) -> list[Triplet]:
    """Read the triplets that were written; answers that were dropped are in the file, too, and left out here."""
    return [Triplet(row["reference"], row["instruction"], (), row["caption"], row["original"], row["split"]) for row in writer.read(path) if "caption" in row]


def words(text: str) -> set[str]:
    """The words of a caption that mean something."""
    return set(re.findall(r"[a-z]+", text.lower())) - EMPTY


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
            answer = endpoint.ask(photo.captions[0], EDITS[number % len(EDITS)])
            found = read_answer(answer.text, photo.captions[0])
            spent += answer.tokens
            kept += found is not None
            row = {"reference": photo.path, "tokens": answer.tokens, "split": "train", **(found or {"dropped": answer.text[:200]})}
            lines.write(json.dumps(row) + "\n")
            lines.flush()
            progress.advance()
    progress.done()
    return kept
