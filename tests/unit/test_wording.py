"""Which order an instruction asks for, read by a task's own words: directions, near misses, and what the words say nothing about."""

import pytest

from rankclip.heads.adapter import Task, asked
from rankclip.heads.wording import Wording, order, words_of
from rankclip.instructions import parse

AGE = Wording(
    more=("old", "elderly"), less=("young",), vague=("old",), more_nouns=("pensioners", "adults"), less_nouns=("children", "babies"), names=("age",), subjects=("people", "faces", "face", "who")
)  # fmt: skip
QUALITY = Wording(more=("sharp", "in focus"), less=("blurry", "out of focus"), names=("quality", "sharpness"), against=("noise",))

ORDERS = [
    ("oldest people first", 1),
    ("faces, oldest last", -1),
    ("the youngest faces at the bottom", 1),
    ("who is younger?", -1),
    ("from babies to pensioners", -1),
    ("old people after young people", -1),
    ("start with the elderly people", 1),
    ("sort by age", 1),
    ("rank people by how young they look", -1),
    ("by age ascending", -1),
    ("age, lowest first", -1),
    ("from low to high age", -1),
    ("the older the face, the higher", 1),
    ("the older the face, the later", -1),
    ("youngest adults first", -1),
    ("children first, adults last", -1),
    ("sort the photos from old to young", 1),
]
NOT_AN_ORDER = [
    "older cars first",
    "young dogs before old dogs",
    "oldest photos first",
    "two old people",
    "most children first",
    "the best old people first",
    "old people first and last",
    "not the old people first",
]


@pytest.mark.parametrize(("text", "sign"), ORDERS)
def test_orders_by_age(text: str, sign: int) -> None:
    assert order(AGE, text) == sign


@pytest.mark.parametrize("text", NOT_AN_ORDER)
def test_near_misses_are_no_orders(text: str) -> None:
    assert order(AGE, text) == 0


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("sharpest photos first", 1),
        ("out-of-focus shots last", 1),
        ("highest quality on top", 1),
        ("low quality first", -1),
        ("least noise first", 1),
        ("sort by noise", -1),
        ("most in-focus to least in-focus", 1),
        ("most to least sharp", 1),
        ("sharpest knives", 0),
        ("noise protection walls", 0),
        ("a sharp photo", 0),
        ("at night", None),
    ],
)
def test_orders_by_quality(text: str, sign: int | None) -> None:
    assert order(QUALITY, text) == sign


def test_words_come_before_the_grammar_and_may_say_no() -> None:
    tasks = [Task("age", "Sort by age", wording=AGE), Task("brightness", "Sort by brightness")]

    def answer(text: str) -> tuple[str, bool] | None:
        named = asked(tasks, parse(text))
        return None if named is None else (named.task.name if named.task else "", named.up)

    assert answer("babies before pensioners") == ("age", False)
    assert answer("older cars first") == answer("oldest photos first") == ("", True), (
        "words of age about something else: nobody's, and no matter for the matcher"
    )
    assert answer("darkest first") == ("brightness", False), "a task without words has the grammar"
    assert answer("a cat on a sofa") is None, "left to the matcher"


def test_the_words_of_an_instruction_do_not_keep_the_grammar_from_answering() -> None:
    task = Task("age", "Sort by age", wording=words_of("Sort by age"))
    named = asked([task], parse("who is younger?"))
    assert named is not None and named.task is task and not named.up
    assert asked([task], parse("older cars first")) is None


def test_a_text_that_two_tasks_claim_is_nobodys() -> None:
    named = asked([Task("a", "Sort by age", wording=AGE), Task("b", "Sort by age of people", wording=AGE)], parse("oldest people first"))
    assert named is not None and named.task is None


def test_a_record_of_a_task_without_words_can_be_read() -> None:
    task = Task.read({"name": "age", "instruction": "Sort by age"})
    assert task.wording == Wording() and order(task.wording, "oldest first") is None
    assert Task.read({"name": "age", "instruction": "Sort by age", "wording": {"more": ["old"]}}).wording.more == ("old",)


@pytest.mark.parametrize(
    ("own", "text", "sign"),
    [
        ("Sort by tidiness", "sort by tidiness, lowest first", -1),
        ("Sort by tidiness", "highest tidiness first", 1),
        ("Sort by tidiness", "tidiness of my desk", 0),
        ("Sort the faces by age", "older faces first", 1),
        ("Sort the faces by age", "faces by age ascending", -1),
        ("Rank the technical quality of the photos", "photos by technical quality, worst first", -1),
        ("sort by redness", "reddest first", 1),
        ("sort by redness", "red cars first", 0),
        ("rank the age of the person", "youngest person first", -1),
        ("Rank the number of apples.", "by number of apples, fewest first", -1),
    ],
)
def test_a_head_of_ones_own_is_asked_for_by_the_words_of_its_instruction(own: str, text: str, sign: int) -> None:
    assert order(words_of(own), text) == sign
