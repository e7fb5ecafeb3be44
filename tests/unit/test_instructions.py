"""The docstring table is the test; besides, what the grammar refuses and how prompts are made."""

import pytest

import rankclip.instructions
from rankclip.errors import InstructionError
from rankclip.instructions import PLAIN, parse, prompts
from rankclip.instructions.lexicon import comparative, forms, pairs, read_pairs, superlative

TABLE = [
    [cell.strip() for cell in line.strip().split("|")] for line in (rankclip.instructions.__doc__ or "").splitlines() if line.startswith("    ") and "|" in line
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0][:40])
def test_the_table(row: list[str]) -> None:
    found = parse(row[0])
    if row[1] == "=":
        assert (found.rule, found.first, found.last) == (PLAIN, row[0], "")
    else:
        first, last, attribute, rule = row[1:]
        assert [found.first, found.last, ("-" if found.ascending else "") + found.attribute, found.rule] == [first, last, attribute, rule]


def test_the_table_is_long_enough() -> None:
    assert len(TABLE) >= 120
    assert len({row[0] for row in TABLE}) == len(TABLE)
    assert sum(row[1] == "=" for row in TABLE) >= 40


@pytest.mark.parametrize("text", ["", "   ", " . ", "?!"])
def test_an_empty_instruction_is_an_error(text: str) -> None:
    with pytest.raises(InstructionError, match="empty"):
        parse(text)


@pytest.mark.parametrize(("text", "position"), [("from dark to", 12), ("from to bright", 5), ("to bright", 0), ("old before", 10), ("from dark", 9)])
def test_a_missing_end_is_an_error_with_its_place(text: str, position: int) -> None:
    with pytest.raises(InstructionError) as error:
        parse(text)
    assert error.value.position == position


@pytest.mark.parametrize("text", ["OLDER FACES FIRST", "  older   faces first ", "older faces first.", "Older faces first!"])
def test_case_space_and_full_stops_do_not_matter(text: str) -> None:
    assert (parse(text).first, parse(text).last) == ("old faces", "young faces")


def test_reading_back_an_explanation_names_both_ends() -> None:
    assert parse("from dark to bright").describe() == "first 'a dark photo', last 'a bright photo'; attribute: brightness (low first); rule: from X to Y"
    assert parse("at night").describe() == "taken as a plain sentence: 'at night'"


def test_templates_only_for_noun_phrases() -> None:
    assert len(prompts("old faces")) == 3
    assert prompts("a dark photo") == ["a dark photo"]
    assert prompts("the dog is asleep") == ["the dog is asleep"]
    assert prompts("one two three four five six seven") == ["one two three four five six seven"]


@pytest.mark.parametrize(
    ("word", "more", "most"),
    [("old", "older", "oldest"), ("big", "bigger", "biggest"), ("happy", "happier", "happiest"), ("large", "larger", "largest"), ("good", "better", "best"),
     ("crowded", "more crowded", "most crowded"), ("colourful", "more colourful", "most colourful"), ("dry", "dryer", "dryest"), ("well-lit", "more well-lit", "most well-lit")],
)  # fmt: skip
def test_comparison(word: str, more: str, most: str) -> None:
    assert (comparative(word), superlative(word)) == (more, most)


def test_the_vocabulary_is_large_and_clean() -> None:
    found = pairs()
    assert len(found) >= 300
    assert len({pair.positive for pair in found}) == len(found)
    assert len({pair.group for pair in found}) >= 10
    assert all(pair.positive != pair.negative for pair in found)
    assert forms()["older"].pair.axis == "age" and forms()["older"].positive


def test_a_users_own_pairs_and_their_errors() -> None:
    from rankclip.errors import InputError

    assert read_pairs("spicy\tmild\n", "own.tsv")[0].axis == "spicy"
    with pytest.raises(InputError, match=r"own\.tsv, line 2"):
        read_pairs("# fine\njust one word\n", "own.tsv")


@pytest.mark.parametrize(("text", "said"), [
    ("top 3 darkest photos", "a dark photo first"), ("photos that are not blurry", "a sharp photo first"), ("older faces 1st", "old faces first"),
    ("which ones are blurry?", "a blurry photo first"), ("older faces first", ""), ("photos without people", ""), ("at night", ""),
])  # fmt: skip
def test_what_a_head_would_not_read_is_said_plainly(text: str, said: str) -> None:
    assert parse(text).said == said


def test_marks_alone_are_no_instruction() -> None:
    for text in ("-", "--", "#!"):
        with pytest.raises(InstructionError, match="empty"):
            parse(text)
