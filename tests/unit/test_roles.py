"""The parser of changes: its docstring table is the test."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankclip.instructions import roles
from rankclip.instructions.roles import Roles, clauses, read_roles

TABLE = [[cell.strip() for cell in line.strip().split("|")] for line in (roles.__doc__ or "").splitlines() if line.startswith("    ") and "|" in line]


def parts(cell: str) -> list[str]:
    return [part.strip() for part in cell.split(";") if part.strip()]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0][:50])
def test_the_table(row: list[str]) -> None:
    found = read_roles(row[0])
    if row[1] == "=":
        assert found.neutral and not found.wanted and not found.forbidden
        return
    changes = [f"{change.first} < {change.last}" for change in found.changes]
    assert [list(found.desired), list(found.forbidden), changes, list(found.kept)] == [parts(cell) for cell in row[1:]]
    assert not found.neutral


def test_the_table_is_long_enough() -> None:
    assert len(TABLE) >= 40 and len({row[0] for row in TABLE}) == len(TABLE)
    assert sum(bool(parts(row[2])) for row in TABLE) >= 15, "sentences that forbid"
    assert sum(bool(parts(row[3])) for row in TABLE) >= 8, "sentences that compare"
    assert sum(bool(parts(row[4])) for row in TABLE) >= 8, "sentences that keep"


@pytest.mark.parametrize("text", ["", "  ", " . ", "?!", "\n"])
def test_an_empty_text_asks_for_no_change(text: str) -> None:
    assert read_roles(text) == Roles(text, neutral=True)


@pytest.mark.parametrize("text", ["THE SAME BUT AT NIGHT", "the same but at night!", "  the  same but at   night."])
def test_case_space_and_stops_do_not_matter(text: str) -> None:
    assert [phrase.lower() for phrase in read_roles(text).desired] == ["at night"]


def test_what_is_embedded_leaves_out_what_is_forbidden_or_kept() -> None:
    assert read_roles("is brown, not yellow").wanted == "brown"
    assert read_roles("without people").wanted == ""
    assert read_roles("darker and with a dog").wanted == "a dog"


@pytest.mark.parametrize(("text", "told", "beside"), [
    ("the same but in a park", "the same but in a park", ""),
    ("in a park, without a dog", "in a park", "without: dog"),
    ("a park without a dog", "a park", "without: dog"),
    ("is brown, not yellow", "brown", "without: yellow"),
    ("red instead of blue", "red", ""),
    ("turn the car into a bus, and no people", "a bus", "without: people"),
    ("without a dog", "", "without: dog"),
    ("instead of a dog", "", "without: dog"),
])  # fmt: skip
def test_a_head_is_told_what_is_wanted_and_the_rest_counts_beside_it(text: str, told: str, beside: str) -> None:
    found = read_roles(text)
    assert (found.for_head, found.beside_head.describe()) == (told, beside)


def test_another_place_or_time_is_a_new_scene() -> None:
    assert read_roles("the same but at night").new_scene and read_roles("put it on a sandy beach").new_scene
    assert not read_roles("make it red").new_scene


def test_roles_can_be_told() -> None:
    assert (
        read_roles("the same dress, darker and without the belt").describe() == "without: belt; more of: a dark photo rather than a bright photo; kept: dress"
    )
    assert read_roles("the same").describe() == "no change is asked for: photos like the reference"


@given(st.text(max_size=80))
def test_no_text_is_refused(text: str) -> None:
    found = read_roles(text)
    assert found.neutral or found.wanted or found.forbidden or found.changes
    assert all(phrase.strip() for phrase in (*found.desired, *found.forbidden, *found.kept))
    assert isinstance(clauses(text), list)
