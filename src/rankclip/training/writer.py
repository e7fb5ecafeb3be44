"""A language model as the writer of difference sentences: any endpoint that speaks OpenAI's chat protocol, for example a local one.

It is shown two captions, never a photo. Answers are filtered as the paper's were, and each outcome is a line in a file at once, so that an
interrupted or failing run goes on where it stopped and no paid answer is lost. Source of the filters: Sam et al. 2025, released code.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankclip import jsonl
from rankclip.errors import Interrupted, NetworkError
from rankclip.types import Progress

SHORTEST = 60  # characters of an answer that says enough
TRIES = 4
WAIT = 0.5  # seconds before the second try; doubles
ASK = (
    "Two photos are described by one sentence each.\nPhoto 1: {first}\nPhoto 2: {second}\n"
    "State the visual difference between photo 1 and photo 2 in one English sentence of this form: "
    '"The first photo ..., while the second ...". Say only what the descriptions support.'
)
ENDS = ("Q:", "I hope", "#2:", "Note")  # what comes after is no answer any more
LEFTOVERS = re.compile(r"#1:|A: |#")
BLANK_START = re.compile(r"^(?:\s*\n){3,}|^# 1000|^#include")
MARKUP = ("#define", "</p>", "<br>", "{{{", '"""', "'''", "```", "front-end-d", "gatsbyjs", "sciencedirect", "Description:",
          "Description of the image:", "100% of the time")  # fmt: skip
REPEATED = re.compile(r"(.)\1{6,}|(\S{1,4})(?:\s?\2){5,}|(?:\. ){4,}|\*")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to ask. address: up to and without /chat/completions. key: sent as a bearer token, from RANKCLIP_WRITER_KEY."""

    address: str
    model: str
    timeout: float = 120.0
    wait: float = WAIT

    def ask(self, first: str, second: str) -> Answer:
        """Ask for one sentence about two captions. Raises NetworkError."""
        return self.complete(ASK.format(first=first, second=second))

    def complete(self, prompt: str, *, longest: int = 160) -> Answer:
        """Ask anything, trying again where the endpoint is busy.    longest: tokens of the answer. Raises NetworkError."""
        body = {"model": self.model, "temperature": 0, "max_tokens": longest, "messages": [{"role": "user", "content": prompt}]}
        reason = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(self.wait * 2 ** (attempt - 1))
            try:
                return self._post(body)
            except urllib.error.HTTPError as error:
                reason = f"HTTP {error.code}"
                if error.code < 500 and error.code != 429:
                    hint = "check --writer and --writer-model; a key comes from RANKCLIP_WRITER_KEY"
                    raise NetworkError(f"{self.address}: {reason} {error.reason}", hint=hint) from error
            except (OSError, http.client.HTTPException, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:  # down, cut off, or nonsense
                reason = str(error) or type(error).__name__
        raise NetworkError(f"{self.address}: no answer after {TRIES} tries ({reason})", hint="is the endpoint running? what was written is kept: run it again")

    def _post(self, body: dict[str, Any]) -> Answer:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get("RANKCLIP_WRITER_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"{self.address.rstrip('/')}/chat/completions", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=self.timeout) as answer:
            found = json.loads(answer.read())
        used = found.get("usage") or {}  # some endpoints count nothing
        return Answer(str(found["choices"][0]["message"]["content"]), int(used.get("total_tokens") or 0))


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said, and what it cost in tokens."""

    text: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Question:
    """Two photos with a caption each."""

    a: str
    b: str
    first: str
    second: str


def cleaned(text: str) -> str | None:
    """Cut an answer to its sentence; None where it is no use.

    >>> cleaned("A: The first photo shows two dogs on a beach, while the second shows a cat.\\nQ: next")
    'The first photo shows two dogs on a beach, while the second shows a cat.'
    >>> cleaned("They differ.") is None
    True
    """
    if BLANK_START.search(text) or any(part in text for part in MARKUP) or REPEATED.search(text) or not text.isascii():
        return None
    ends = [text.find(end) for end in ENDS if end in text]
    text = text[: min(ends)] if ends else text
    text = " ".join(LEFTOVERS.sub("", text).split()).removeprefix(". ").strip().strip('"')
    return text if len(text) >= SHORTEST else None


def write(endpoint: Endpoint, questions: Iterable[Question], path: Path, *, token_limit: int, cancel: threading.Event, progress: Progress) -> Written:
    """Ask about every pair that the file does not hold yet; one JSON line for each outcome, also for an answer that the filters dropped.

    token_limit: stop before asking more once so many tokens were spent, over all runs; 0 for no limit.
    """
    known = {(row["a"], row["b"]): row for row in read(path)} if path.exists() else {}
    kept = sum("text" in row for row in known.values())
    written = Written(kept, len(known) - kept, sum(row["tokens"] for row in known.values()), False)
    with path.open("a", encoding="utf-8") as lines:
        for question in questions:
            if (question.a, question.b) in known:
                continue
            if token_limit and written.tokens >= token_limit:
                return Written(written.kept, written.dropped, written.tokens, True)
            if cancel.is_set():
                raise Interrupted(f"stopped; {written.kept} sentences are kept in {path}", signal_number=2)
            answer = endpoint.ask(question.first, question.second)
            text = cleaned(answer.text)
            row = {"a": question.a, "b": question.b, "tokens": answer.tokens, **({"text": text} if text else {"dropped": answer.text[:200]})}
            lines.write(json.dumps(row) + "\n")
            lines.flush()
            written = Written(written.kept + bool(text), written.dropped + (not text), written.tokens + answer.tokens, False)
            progress.advance()
    return written


@dataclass(frozen=True, slots=True)
class Written:
    """What the file holds now; stopped: the token limit ended it."""

    kept: int
    dropped: int
    tokens: int
    stopped: bool


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Read outcomes back; a last line that was cut short by a kill is taken out, so that its question is asked again."""
    text = path.read_text(encoding="utf-8")
    if not text.endswith("\n"):
        path.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")
    yield from (row for _, row in jsonl.read(path, hint="remove that line: its question is asked again"))
