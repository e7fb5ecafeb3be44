"""The scoring path by hand-made answers: scan, bounds, order, ties, top-k."""

import numpy as np
import pytest

from rankclip import scoring
from rankclip.instructions import parse
from rankclip.store.vectors import quantize


def rows(count: int, width: int, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def axis_embed(texts: list[str]) -> np.ndarray:
    """A text's embedding: bright is +x, dark is -x, anything else +y."""
    table = {"bright": (1, 0, 0), "dark": (-1, 0, 0)}
    return np.array([next((v for k, v in table.items() if k in text), (0, 1, 0)) for text in texts], np.float32)


@pytest.mark.parametrize("width", [1, 16, 384, 1024])
def test_a_scan_is_within_its_bound_of_the_master(width: int) -> None:
    master = rows(700, width).astype(np.float16)
    small, scales = quantize(master.astype(np.float32))
    query = rows(1, width, seed=9)[0]
    error = np.abs(scoring.scan(small, scales, query) - scoring.exact(master, np.arange(700), query))
    bound = scoring.error_bound(scales, query)
    assert (error <= bound).all()
    assert bound.max() < 0.05 or width == 1


def test_a_scan_does_not_depend_on_where_a_row_lies() -> None:
    small, scales = quantize(rows(1300, 384))
    query = rows(1, 384, seed=3)[0]
    order = np.random.default_rng(1).permutation(1300)
    assert np.array_equal(scoring.scan(small, scales, query)[order], scoring.scan(small[order], scales[order], query))
    assert np.array_equal(scoring.scan(small, scales, query)[7:8], scoring.scan(small[7:8], scales[7:8], query))


def test_direction_is_the_difference_of_the_ends() -> None:
    query = scoring.direction_query(parse("from dark to bright"), axis_embed)
    assert query.vector.tolist() == [-1, 0, 0]
    assert query.meaning == "projection"
    assert query.texts == ("a dark photo", "a bright photo")


def test_similarity_with_a_last_end_only_turns_round() -> None:
    assert scoring.similarity_query(parse("beach photos last"), axis_embed).vector.tolist() == [0, -1, 0]
    assert scoring.similarity_query(parse("a bright day"), axis_embed).vector.tolist() == [1, 0, 0]


def test_terms_shift_the_query() -> None:
    query = scoring.similarity_query(parse("a bright day"), axis_embed)
    assert scoring.shifted(query, []) is query
    moved = scoring.shifted(query, [(1.0, np.array([0, 1, 0]), "beach"), (-2.0, np.array([0, 0, 1]), "fruit")])
    assert np.allclose(moved.vector, np.array([1, 1, -2]) / np.sqrt(6))
    assert moved.texts == ("a bright day", "+1:beach", "-2:fruit") and moved.key != query.key
    other = scoring.shifted(query, [(1.0, np.array([0, 1, 1]), "beach"), (-2.0, np.array([0, 0, 1]), "fruit")])
    assert other.texts == moved.texts and other.key != moved.key, "a photo may have changed under its name: its scores are not those of before"


def simple_order(scores: list[float], names: list[str], **options: object) -> scoring.Order:
    values = np.array(scores)
    return scoring.order(values.astype(np.float32), np.full(len(values), 1e-6, np.float32), lambda some: values[some], lambda some: [names[i] for i in some],
                         **options)  # type: ignore[arg-type]  # fmt: skip


def test_ties_go_by_path_bytes() -> None:
    found = simple_order([1, 2, 1, 1], ["é", "z", "b", "a"])
    assert found.index.tolist() == [1, 3, 2, 0]
    assert found.ranks.tolist() == [1, 2, 3, 4]


def test_bottom_is_the_end_of_the_whole_order() -> None:
    scores, names = [3, 1, 2, 1, 5], ["a", "d", "b", "c", "e"]
    whole, bottom = simple_order(scores, names), simple_order(scores, names, bottom=3)
    assert bottom.index.tolist() == whole.index[-3:].tolist()
    assert bottom.ranks.tolist() == [3, 4, 5]


def test_top_is_a_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "EXACT_ROWS", 3)
    values = np.random.default_rng(0).normal(size=50)
    names = [f"{i:02}" for i in range(50)]
    whole = simple_order(values.tolist(), names)
    for top in (1, 2, 10, 49, 50, 99):
        assert simple_order(values.tolist(), names, top=top).index.tolist() == whole.index[:top].tolist()


def test_the_tail_is_never_above_an_exact_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "EXACT_ROWS", 4)
    rng = np.random.default_rng(0)
    true = rng.normal(size=200)
    rough = (true + rng.uniform(-0.3, 0.3, 200)).astype(np.float32)
    found = scoring.order(rough, np.full(200, 0.3, np.float32), lambda some: true[some], lambda some: ["" for _ in some])
    assert found.index[:4].tolist() == np.argsort(-true)[:4].tolist()
    assert (np.diff(found.scores) <= 0).all()
    assert sorted(found.index.tolist()) == list(range(200))


def test_percentiles() -> None:
    assert scoring.percentiles(np.array([1, 3, 5]), 5).tolist() == [100, 50, 0]
    assert scoring.percentiles(np.array([1]), 1).tolist() == [0]
