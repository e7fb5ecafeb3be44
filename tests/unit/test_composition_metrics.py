"""Metrics of composed retrieval, computed by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from rankclip.errors import InputError
from rankclip.evaluation import composition as metrics
from rankclip.evaluation.composition import average_precision, figure, places


def row(order: list[int], size: int) -> np.ndarray:
    """Scores whose order is `order`, the others after it."""
    scores = np.full((1, size), -1.0)
    scores[0, order] = np.arange(len(order), 0, -1)
    return scores


def test_ties_go_to_the_earlier_photo() -> None:
    assert places(np.array([[0.5, 0.5, 0.1, 0.5]]), np.array([3])).tolist() == [3]


# ---------------------------------------------------------------- circo


def test_circo_with_two_truths_hit_at_ranks_one_and_three() -> None:
    good = np.array([True, False, True, False, False])
    assert average_precision(good, 2) == pytest.approx((1 + 2 / 3) / 2)
    ids = list(range(100, 160))
    found = metrics.circo([row([0, 1, 2, 3, 4], 60)], ids, [[100, 102]], [102])
    assert found["mAP@5"].tolist() == [pytest.approx((1 + 2 / 3) / 2)]
    assert found["R@5"].tolist() == [1.0]


def test_circo_divides_by_the_smaller_of_truths_and_k() -> None:
    found = metrics.circo([row([0, 1, 2, 3, 4], 60)], list(range(60)), [[0, 1, 2, 3, 4, 5, 6]], [6])
    assert found["mAP@5"].tolist() == [1.0], "seven truths, five places, five hits"
    assert found["mAP@10"][0] == pytest.approx(1.0) and found["R@5"].tolist() == [0.0] and found["R@10"].tolist() == [1.0]


# ---------------------------------------------------------------- cirr


NAMES = [f"p{i}" for i in range(60)]


def test_cirr_deletes_the_reference() -> None:
    scores = row([7, 3, 9], 60)  # the reference p7 first, the target p3 second
    found = metrics.cirr([scores], NAMES, ["p7"], ["p3"], [["p7", "p3", "p9", "p10", "p11", "p12"]])
    assert found["R@1"].tolist() == [1.0] and found["Rs@1"].tolist() == [1.0]


def test_cirr_subset_ranks_only_the_group() -> None:
    scores = row([20, 21, 22, 9, 3], 60)  # p9 of the group is before the target p3; strangers do not count
    found = metrics.cirr([scores], NAMES, ["p7"], ["p3"], [["p7", "p3", "p9", "p10", "p11", "p12"]])
    assert [found[name][0] for name in ("R@1", "R@5", "Rs@1", "Rs@2", "Rs@3")] == [0.0, 1.0, 0.0, 1.0, 1.0]


def test_chance_on_cirrs_subset_is_20_40_60_percent() -> None:
    rng = np.random.default_rng(0)
    count = 4_000
    groups = [[f"p{i}" for i in rng.choice(60, 6, replace=False)] for _ in range(count)]
    found = metrics.cirr([rng.normal(size=(count, 60))], NAMES, [one[0] for one in groups], [one[1] for one in groups], groups)
    assert [round(float(found[f"Rs@{k}"].mean()), 1) for k in (1, 2, 3)] == [0.2, 0.4, 0.6]


# ---------------------------------------------------------------- fashioniq, genecis, triplets


def test_fashioniq_keeps_the_reference_and_streams() -> None:
    scores = np.concatenate([row(list(range(12)), 60), row(list(range(12)), 60), row([5], 60)])
    whole = metrics.fashioniq([scores], NAMES, ["p9", "p10", "p5"])
    assert whole["R@10"].tolist() == [1.0, 0.0, 1.0] and whole["R@50"].tolist() == [1.0, 1.0, 1.0]
    parts = metrics.fashioniq([scores[:2], scores[2:]], NAMES, ["p9", "p10", "p5"])
    assert all(np.array_equal(parts[name], whole[name]) for name in whole)


def test_blocks_and_queries_must_agree() -> None:
    with pytest.raises(AssertionError):
        metrics.fashioniq([row([1], 60)], NAMES, ["p1", "p2"])


def test_genecis_counts_a_constant_model_as_failure() -> None:
    found = metrics.genecis([np.zeros(15), np.array([1.0, 0.5, 0.2]), np.array([0.5, 0.9, 0.2])])
    assert found["R@1"].tolist() == [0.0, 1.0, 0.0] and found["R@2"].tolist() == [0.0, 1.0, 1.0] and found["R@3"].tolist() == [0.0, 1.0, 1.0]


def test_triplets_leave_the_reference_out_and_take_any_right_photo() -> None:
    found = metrics.triplets([np.concatenate([row([0, 5, 3], 60), row([9, 4], 60)])], [0, 1], [[3, 5], [4]])
    assert found["R@1"].tolist() == [1.0, 0.0] and found["R@5"].tolist() == [1.0, 1.0]
    assert found["reference first"].tolist() == [1.0, 0.0] and found["place"].tolist() == [1.0, 2.0]


# ---------------------------------------------------------------- intervals


def test_intervals_hold_what_they_should() -> None:
    rng = np.random.default_rng(3)
    inside = 0
    for draw in range(100):
        values = (rng.random(400) < 0.3).astype(float)
        found = figure(values, draw)
        inside += found.low <= 0.3 <= found.high
    assert 88 <= inside <= 100, "about 95 of 100 intervals hold the truth"


def test_a_paired_difference_is_narrower_than_two_figures() -> None:
    rng = np.random.default_rng(1)
    common = rng.random(500)
    one, other = (common < 0.6).astype(float), (common < 0.5).astype(float)
    paired = metrics.difference(one, other)
    assert paired.low > 0.05 and paired.high - paired.low < (figure(one).high - figure(one).low)


def test_no_queries_give_no_number() -> None:
    assert np.isnan(figure(np.empty(0)).value)


# ---------------------------------------------------------------- server files


def test_cirrs_files(tmp_path: Path) -> None:
    best = [[f"n{i}" for i in range(55)], [f"m{i}" for i in range(55)]]
    recall, subset = metrics.cirr_submission([12, 7], best, [["a", "b", "c", "d", "e"], ["f", "g", "h", "i", "j"]])
    assert set(recall) == {"version", "metric", "12", "7"} and recall["version"] == subset["version"] == "rc2"
    assert (recall["metric"], subset["metric"]) == ("recall", "recall_subset")
    assert len(recall["12"]) == 50 and subset["7"] == ["f", "g", "h"]  # type: ignore[arg-type]
    size = metrics.write_submission(tmp_path / "x" / "recall.json", recall)
    assert size < 5_000_000 and json.loads((tmp_path / "x" / "recall.json").read_text()) == recall


def test_circos_file_has_fifty_distinct_numbers() -> None:
    found = metrics.circo_submission([0, 1], [list(range(60)), [3, 3, *range(100, 160)]])
    assert list(found) == ["0", "1"] and all(len(set(ids)) == len(ids) == 50 and isinstance(ids[0], int) for ids in found.values())  # type: ignore[arg-type,call-overload,index]
    with pytest.raises(InputError, match="exactly 50 distinct"):
        metrics.circo_submission([0], [[1, 2, 3]])


def test_what_the_server_would_refuse_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the server takes 5,000,000"):
        metrics.write_submission(tmp_path / "big.json", {str(i): "x" * 1000 for i in range(6_000)})
    assert not (tmp_path / "big.json").exists()
