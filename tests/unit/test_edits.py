"""One change of one subject, and every photo that shows it: hand-made answers, and laws that hold for any captions."""

import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import subprocess_environment

from rankclip.training.generator import EditOptions, describe, edits, swaps
from rankclip.training.generator.edits import AROUND, SAID, SWAPPED, subject_of

LIBRARY = [
    ["a brown dog on a beach"], ["a black dog in the snow"], ["two dogs in a kitchen"], ["a dog is running"], ["a dog is sleeping"], ["a dog with a ball"],
    ["a red car in a street"], ["a blue car in a street"], ["a man sitting at a table"], ["a woman riding a bike"], ["a cat"], [""],
]  # fmt: skip


def described(captions: list[list[str]]) -> list:
    return [describe(f"{place}.jpg", some) for place, some in enumerate(captions)]


def asked(captions: list[list[str]], **options: int) -> set[tuple[int, str, tuple[int, ...]]]:
    """What is asked over many draws, the right answers sorted."""
    found = set()
    for seed in range(40):
        found |= {(one.reference, one.text, tuple(sorted(one.right))) for one in edits(described(captions), random.Random(seed), EditOptions(**options))}
    return found


@pytest.mark.parametrize(
    ("captions", "change", "words"),
    [
        (["a dog on a beach"], ("place", "beach"), "on a beach"),
        (["a dog running"], ("action", "running"), "running"),
        (["a dog with a ball"], ("with", "ball"), "with a ball"),
        (["a brown dog"], ("colour", "brown"), "brown"),
        (["a dog"], ("count", "one"), "only one"),
        (["three dogs"], ("count", "many"), "more than one"),
        (["the park", "a dog in a park", "two dogs", "a man with a dog"], ("place", "park"), "in a park"),
    ],
)
def test_what_holds_of_a_subject(captions: list[str], change: tuple[str, str], words: str) -> None:
    found = subject_of(describe("a", captions))
    assert found.name == "dog" and found.said[change] == words


@pytest.mark.parametrize("captions", [["a man in a red shirt"], ["a brown dog and a black dog"]])
def test_a_colour_that_may_be_of_something_else_is_not_said(captions: list[str]) -> None:
    assert "colour" not in {kind for kind, _ in subject_of(describe("a", captions)).said}


def test_of_many_captions_two_must_agree() -> None:
    one, two = ["a dog running", "a dog", "a dog on grass", "the dog"], ["a dog running", "a dog runs", "a dog on grass", "the dog"]
    assert ("action", "running") not in subject_of(describe("a", one)).said and ("action", "running") in subject_of(describe("a", two)).said
    assert subject_of(describe("a", ["a dog", "a cat", "a horse", "a cow"])).said == {}, "nothing that two of four name"


def test_a_change_leads_to_every_photo_that_shows_it() -> None:
    found = asked([["a red car in a street"], ["a blue car in a street"], ["a blue car"], ["a blue bus"]])
    assert {right for reference, text, right in found if reference == 0 and "blue" in text} == {(1, 2)}, "a bus is no car"
    assert not [text for reference, text, _ in found if reference == 2 and "street instead of" in text], "nothing is known of its place, so none is replaced"
    assert not [one for one in found if one[0] == 3]
    assert {"make it blue", "blue instead of red", "the same but blue", "in blue", "a blue one"} == {text for reference, text, _ in found if reference == 0}


def test_too_few_and_too_many_right_answers_are_left_out() -> None:
    library = [["a red car"], ["a blue car"], ["a green car"], ["a green car"]]

    def colours(**options: int) -> set[str]:
        return {colour for reference, text, _ in asked(library, **options) if reference == 0 for colour in ("blue", "green") if colour in text}

    assert (colours(), colours(fewest=2), colours(most=1), colours(fewest=3)) == ({"blue", "green"}, {"green"}, {"blue"}, set())


def test_what_the_photo_shows_already_is_not_asked_for() -> None:
    assert not [text for reference, text, _ in asked([["a dog and a ball in a park"], ["a dog with a ball in a park"]]) if reference == 0 and "ball" in text]


def test_a_swap_leads_to_another_subject_in_the_same_surroundings() -> None:
    photos = described(
        [["a dog on a beach"], ["a cat on a beach"], ["a cat on a beach"], ["a cat in a kitchen"], ["a horse on a beach with a dog"], ["a dog on a beach"]]
    )
    found = [one for seed in range(40) for one in swaps(photos, random.Random(seed)) if one.reference == 0]
    assert {tuple(sorted(one.right)) for one in found} == {(1, 2)}, "not the cat of a kitchen, not the horse beside a dog, no other dog"
    assert {one.text for one in found} == {text.format(new="a cat", old="a dog", bare="dog") for text in SWAPPED}
    assert {one.right[0] for one in found} == {1, 2}
    assert not list(swaps(photos, random.Random(0), EditOptions(fewest=3)))


CAPTION = st.lists(st.sampled_from([caption for some in LIBRARY for caption in some]), min_size=1, max_size=5)


@given(captions=st.lists(CAPTION, max_size=8), seed=st.integers(0, 99))
def test_the_right_photos_show_the_change_and_the_reference_does_not(captions: list[list[str]], seed: int) -> None:
    photos = described(captions)
    subjects = [subject_of(photo) for photo in photos]
    for one in edits(photos, random.Random(seed)):
        shared = set.intersection(*(set(subjects[place].said) for place in one.right)) - set(subjects[one.reference].said)
        assert shared and len(set(one.right)) == len(one.right) and one.reference not in one.right
        assert {subjects[place].name for place in (one.reference, *one.right)} == {subjects[one.reference].name}
        assert one.text and "{" not in one.text


@given(captions=st.lists(CAPTION, max_size=8), seed=st.integers(0, 99))
def test_a_swap_changes_the_subject_and_keeps_something(captions: list[list[str]], seed: int) -> None:
    photos = described(captions)
    subjects = [subject_of(photo) for photo in photos]
    for one in swaps(photos, random.Random(seed)):
        assert len({subjects[place].name for place in one.right}) == 1 and len(set(one.right)) == len(one.right)
        for place in one.right:
            assert subjects[place].name not in subjects[one.reference].nouns and subjects[one.reference].name not in subjects[place].nouns
            assert any(kind in AROUND for kind, _ in set(subjects[place].said) & set(subjects[one.reference].said))


def test_every_kind_is_asked_for() -> None:
    kinds = {kind for kind in SAID for _, text, _ in asked(LIBRARY) if any(words in text for (of, _), words in said() if of == kind)}
    assert kinds == set(SAID)


def said() -> list[tuple[tuple[str, str], str]]:
    return [item for photo in described(LIBRARY) for item in subject_of(photo).said.items()]


def test_the_same_whatever_the_hash_seed() -> None:
    code = ("import random; from rankclip.training.generator import describe, edits, swaps\n"
            f"library = [describe(str(i), some) for i, some in enumerate({LIBRARY!r})]\n"
            "for make in (edits, swaps): print(*make(library, random.Random(3)), sep=chr(10))")  # fmt: skip
    printed = {subprocess.run([sys.executable, "-c", code], env={**subprocess_environment(), "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True,
                              timeout=60).stdout for seed in ("1", "2", "3")}  # fmt: skip
    assert len(printed) == 1 and printed.pop().count("Edit(") >= 10
