"""Ranking keeps its promises whatever the gallery: exactness, permutation, scale, prefixes."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rankclip import scoring
from rankclip.store.vectors import quantize

WIDTH = 12
galleries = hnp.arrays(np.float32, st.tuples(st.integers(1, 60), st.just(WIDTH)), elements=st.floats(-1, 1, width=16))
queries = hnp.arrays(np.float32, WIDTH, elements=st.floats(-1, 1, width=16)).filter(lambda q: float(np.abs(q).max()) > 0.01)


def ranked(gallery: np.ndarray, query: np.ndarray, names: list[str], *, proven: int, **options: object) -> scoring.Order:
    master = gallery.astype(np.float16)
    small, scales = quantize(master.astype(np.float32))
    before, scoring.EXACT_ROWS = scoring.EXACT_ROWS, proven
    try:
        return scoring.order(scoring.scan(small, scales, query), scoring.error_bound(scales, query), lambda some: scoring.exact(master, some, query),
                             lambda some: [names[i] for i in some], **options)  # type: ignore[arg-type]  # fmt: skip
    finally:
        scoring.EXACT_ROWS = before


def brute(gallery: np.ndarray, query: np.ndarray, names: list[str]) -> list[int]:
    scores = np.round(gallery.astype(np.float16).astype(np.float64) @ query.astype(np.float64), scoring.DIGITS)
    return sorted(range(len(gallery)), key=lambda i: (-scores[i], scoring.path_bytes(names[i])))


@settings(max_examples=150, deadline=None)
@given(galleries, queries, st.integers(1, 20), st.randoms(use_true_random=False))
def test_the_first_places_are_exact(gallery: np.ndarray, query: np.ndarray, proven: int, random: object) -> None:
    names = [f"{i:03}" for i in range(len(gallery))]
    random.shuffle(names)  # type: ignore[attr-defined]
    found = ranked(gallery, query, names, proven=proven)
    wanted = brute(gallery, query, names)
    sure = min(proven, len(gallery))
    assert found.index[:sure].tolist() == wanted[:sure]
    assert sorted(found.index.tolist()) == list(range(len(gallery)))
    assert (np.diff(found.scores) <= 0).all()
    assert ranked(gallery, query, names, proven=proven, all_exact=True).index.tolist() == wanted


@settings(max_examples=100, deadline=None)
@given(galleries, queries, st.randoms(use_true_random=False))
def test_permuting_the_gallery_permutes_the_ranking(gallery: np.ndarray, query: np.ndarray, random: object) -> None:
    names = [f"{i:03}" for i in range(len(gallery))]
    order = list(range(len(gallery)))
    random.shuffle(order)  # type: ignore[attr-defined]
    one = ranked(gallery, query, names, proven=5)
    other = ranked(gallery[order], query, [names[i] for i in order], proven=5)
    assert [names[i] for i in one.index] == [names[order[i]] for i in other.index]
    assert np.array_equal(one.scores, other.scores)


@settings(max_examples=100, deadline=None)
@given(galleries, queries, st.integers(1, 20))
def test_top_k_is_a_prefix_and_bottom_a_suffix(gallery: np.ndarray, query: np.ndarray, top: int) -> None:
    names = [f"{i:03}" for i in range(len(gallery))]
    whole = ranked(gallery, query, names, proven=60)
    assert ranked(gallery, query, names, proven=3, top=top).index.tolist() == whole.index[:top].tolist()
    assert ranked(gallery, query, names, proven=3, bottom=top).index.tolist() == whole.index[-top:].tolist()


@settings(max_examples=50, deadline=None)
@given(galleries, queries)
def test_the_length_of_the_query_changes_nothing(gallery: np.ndarray, query: np.ndarray) -> None:
    names = [f"{i:03}" for i in range(len(gallery))]
    assert ranked(gallery, query, names, proven=60, top=5).index.tolist() == ranked(gallery, query * 4, names, proven=60, top=5).index.tolist()
