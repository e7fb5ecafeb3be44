"""What is told of a difference: only what the photos visibly have, once, and of the right photo."""

import numpy as np
import pytest

from rankclip import contrast
from rankclip.collection.telling import OWN, SEEN, Looks, attributes, content, folder_statement, statement, tellable
from rankclip.instructions.lexicon import Antonyms
from rankclip.instructions.vocabulary import Contrast, scenes, sights, stated, vocabulary
from rankclip.instructions.vocabulary import contrast as contrast_of
from rankclip.training.sightings import needed

INDOORS = contrast_of(Antonyms("place", "either", "indoors", "outdoors", "indoors"))
OLDER = contrast_of(Antonyms("age", "adj", "old", "young", "age"))
MORE_DOGS = contrast_of(Antonyms("count", "noun", "dogs", "cats", "dogs"))


def looks(**seen: tuple[float, float]) -> Looks:
    """How visible phrases are in A and in B; `_` stands for a space."""
    rows = np.array(list(seen.values()), np.float32)
    return Looks({phrase.replace("_", " "): i for i, phrase in enumerate(seen)}, rows[:, 0], rows[:, 1])


@pytest.mark.parametrize(("one", "z", "seen", "text"), [
    (INDOORS, 3.0, looks(indoors=(3, 0), outdoors=(0, 3)), "A is indoors, B is outdoors"),
    (INDOORS, -3.0, looks(indoors=(0, 3), outdoors=(3, 0)), "A is outdoors, B is indoors"),
    (INDOORS, 3.0, looks(indoors=(3, 0), outdoors=(0, 1)), "A is indoors"),
    (INDOORS, 3.0, looks(indoors=(1, 0), outdoors=(0, 1)), ""),
    (INDOORS, -3.0, looks(indoors=(3, 0), outdoors=(0, 1)), "A is indoors"),
    (INDOORS, 3.0, looks(indoors=(3, 2), outdoors=(0, 1)), ""),
    (MORE_DOGS, 2.0, looks(dogs=(3, 0), cats=(0, 1)), "A shows more dogs"),
    (MORE_DOGS, -2.0, looks(dogs=(0, 1), cats=(3, 0)), "A shows more cats"),
    (OLDER, 4.0, looks(a_person=(2, 2), an_old_person=(4, 0), a_young_person=(0, 2)), "A is older"),
    (OLDER, 4.0, looks(a_person=(2, 2), an_old_person=(1, 0), a_young_person=(0, 3)), "B is younger"),
    (OLDER, 4.0, looks(a_person=(2, -1), an_old_person=(4, 0), a_young_person=(0, 2)), ""),
    (OLDER, 1.0, looks(a_person=(2, 2), an_old_person=(4, 0), a_young_person=(0, 2)), ""),
    (OLDER, -4.0, looks(a_person=(2, 2), an_old_person=(4, 0), a_young_person=(0, 2)), ""),
])  # fmt: skip
def test_only_what_is_seen_is_told(one: Contrast, z: float, seen: Looks, text: str) -> None:
    found = statement(one, z, seen, 1.5)
    assert found.text == text and (found.strength >= abs(found.z) / 2 + SEEN if text else found.strength == 0.0)
    assert not text or abs(found.z) >= 1.5


def test_swapping_the_photos_swaps_the_names() -> None:
    seen = looks(indoors=(3, 0), outdoors=(0, 3))
    swapped = Looks(seen.places, seen.b, seen.a)
    names = str.maketrans("AB", "BA")
    assert set(statement(INDOORS, 3.0, seen).text.translate(names).split(", ")) == set(statement(INDOORS, -3.0, swapped).text.split(", "))


def test_what_looks_like_everything_is_not_told() -> None:
    seen, needed = np.array([4.9, 4.5, 3.4, 2.6], np.float32), np.array([2.5, 5.0, 2.5, 2.5], np.float32)
    assert tellable(seen, needed).tolist() == [True, False, False, False], "a cat; no lion, which needs more; no rabbit, which is much less visible"
    assert tellable(seen[2:], needed[2:]).tolist() == [True, False] and not tellable(np.array([2.0], np.float32), np.zeros(1, np.float32)).any()
    places, b = {"a lion": 0, "a tiger": 1}, np.zeros(2, np.float32)
    lion = contrast_of(Antonyms("animals", "either", "of a lion", "of a tiger", "lion"))
    a = np.array([4.0, 1.0], np.float32)
    assert statement(lion, 0.0, Looks(places, a, b)).text == "A shows a lion"
    assert not statement(lion, 0.0, Looks(places, a, b, {"A": np.array([False, True]), "B": np.array([True, True])})).text


def test_captions_say_how_visible_a_phrase_must_be() -> None:
    rng = np.random.default_rng(0)
    seen = np.abs(rng.normal(3.0, 0.5, (400, 3))).astype(np.float32)
    dogs = rng.random(400) < 0.5
    captions = [["two dogs running", "a dog", "dogs"] if dog else ["a man", "a man cooks", "he cooks lunch"] for dog in dogs]
    found = needed(seen, ["a dog", "at midday", "cooking"], captions)
    assert found[0] == found[2] == 2.5 and found[1] >= 3.5, "midday is never said"
    assert (needed(seen, ["a dog", "at midday", "cooking"], [["a dog"]] * 400) == 2.5).all(), "one caption a photo says too little"


def test_ones_own_attributes_are_told_whatever_is_seen() -> None:
    own = contrast_of(Antonyms(OWN, "adj", "spicy", "mild", "spicy"))
    assert statement(own, 2.0, looks(x=(0, 0))).text == "A is spicier" and statement(own, -2.0, looks(x=(0, 0))).text == "B is spicier"


def test_one_a_group_and_nothing_twice() -> None:
    boat = contrast_of(Antonyms("things", "either", "of a boat", "of a bus", "boat"))
    boats = contrast_of(Antonyms("count", "noun", "boats", "cars", "boats"))
    train = contrast_of(Antonyms("things", "either", "of a train", "of an airplane", "train"))
    seen = looks(a_boat=(4, 0), boats=(3, 0), a_train=(3, 0), indoors=(3, 2))
    found = attributes([boat, boats, train, INDOORS], np.zeros(4, np.float32), seen, least=1.5, count=5)
    assert [one.text for one in found] == ["A shows a boat"], "boats say it again, the train is of the same group, indoors is both"
    assert found[0].more == "A" and found[0].z == pytest.approx(4 / 2**0.5, abs=1e-3)
    (cats,) = attributes([MORE_DOGS], np.zeros(1, np.float32), looks(dogs=(0, 1), cats=(3, 0)), least=1.5, count=5)
    assert (cats.name, cats.more, cats.z, cats.text) == ("cats", "A", pytest.approx(3 / 2**0.5, abs=1e-3), "A shows more cats"), "named after what is told"
    assert content("A shows boats, B shows a bus") == {"boat", "bu"}


def test_folders_are_told_of_by_how_often() -> None:
    shares = looks(indoors=(0.9, 0.1), outdoors=(0.0, 0.5), dogs=(0.0, 0.2), cats=(0.0, 0.0))
    assert folder_statement(INDOORS, 1.0, shares).text == "A more often is indoors, B more often is outdoors"
    assert folder_statement(INDOORS, -1.0, shares).text == "", "the axis says the contrary of what is seen"
    one = folder_statement(INDOORS, 1.0, looks(indoors=(0.9, 0.1), outdoors=(0.03, 0.04)))
    assert (one.text, one.side, one.phrase) == ("A more often is indoors", "A", "indoors") and one.strength == pytest.approx(0.8)
    assert folder_statement(MORE_DOGS, -1.0, shares).text == "B shows more dogs"
    own = contrast_of(Antonyms(OWN, "adj", "spicy", "mild", "spicy"))
    assert folder_statement(own, -1.0, shares).text == "B is spicier"


def test_what_is_seen_is_measured_against_what_is_usual() -> None:
    rng = np.random.default_rng(0)
    photos, phrases = (contrast.unit(rng.normal(size=(count, 16)).astype(np.float32)) for count in (200, 5))
    seen = contrast.sights(phrases, photos).seen(photos)
    assert seen.shape == (200, 5) and np.allclose(seen.mean(axis=0), 0, atol=1e-4) and np.allclose(seen.std(axis=0), 1, atol=1e-4)


def test_captions_are_proposed_by_the_photos_that_are_nearest() -> None:
    phrases = np.eye(4, dtype=np.float32)
    photos = phrases[[2, 2, 2, 0, 0, 3]]
    assert contrast.nearest(phrases, photos, 9) == [2, 0, 3] and contrast.nearest(phrases, photos, 1) == [2]


def test_the_vocabulary_says_what_it_means() -> None:
    found = vocabulary()
    assert len(found) >= 300 and len({one.group for one in found}) >= 15
    assert len({one.name for one in found}) == len(found) and len({(one.first, one.last) for one in found}) == len(found)
    assert all(one.more and one.less and one.first != one.last and not one.first.startswith("of ") for one in found)
    assert {one.subject for one in found} == {"", "a person", "an animal"}
    assert set(sights(found)) >= {"a person", "an animal", "indoors", "a dog"} and len(scenes()) >= 100
    assert stated("of a dog") == "shows a dog" and stated("running") == "shows somebody running" and stated("in winter") == "was taken in winter"
