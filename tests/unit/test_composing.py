"""The untrained composers by hand: small vectors whose answers can be worked out on paper."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankclip import composing
from rankclip.backbones.specs import TOY
from rankclip.composing import Composition, Material, Term, Usual, combine, leaning, product, slerp
from rankclip.engines.toy import ToyEngine
from rankclip.instructions.roles import read_roles
from rankclip.registry import COMPOSERS, resolve
from rankclip.scoring import unit
from rankclip.settings import Settings

EMBED = ToyEngine(TOY, Settings()).encode_texts
X, Y, Z = np.eye(3, dtype=np.float32)


def material(text: str, *, photo: str = "red", **more: object) -> Material:
    roles = read_roles(text)
    wanted = composing.phrase_embedding(roles.wanted, EMBED) if roles.wanted else None
    said = None if roles.neutral else composing.phrase_embedding(roles.wanted or text, EMBED)
    return Material(composing.phrase_embedding(photo, EMBED), wanted, (roles,), said=said, **more)  # type: ignore[arg-type]


# ---------------------------------------------------------------- slerp


def test_slerp_ends_are_the_ends() -> None:
    assert np.allclose(slerp(X, Y, 0), X, atol=1e-6) and np.allclose(slerp(X, Y, 1), Y, atol=1e-6)
    assert np.allclose(slerp(X, Y, 1 / 3), [np.cos(np.pi / 6), np.sin(np.pi / 6), 0], atol=1e-6), "a third of a right angle is 30 degrees"


@pytest.mark.parametrize("other", [X, unit(X + 1e-5 * Y), -X, unit(-X + 1e-5 * Y)])
def test_slerp_of_nearly_parallel_vectors_is_finite(other: np.ndarray) -> None:
    assert np.isfinite(slerp(X, other, 0.3)).all()


@given(st.lists(st.floats(-1, 1), min_size=6, max_size=6), st.floats(0, 1))
@settings(max_examples=60)
def test_slerp_is_symmetric_and_unit(numbers: list[float], share: float) -> None:
    first, last = unit(np.array(numbers[:3]) + [2, 0, 0]), unit(np.array(numbers[3:]) + [0, 2, 0])
    found = slerp(first, last, share)
    assert abs(np.linalg.norm(found) - 1) < 1e-5
    assert np.allclose(found, slerp(last, first, 1 - share), atol=1e-5)


def test_the_middle_strength_is_the_tuned_share() -> None:
    assert [leaning(s, 0.8) for s in (0, 0.5, 1)] == [0.0, 0.8, 1.0]
    assert leaning(0.25, 0.8) < 0.8 < leaning(0.75, 0.8)


# ---------------------------------------------------------------- product


@given(st.floats(-3, 6), st.floats(-3, 6), st.floats(0.01, 2), st.floats(0.05, 0.95))
@settings(max_examples=100)
def test_the_product_is_monotone_in_each_similarity(photo: float, text: float, more: float, gamma: float) -> None:
    at = product(np.array([photo]), np.array([text]), gamma)
    assert product(np.array([photo + more]), np.array([text]), gamma) > at
    assert product(np.array([photo]), np.array([text + more]), gamma) > at


def test_the_product_needs_both() -> None:
    lean = composing.LEAN
    both, photo_only, text_only = product(np.array([4.0, 4.0, -1.0]), np.array([1.0, -1.0, 9.0]), 0.5)
    assert both == pytest.approx(2 + lean * 2.5) and photo_only == pytest.approx(lean * 1.5) and text_only == pytest.approx(lean * 4.0)


# ---------------------------------------------------------------- composers


@pytest.mark.parametrize("name", ["sum", "slerp", "product"])
@pytest.mark.parametrize("text", ["", "the same", "keep everything as it is"])
def test_no_change_is_the_photo_itself(name: str, text: str) -> None:
    found = resolve(COMPOSERS, name, what="composer")(material(text), EMBED)
    assert found.linear and np.array_equal(found.terms[0].vector, material(text).photo)


@pytest.mark.parametrize("name", ["sum", "slerp"])
def test_strength_goes_from_photo_to_text(name: str) -> None:
    make = resolve(COMPOSERS, name, what="composer")
    queries = [make(material("blue", strength=strength), EMBED).terms[0].vector for strength in (0.0, 0.25, 0.5, 0.75, 1.0)]
    photo, text = material("blue").photo, material("blue").text
    assert np.allclose(queries[0], photo, atol=1e-6) and np.allclose(queries[-1], text, atol=1e-6)
    assert np.all(np.diff([float(query @ text) for query in queries]) > 0)


def test_the_sum_at_the_middle_is_the_mean() -> None:
    found = resolve(COMPOSERS, "sum", what="composer")(material("blue", strength=0.5), EMBED)
    share = composing.SUM_SHARE
    assert np.allclose(found.terms[0].vector, unit((1 - share) * material("blue").photo + share * material("blue").text), atol=1e-6)


def test_what_is_kept_or_new_moves_the_product() -> None:
    make = resolve(COMPOSERS, "product", what="composer")
    plain, kept, scene = (make(material(text), EMBED).gamma for text in ("a dog", "a dog in the same colour", "at night"))
    assert kept == pytest.approx(plain + composing.KEEP_SHIFT) and scene == pytest.approx(plain - composing.SCENE_SHIFT)


def test_a_heads_query_is_bent_by_the_strength() -> None:
    make = resolve(COMPOSERS, "head", what="composer")
    learnt = composing.phrase_embedding("green", EMBED)
    queries = [make(material("blue", strength=strength, learnt=learnt), EMBED).terms[0].vector for strength in (0.0, 0.5, 1.0)]
    assert all(np.allclose(query, end, atol=1e-6) for query, end in zip(queries, (material("blue").photo, learnt, material("blue").text), strict=True))
    assert np.array_equal(make(material("the same", learnt=learnt), EMBED).terms[0].vector, material("the same").photo)


def test_what_a_head_is_not_told_counts_beside_its_query() -> None:
    learnt = composing.phrase_embedding("green", EMBED)
    asked = material("green instead of blue, without red and darker", learnt=learnt)
    query, *beside = resolve(COMPOSERS, "head", what="composer")(replace(asked, beside=(asked.roles[0].beside_head,)), EMBED).terms
    assert np.array_equal(query.vector, learnt)
    assert [(term.role, term.name, round(term.weight, 6)) for term in beside] == [("forbidden", "red", 0.21), ("changed", "a dark photo", 0.21)]
    alone = resolve(COMPOSERS, "head", what="composer")(material("without red"), EMBED)
    assert [term.weight for term in alone.terms[1:]] == [composing.FORBIDDEN], "without a head's query it counts in full"


# ---------------------------------------------------------------- roles in the score


def three_terms() -> Composition:
    terms = (Term("query", "q", X), Term("forbidden", "f", Y, 0.7, composing.DOWN), Term("changed", "c", Z, 0.7, composing.UP, 0.0))
    return Composition(terms, "linear", X, None)


def test_a_score_by_hand() -> None:
    usual = Usual(np.array([0.5, 0.0, 0.0]), np.array([0.1, 0.1, 0.1]))
    values = [np.array([0.7, 0.7, 0.7]), np.array([0.0, 0.3, -0.9]), np.array([0.1, 0.9, 0.0])]
    # query: 2 spreads each; forbidden: 0, 3 x 0.7, and nothing below the middle; changed: 1 spread, clipped to 2, none
    assert np.allclose(combine(three_terms(), values, usual), [2 + 0.7, 2 - 2.1 + 1.4, 2.0])


@given(st.integers(0, 10_000))
@settings(max_examples=40)
def test_bounds_hold_whatever_the_errors(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for rule, roles in (("linear", ("query", "forbidden", "changed")), ("product", ("photo", "text", "forbidden"))):
        terms = tuple(Term(role, role, X, 0.7, composing.DOWN if role == "forbidden" else composing.UP) for role in roles)
        composition = Composition(terms, rule, X, None, gamma=float(rng.uniform(0.1, 0.9)))
        usual = Usual(rng.normal(0, 0.1, 3), rng.uniform(0.05, 0.3, 3))
        true = [rng.normal(0, 0.3, 50) for _ in terms]
        errors = [rng.uniform(0, 0.05, 50) for _ in terms]
        seen = [value + rng.uniform(-1, 1, 50) * error for value, error in zip(true, errors, strict=True)]
        score, bound = composing.bounded(composition, seen, errors, usual)
        assert (np.abs(combine(composition, true, usual) - score) <= bound + 1e-5).all()


def test_calibration_is_robust_and_starts_comparatives_at_the_reference() -> None:
    sample = np.zeros((101, 3))
    sample[:, 0] = np.arange(101) / 100
    sample[:5, 1] = 50.0  # a few outliers
    terms = (Term("query", "q", X), Term("text", "t", Y), Term("changed", "c", X, start=0.25))
    usual = composing.calibrate(Composition(terms, "linear", X, None), sample)
    assert usual.middle.tolist() == [0.5, 0.0, 0.25]
    assert usual.spread[0] == pytest.approx(1.4826 * 0.25) and usual.spread[1] >= 1e-3
