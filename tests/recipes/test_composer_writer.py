"""Triplets that a language model writes from captions: what is asked, what is kept of the answers, and how a run goes on."""

from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path

import pytest

from rankclip.errors import NetworkError
from rankclip.evaluation.triplets import Triplet
from rankclip.training import composer_writer, writer
from rankclip.training.composer_gather import Captioned
from rankclip.training.composer_writer import ASK, TURNS, Endpoint, read_answer
from rankclip.types import Silent

CAPTION = "a dog on a beach"
NIGHT = {"instruction": "make it night", "modified_caption": "a dog on a beach at night", "keeps": ["dog", "beach"], "removes": []}
PHOTOS = [Captioned(f"{i}.jpg", (f"{count} dogs on a beach",)) for i, count in enumerate(("two", "three", "four", "five", "six"))]


def test_an_answer_becomes_a_triplet_line() -> None:
    assert read_answer(f"Sure!\n{json.dumps(NIGHT)}", CAPTION) == {
        "instruction": "make it night", "caption": "a dog on a beach at night", "original": CAPTION, "keeps": ["dog", "beach"], "removes": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "useful"),
    [
        ({"modified_caption": "the dog on the beach"}, False),  # nothing changed
        ({"modified_caption": "A beach on a dog"}, True),  # the same words in another order say something else
        ({"modified_caption": "fourteen astronauts eating soup", "keeps": []}, False),  # too far away
        ({"modified_caption": "a beach with a dog house", "keeps": [], "removes": ["dog"]}, False),  # it is still there
        ({"modified_caption": "two dogs on a beach", "removes": ["dog"]}, False),  # whatever their number
        ({"modified_caption": "a blue ball on a beach", "keeps": ["beach"], "removes": ["red ball"]}, True),  # that one is gone
        ({"modified_caption": "a cat on a beach", "removes": ["dog"]}, False),  # a dog that is kept and removed
        ({"modified_caption": "a cat on a beach", "keeps": ["beach"], "removes": "dog"}, True),
        ({"modified_caption": "two dogs on a beach"}, True),
        ({"keeps": {"dog": 1}}, False),
        ({"keeps": None, "removes": None}, True),
        ({"instruction": "night please"}, False),
        ({"instruction": "word " * 13}, False),
        ({"instruction": "mach es \u00fcberall dunkel"}, False),
    ],
)
def test_answers_are_filtered(change: dict[str, object], useful: bool) -> None:
    assert (read_answer(json.dumps(NIGHT | change), CAPTION) is not None) is useful


def test_what_is_no_answer_is_dropped() -> None:
    lacking = [{name: value for name, value in NIGHT.items() if name != key} for key in ("instruction", "modified_caption")]
    assert [read_answer(text, CAPTION) for text in ("I cannot do that.", "{oops}", *map(json.dumps, lacking))] == [None] * 4


def test_kinds_of_change_are_asked_for_in_their_shares() -> None:
    assert sorted(Counter(TURNS).values()) == [2, 2, 2, 2, 3, 4, 5] and len(TURNS) == 20
    assert all(f'"{key}"' in ASK for key in ("instruction", "modified_caption", "keeps", "removes"))
    assert len(set(TURNS[:7])) >= 5, "the first few captions see most kinds"


def test_a_broken_run_goes_on_without_asking_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, most = tmp_path / "written.jsonl", [3]
    asked: list[str] = []

    def ask(self: Endpoint, caption: str, edit: str) -> writer.Answer:
        if len(asked) == most[0]:
            raise NetworkError("gone")
        asked.append(caption)
        changed = caption if caption.startswith("three") else f"{caption} at night"
        return writer.Answer(json.dumps(NIGHT | {"modified_caption": changed}), 10)

    def write(limit: int = 0) -> int:
        return composer_writer.write(Endpoint("", ""), PHOTOS, path, token_limit=limit, cancel=threading.Event(), progress=Silent())

    monkeypatch.setattr(Endpoint, "ask", ask)
    with pytest.raises(NetworkError):
        write()
    with path.open("a") as lines:
        lines.write('{"reference": "3.jpg", "tok')  # killed in the middle of a line
    most[0] = 99
    assert write(limit=40) == 3, "ten tokens were left: one more answer"
    assert write() == 4
    assert asked == [photo.captions[0] for photo in PHOTOS]
    found = composer_writer.read(path)
    assert found[0] == Triplet("0.jpg", "make it night", (), "two dogs on a beach at night", "two dogs on a beach", "train")
    assert [one.reference for one in found] == ["0.jpg", "2.jpg", "3.jpg", "4.jpg"], "the second answer changed nothing"
