"""The sentences that the generator makes from captions: hand-made answers, and laws that hold for any captions."""

import hashlib
import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import subprocess_environment

from rankclip.training.generator import FAMILIES, Described, Fact, PairOptions, compare, describe, exif, facts_between, generate, read_captions, render, tell
from rankclip.training.generator.facts import template_words
from rankclip.training.generator.frames import tokens
from rankclip.training.generator.sentences import SAME, short_enough
from rankclip.training.generator.words import lemma, plural, singular
from rankclip.types import PhotoFacts

CAPTIONS = [
    "Two brown dogs run on the beach.", "A dog sits in a kitchen.", "a red car parked by an old house at night", "A blue car in the sunny street", "An old man reading a newspaper",
    "a young man riding a bike in the snow", "Three children are playing on a swing in the garden .", "a group of people sitting at a table", "A large empty train station",
    "a small crowded train station", "A wooden bench near a lake", "a metal bench in a park", "A woman in a red dress is dancing", "A woman sitting on a sofa with a cat",
    "no dogs on the beach", "Several boats at sunset", "a boat at dawn", "Four zebras graze in a field", "a zebra drinking water", "A crowd watches a bike race",
]  # fmt: skip


def facts(a: str, b: str) -> list[tuple[str, str, str, str]]:
    return [(fact.kind, fact.head, fact.first, fact.second) for fact in compare(read_captions([a]), read_captions([b]))]


@pytest.mark.parametrize(("a", "b", "wanted"), [
    ("two dogs", "a dog", ("count", "dog", "more dogs", "fewer dogs")),
    ("a dog", "several dogs", ("count", "dog", "fewer dogs", "more dogs")),
    ("a group of people at a table", "a person at a table", ("count", "person", "more people", "fewer people")),
    ("a red car", "a blue car", ("attribute", "car", "red", "blue")),
    ("a wooden bench", "a metal bench", ("attribute", "bench", "wooden", "metal")),
    ("an old man", "a young man", ("grade", "man", "older", "younger")),
    ("a large dog", "a tiny dog", ("grade", "dog", "larger", "smaller")),
    ("a vintage car", "a modern car", ("grade", "car", "older", "newer")),
    ("an empty station", "a crowded station", ("grade", "station", "emptier", "more crowded")),
    ("a boat at sunrise", "a boat at night", ("grade", "", "earlier in the day", "later in the day")),
    ("a street at night", "a sunny street", ("grade", "", "darker", "brighter")),
    ("a dog runs", "a dog is sleeping", ("action", "dog", "running", "sleeping")),
    ("a cat on a sofa", "a cat on a beach", ("scene", "", "indoors", "outdoors")),
    ("a house in winter", "a house in summer", ("scene", "", "in winter", "in summer")),
])  # fmt: skip
def test_a_difference_is_found(a: str, b: str, wanted: tuple[str, str, str, str]) -> None:
    assert wanted in facts(a, b)


def test_a_colour_is_no_presence() -> None:
    assert {kind for kind, *_ in facts("a red car", "a blue car")} == {"attribute"}


@pytest.mark.parametrize(("a", "b"), [("two dogs", "dogs"), ("a dog", "one dog"), ("two dogs", "2 dogs"), ("a black man", "a white man"), ("the box", "a box"), ("some dogs", "three dogs"),
                                      ("women", "women"), ("", ""), ("", "a photo"), ("a brown dog chases a black dog", "two dogs")])  # fmt: skip
def test_no_difference_is_made_up(a: str, b: str) -> None:
    assert [fact for fact in facts(a, b) if fact[0] != "action"] == []


@pytest.mark.parametrize(("many", "one"), [("dogs", "dog"), ("women", "woman"), ("children", "child"), ("benches", "bench"), ("berries", "berry"), ("horses", "horse"), ("knives", "knife"),
                                           ("buses", "bus"), ("people", "person"), ("boxes", "box"), ("shoes", "shoe"), ("firefighters", "firefighter")])  # fmt: skip
def test_singular_and_plural(many: str, one: str) -> None:
    assert (singular(many), plural(one), singular(one)) == (one, many, one)
    assert set(read_captions([f"three {many}"]).entities) == set(read_captions([f"a {one}"]).entities) == {one}


@pytest.mark.parametrize("word", ["grass", "bus", "tennis", "glass", "dress", "jeans", "scissors", "goggles", "christmas"])
def test_words_in_s_that_are_one(word: str) -> None:
    assert singular(word) == word


def test_an_empty_caption_says_nothing() -> None:
    nothing, something = describe("a", [""]), describe("b", ["two dogs on a beach"])
    assert not nothing.frame and list(generate([nothing, something])) == [] and list(generate([something])) == []


DELTA = {"delta": "more dogs, with a car", "symmetric": "The first photo shows more dogs and shows a car, while the second shows fewer dogs and shows no car.",
         "instruction": "a photo with more dogs and a car"}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_families(family: str) -> None:
    some = (Fact("count", "dog", "more dogs", "fewer dogs"), Fact("presence", "car", "a car", ""))
    assert render(some, family).text == DELTA[family]
    assert render(some, family).reversed().reversed() == render(some, family)
    assert render((), family).text == render((), family).reversed().text


def test_every_kind_of_fact_is_said_in_every_family() -> None:
    some = {
        Fact("attribute", "umbrella", "orange", "blue", "colour"): (
            "shows an orange umbrella",
            "the umbrella is orange instead of blue",
            "with an orange umbrella instead of a blue one",
        ),
        Fact("grade", "man", "older", "younger", "age"): ("shows an older man", "an older man", "with an older man"),
        Fact("grade", "", "brighter", "darker", "light"): ("is brighter", "brighter", "that is brighter"),
        Fact("grade", "", "later in the day", "earlier in the day", "time"): ("was taken later in the day", "later in the day", "that is later in the day"),
        Fact("action", "dog", "running", "sleeping", "state"): (
            "shows the dog running",
            "the dog running rather than sleeping",
            "where the dog is running and not sleeping",
        ),
        Fact("scene", "", "in winter", "in summer", "season"): ("is in winter", "in winter, not in summer", "in winter, not in summer"),
        Fact("relation", "dog", "a dog on a sofa", "", "sofa"): ("shows a dog on a sofa", "a dog on a sofa", "with a dog on a sofa"),
    }
    for fact, wanted in some.items():
        for family, text in zip(FAMILIES, wanted, strict=True):
            assert text in render((fact,), family).text, (fact, family)
            assert render((fact,), family).text != render((fact.reversed(),), family).text


captions = st.lists(st.sampled_from(CAPTIONS), min_size=1, max_size=3)


@settings(max_examples=200, deadline=None)
@given(captions, captions)
def test_reversing_twice_changes_nothing_and_swapping_reverses(one: list[str], other: list[str]) -> None:
    a, b = describe("a", one), describe("b", other)
    forth, back = facts_between(a, b), facts_between(b, a)
    assert [fact.reversed().reversed() for fact in forth] == forth
    assert sorted(map(repr, (fact.reversed() for fact in forth))) == sorted(map(repr, back))
    said, answered = tell(a, b, forth, PairOptions()), tell(b, a, back, PairOptions())
    assert [sentence.reversed() for sentence in said] == answered


@settings(max_examples=200, deadline=None)
@given(captions, captions)
def test_no_word_comes_from_nowhere(one: list[str], other: list[str]) -> None:
    a, b = describe("a", one), describe("b", other)
    known = a.words | b.words | {lemma(word) for word in template_words()} | {"gold", "grey", "one"}
    for fact in facts_between(a, b):
        for family in FAMILIES:
            for text in (render((fact,), family).text, render((fact.reversed(),), family).text):
                strange = {lemma(word) for word in tokens(text) if word[0].isalnum()} - known - {lemma(word) for word in ("that", "where")}
                assert not strange, (text, strange)


def library() -> list[Described]:
    return [describe(f"{i}.jpg", [caption], {"luminance": i / 20, "sharpness": (i * 7 % 20) / 20}) for i, caption in enumerate(CAPTIONS)]


def test_verified_facts_need_a_distance() -> None:
    photos = library()
    said = list(generate(photos, PairOptions(count=400, each=3)))
    verified = [fact for told in said for fact in told.sentence.facts if fact.verified and fact.slot == "luminance"]
    assert len(verified) > 20
    for told in said:
        for fact in told.sentence.facts:
            if fact.verified and fact.slot == "luminance":
                distance = photos[told.a].values["luminance"] - photos[told.b].values["luminance"]
                assert abs(distance) > 0.35 and fact.first == ("brighter" if distance > 0 else "darker")


@pytest.mark.parametrize(("taken", "latitude", "hours", "season"), [
    ("2021-07-04T06:15:00", 52.5, 6.25, "summer"), ("2021-07-04T06:15:00", -33.9, 6.25, "winter"), ("2021-12-24T21:59:00", 52.5, 21.983, "winter"),
    ("2021-04-01T12:00:00", None, 12.0, ""), ("2021-10-01T12:00:00", 1.3, 12.0, ""), ("2021-10-01T02:00:00", -40.0, None, "spring"), ("soon", 50.0, None, ""),
])  # fmt: skip
def test_the_camera_knows_hour_and_season(taken: str, latitude: float | None, hours: float | None, season: str) -> None:
    photo = PhotoFacts(4, 3, "JPEG", taken, latitude=latitude)
    assert exif.hour(photo) == pytest.approx(float("nan") if hours is None else hours, abs=0.01, nan_ok=True) and exif.season(photo) == season


def test_the_hour_is_a_verified_fact() -> None:
    photos = [describe(f"{i}.jpg", [caption], {"hour": float("nan") if i % 4 == 0 else 5 + i / 2}) for i, caption in enumerate(CAPTIONS)]
    said = [(told, fact) for told in generate(photos, PairOptions(count=400, each=3)) for fact in told.sentence.facts if fact.slot == "hour"]
    assert len(said) > 10
    for told, fact in said:
        later = photos[told.a].values["hour"] > photos[told.b].values["hour"]
        assert fact.verified and fact.first == ("later in the day" if later else "earlier in the day")


def test_every_sentence_is_stored_with_its_reverse_and_is_short() -> None:
    said = list(generate(library(), PairOptions(count=400)))
    assert len(said) > 60
    for told, back in zip(said[::2], said[1::2], strict=True):
        assert told.reversed() == back and short_enough(told.sentence)
    grades = [fact.first for told in said for fact in told.sentence.facts if fact.slot == "luminance"]
    assert grades.count("brighter") == grades.count("darker") > 0


def test_near_duplicates_are_told_as_such_and_rarely() -> None:
    said = list(generate(library(), PairOptions(count=400), cosine=lambda a, b: 0.99))
    assert said and all(not told.sentence.facts for told in said) and len(said) <= 2 * 0.05 * 400 + 2
    assert {told.sentence.text for told in said} <= set(SAME.values()) and len({told.sentence.text for told in said}) > 1


def test_families_kinds_and_banned_words() -> None:
    only = list(generate(library(), PairOptions(count=400, families=("instruction",), kinds=frozenset({"count", "grade"}), banned=frozenset({"dogs"}))))
    assert only and {told.sentence.family for told in only} == {"instruction"}
    assert {fact.kind for told in only for fact in told.sentence.facts} <= {"count", "grade"} and not any("dogs" in told.sentence.text for told in only)


def test_captions_that_say_the_same_are_left_out() -> None:
    photos = [
        describe("a", ["a red bus on a very wet road in the rain with two dogs by a tall tree and a bench"]),
        describe("b", ["a red bus on a wet road in the rain with two dogs by a tall tree and benches"]),
    ]
    assert list(generate(photos, PairOptions(count=10))) == []


SCRIPT = """
import hashlib, sys
sys.path.insert(0, {root!r})
from tests.unit.test_generator import library
from rankclip.training.generator import PairOptions, generate
print(hashlib.sha256("\\n".join(told.sentence.text for told in generate(library(), PairOptions(count=300, seed=4))).encode()).hexdigest())
"""
SENTENCES = "a1f28ef901efe6c1d4dc6174350135d3e07c921b164d70e3f43fbe41568062f1"


def test_the_same_on_every_run_and_machine() -> None:
    from tests.conftest import ROOT

    texts = [told.sentence.text for told in generate(library(), PairOptions(count=300, seed=4))]
    here = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    there = [subprocess.run([sys.executable, "-c", SCRIPT.format(root=str(ROOT))], capture_output=True, text=True, timeout=60, check=True,
                            env=subprocess_environment(PYTHONHASHSEED=seed)).stdout.strip() for seed in ("1", "2")]  # fmt: skip
    assert [here, here] == there
    assert here == SENTENCES, "the sentences changed: train the shipped packs again, then record the new digest"


def test_the_generator_needs_no_model_runtime() -> None:
    code = "import sys, rankclip.training.generator as g; g.render((), 'delta'); print(sorted({'torch', 'onnxruntime'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=subprocess_environment())
    assert json.loads(found.stdout.replace("'", '"')) == []
