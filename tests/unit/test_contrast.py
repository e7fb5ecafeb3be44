"""The arithmetic of comparing: laws that hold for any photos, and planted answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankclip import contrast
from rankclip.collection.classifying import alike, chosen_alpha, compared_classes
from rankclip.contrast import apart, calibration_error, compared_axis, fit_slope, probability, q_values, sentences, spreads, strongest, threshold, z_scores
from rankclip.heads.sides import read


def photos(count: int, width: int = 16, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_sign_is_that_of_the_score_difference_normalised_or_not() -> None:
    x, w = photos(20_000), photos(1, seed=1)[0]
    a, b = x[:10_000], x[10_000:]
    difference = a - b
    normalised = difference / np.linalg.norm(difference, axis=1, keepdims=True)
    sign = np.sign(a.astype(np.float64) @ w - b.astype(np.float64) @ w)
    safe = np.abs(difference @ w) > 1e-5
    assert safe.sum() > 9_900
    assert (np.sign(difference @ w) == sign)[safe].all() and (np.sign(normalised @ w) == sign)[safe].all()


def test_swapping_photos_flips_and_the_same_photo_gives_nothing() -> None:
    x, axes = photos(40), photos(12, seed=2)
    spread = spreads(x, axes)
    for one, other in zip(x[:20], x[20:], strict=True):
        assert np.allclose(z_scores(one, other, axes, spread), -z_scores(other, one, axes, spread), atol=1e-6)
        assert not z_scores(one, one, axes, spread).any()


def words(texts: list[str]) -> np.ndarray:
    """A bag of words as an embedding: order does not matter, as in many text towers."""
    rows = np.zeros((len(texts), 64), np.float32)
    for row, text in zip(rows, texts, strict=True):
        for word in text.lower().replace(",", "").replace(".", "").split():
            row[sum(word.encode()) % 64] += 1
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def test_an_axis_flips_with_its_ends() -> None:
    def compare(texts: list[str]) -> np.ndarray:
        return np.stack([words([text[:30]])[0] for text in texts])

    assert np.allclose(compared_axis("an old man", "a young man", compare), -compared_axis("a young man", "an old man", compare), atol=1e-6)
    assert sentences("indoors", "a cat") == [
        "The first photo is indoors, while the second shows a cat.",
        "The first photo shows a cat, while the second is indoors.",
    ]


def test_what_is_added_counts_as_much_as_the_plain_text() -> None:
    x, rows = photos(300), {"a cat": photos(1, seed=5)[0], "nothing": photos(1, seed=6)[0]}
    read = {"a cat": 7 * photos(1, seed=3)[0], "nothing": np.zeros(16, np.float32)}

    def embed(texts: list[str]) -> np.ndarray:
        return np.stack([rows.get(text, rows["a cat"]) for text in texts])

    found = contrast.added("a cat", embed, lambda texts: np.stack([read[text] for text in texts]), x)
    assert (x @ found).std() == pytest.approx((x @ rows["a cat"]).std(), rel=1e-3) and contrast.unit(found) @ contrast.unit(read["a cat"]) > 0.999
    plain = contrast.added("nothing", lambda texts: np.stack([rows["nothing"] for _ in texts]), lambda texts: np.stack([read[text] for text in texts]), x)
    assert np.allclose(plain, rows["nothing"], atol=1e-6), "where the head reads nothing the plain text is added"


def test_examples_of_two_cameras_do_not_turn_the_axis_to_the_camera() -> None:
    """Half of the photos are by a camera that shifts them by `tint`; the examples differ in what they show, and in the camera."""
    rng = np.random.default_rng(0)
    shown, tint, mean = np.eye(16)[:3]
    amount, by = rng.normal(size=400), rng.permutation(np.repeat([0.0, 1.0], 200))
    photos = (amount[:, None] * shown + 2 * by[:, None] * tint + 5 * mean + 0.1 * rng.normal(size=(400, 16))).astype(np.float32)
    nuisance = contrast.nuisances(photos, ["one" if one else "other" for one in by.tolist()])
    assert nuisance.shape == (2, 16) and np.allclose(nuisance @ nuisance.T, np.eye(2), atol=1e-5), "the mean, and one direction between two cameras"
    high, low = photos[by == 1][amount[by == 1].argmax()], photos[by == 0][amount[by == 0].argmin()]
    axis = contrast.turned(high, low, nuisance)
    assert abs(axis @ tint) < 0.3 < abs((high - low) @ tint) and np.corrcoef(photos @ axis, amount)[0, 1] > 0.95
    assert contrast.nuisances(photos[:10], ["one"] * 10).shape == (1, 16), "too few photos to tell what a camera does"


def test_spreads_are_those_of_random_pairs() -> None:
    x = np.stack([np.array([value, 0.0], np.float32) for value in np.linspace(-1, 1, 801)])
    assert spreads(x, np.array([[1.0, 0.0]], np.float32))[0] == pytest.approx(2 / np.sqrt(6), rel=0.05)  # of a triangular distribution


def test_the_threshold_is_what_similar_photos_reach() -> None:
    rng = np.random.default_rng(0)
    scene = photos(1, 32)[0]
    near = scene + 0.05 * rng.normal(size=(60, 32)).astype(np.float32)
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    axes, spread = photos(40, 32, seed=3), np.full(40, 0.25, np.float32)
    found = threshold(near, axes, spread)
    assert found is not None
    one, other = np.triu_indices(60, 1)
    largest = np.abs((near[one] - near[other]) @ (axes / spread[:, None]).T).max(axis=1)
    assert 0.93 < (largest <= found).mean() < 0.97
    assert threshold(photos(60, 32), axes, spread) is None, "nothing is similar there"


def test_one_a_group_strongest_first() -> None:
    z = np.array([3.0, -4.0, 2.0, 1.0, -2.5], np.float32)
    assert strongest(z, ["a", "a", "b", "c", "d"], 1.5, 5) == [1, 4, 2]
    assert strongest(z, ["a", "a", "b", "c", "d"], 1.5, 1) == [1] and strongest(z, ["a"] * 5, 5.0, 5) == []


@settings(deadline=None)
@given(st.floats(-20, 20), st.floats(0, 5))
def test_probabilities_of_both_orders_add_up(z: float, slope: float) -> None:
    assert probability(z, slope) + probability(-z, slope) == pytest.approx(1.0)


def test_the_slope_is_found_and_calibrated() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=6_000)
    truth = rng.random(6_000) < 1 / (1 + np.exp(-1.7 * z))
    slope = fit_slope(z[:3_000], truth[:3_000])
    assert slope == pytest.approx(1.7, abs=0.15)
    p = np.array([probability(value, slope) for value in z[3_000:]])
    assert calibration_error(p, truth[3_000:]) < 0.03 < calibration_error(np.clip(p * 1.6, 0, 1), truth[3_000:])


def test_what_sets_two_groups_apart_is_found_and_nothing_else() -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.normal(size=(300, 64)).astype(np.float32) for _ in range(2))
    a[:, :3] += 1.0
    found = apart(a, b, np.eye(64, dtype=np.float32))
    assert set(np.flatnonzero(found.q < 0.05).tolist()) >= {0, 1, 2} and (found.effect[:3] > 0.5).all()
    assert (found.q[3:] < 0.05).sum() <= 2
    same = apart(*(rng.normal(size=(300, 64)).astype(np.float32) for _ in range(2)), np.eye(64, dtype=np.float32))
    assert (same.q < 0.05).sum() <= 1


def test_q_values_by_hand() -> None:
    assert q_values(np.array([0.01, 0.04, 0.03, 0.5])).tolist() == pytest.approx([0.04, 0.0533333, 0.0533333, 0.5], abs=1e-6)


def test_the_quantile_is_numpys() -> None:
    values = np.random.default_rng(0).normal(size=101)
    assert all(contrast.quantile(values, q) == pytest.approx(float(np.quantile(values, q))) for q in (0.0, 0.05, 0.3, 0.95, 1.0))


# ---------------------------------------------------------------- classes


def test_three_classes_by_hand() -> None:
    classes = np.eye(3, dtype=np.float32)
    difference = np.array([[0.6, -0.8, 0.0]], np.float32)
    found = compared_classes(classes, [(0, 1)], difference, 0.9)
    wanted = 0.9 * classes[1] + 0.1 * (classes[0] - difference[0])
    assert np.allclose(found[1], wanted / np.linalg.norm(wanted), atol=1e-6)
    assert (found[[0, 2]] == classes[[0, 2]]).all(), "only the second class of a pair changes"
    assert (compared_classes(classes, [(0, 1)], difference, 1.0) == classes).all(), "alpha 1 is zero-shot exactly"
    both = compared_classes(classes, [(0, 1)], difference, 0.9, symmetric=True)
    assert np.allclose(both[1], found[1]) and not np.allclose(both[0], classes[0])


def test_confusable_classes_are_in_doubt_about_the_same_photos_and_near_in_name() -> None:
    classes = np.array([[1, 0, 0], [0.95, 0.312, 0], [0, 0, 1], [0, 0.5, 0.866]], np.float32)
    shares = np.array([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5], [0, 0, 0.6, 0.4], [0.1, 0, 0, 0.9]], np.float32)
    assert alike(classes, shares, 3) == [(0, 1), (2, 3)] and alike(classes, shares, 1) == [(0, 1)]
    assert alike(classes, shares[:, [0, 2, 1, 3]], 3) == [(1, 3), (0, 2)], "names that are near do not matter where no photo is in doubt"


def test_alpha_is_chosen_by_certainty() -> None:
    classes = np.eye(2, dtype=np.float32)
    rows = photos(50, 2)
    assert chosen_alpha(rows, lambda alpha: classes * alpha, 10.0, (1.0, 0.5)) == 1.0
    assert chosen_alpha(rows, lambda alpha: classes / alpha, 10.0, (1.0, 0.5)) == 0.5


# ---------------------------------------------------------------- reading sentences


@pytest.mark.parametrize(("text", "first", "second"), [
    ("The first photo shows a cat, while the second shows a dog.", ("a cat",), ("a dog",)),
    ("The first image contains a larger animal, while the second contains a smaller animal.", ("large animal", "big animal"), ("small animal", "small animal")),
    ("more dogs", ("many dogs",), ("few dogs",)),
    ("fewer dogs, brighter", ("few dogs", "bright"), ("many dogs", "dark")),
    ("without a car", (), ("car",)),
    ("with a hat", ("hat",), ()),
    ("the shirt is red instead of blue", ("red shirt",), ("blue shirt",)),
    ("the dog running rather than sleeping", ("dog running",), ("dog sleeping",)),
    ("indoors, not outdoors", ("indoors",), ("outdoors",)),
    ("a photo with a red car instead of a blue one", ("red car",), ("blue car",)),
    ("a photo with fewer people where the dog is running and not sleeping", ("few people", "dog running"), ("many people", "dog sleeping")),
    ("an older man", ("old man",), ("young man",)),
    ("more colourful", ("colourful",), ("dull",)),
    ("the brown cube became green", ("green cube",), ("brown cube",)),
    ("the red car is gone", (), ("red car",)),
    ("the people are no longer there", (), ("people",)),
    ("remove the text, add a hat", ("hat",), ("text",)),
    ("change the background to a beach", ("beach",), ("background",)),
    ("", (), ()),
    # what changed between two photos that are named
    ("there is a man in the before image that isn t in the after image", (), ("man",)),
    ("there is a man in the after picture that is not in the before picture", ("man",), ()),
    ("in the left image there are 2 people, in the right image there is a car", ("2 people",), ("car",)),
    ("the second picture is missing a man", ("man",), ()),
    ("there is a red car in photo 2", (), ("red car",)),
    ("the box is not in the after image", (), ("box",)),
    ("the person in the before photo is gone", (), ("person",)),
    ("the left image has 6 people and the right image has 2 people", ("6 people",), ("2 people",)),
    # what is gone, less or new
    ("the blue truck has disappeared", (), ("blue truck",)),
    ("the man isn't there anymore", (), ("man",)),
    ("there are two cars missing", (), ("two cars",)),
    ("there is no longer a bus", (), ("bus",)),
    ("the people on the stairs have left", (), ("people on the stairs",)),
    ("there is one less person", ("few person",), ("many person",)),
    ("there is a van that wasn t there before", ("van",), ()),
    ("the van is replaced by a bus", ("bus",), ("van",)),
    # orders to edit a photo
    ("Remove the dog Make the sky darker", ("dark sky",), ("dog", "bright sky")),
    ("brighten the whole image", ("bright",), ("dark",)),
    ("decrease the contrast", ("low contrast", "flat"), ("high contrast", "contrasty")),
    ("color her hair blue", ("blue hair",), ("hair",)),
    ("change the wall color from white to blue", ("blue wall",), ("white wall",)),
    ("replace the background with a green one", ("green background",), ("background",)),
    ("take the man out of the picture, add a hat to the dog", ("hat to the dog",), ("man",)),
    ("make the photo black and white and zoom in", ("black and white", "close-up"), ("photo", "wide shot")),
])  # fmt: skip
def test_the_two_sides_of_a_sentence(text: str, first: tuple[str, ...], second: tuple[str, ...]) -> None:
    found = read(text)
    assert tuple(part.removeprefix("a ") for part in found.first) == tuple(part.removeprefix("a ") for part in first), found
    assert tuple(part.removeprefix("a ") for part in found.second) == tuple(part.removeprefix("a ") for part in second), found


@pytest.mark.parametrize("said", ["a dog in the {} image", "in the {} picture there are more people", "the {} photo has a red car instead of a blue one"])
@pytest.mark.parametrize(("one", "other"), [("before", "after"), ("left", "right"), ("first", "second")])
def test_naming_the_other_photo_swaps_the_sides(said: str, one: str, other: str) -> None:
    assert read(said.format(one)) == read(said.format(other)).swapped() != read("")


def test_generated_sentences_are_read_as_they_were_meant() -> None:
    from tests.unit.test_generator import library

    from rankclip.training.generator import PairOptions, generate

    said = list(generate(library(), PairOptions(count=300, kinds=frozenset({"count", "attribute", "grade", "action", "scene"}))))
    assert len(said) > 100
    for told in said:
        back, wanted = read(told.sentence.reversed().text), read(told.sentence.text).swapped()
        assert (sorted(back.first), sorted(back.second)) == (sorted(wanted.first), sorted(wanted.second)), told.sentence.text
