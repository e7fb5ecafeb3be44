"""The bundled composer on the demo's photos: what asks for no change is image search, what asks for one leads away from the reference."""

from pathlib import Path

import numpy as np
import pytest

from rankclip import Collection

NEUTRAL = ("", "the same", "exactly the same photo", "more like this", "no change")


@pytest.fixture
def demo(pictures: Path) -> Collection:
    """The demo's photos, embedded by the bundled model."""
    found = Collection("photos", store="store")
    found.embed()
    return found


def stored(collection: Collection) -> dict[str, np.ndarray]:
    """The embedding of each photo, as the store has it."""
    with collection.opened(scan=False) as (_, view, gallery):
        names = [Path(path).name for path in gallery.paths(np.arange(len(gallery.contents)))]
        return dict(zip(names, view.read_embeddings(view.rows_of(gallery.contents)), strict=True))


def test_no_change_is_image_search(demo: Collection) -> None:
    embeddings = stored(demo)
    for reference in ("cat.jpg", "moon.jpg", "grace_hopper.jpg"):
        cosines = {name: float(one @ embeddings[reference]) for name, one in embeddings.items()}
        for text in NEUTRAL:
            found = demo.compose_search(f"photos/{reference}", text)
            names = [Path(path).name for path in found.paths]
            assert found.method == "head" and reference not in names and len(names) > 20, "the reference and its near-duplicates are left out"
            assert names == sorted(names, key=lambda name: -cosines[name]), (reference, text)
            assert all(cosines[name] > 0.97 for name in set(embeddings) - set(names)), "nothing else is left out"


@pytest.mark.parametrize(("reference", "text", "first"), [
    ("cat.jpg", "a cup of coffee", "coffee"),
    ("grace_hopper.jpg", "in an orange suit", "astronaut"),
    ("coffee.jpg", "a cat instead", "cat"),
    ("astronaut.jpg", "replace the woman with a flower", "flower"),
])  # fmt: skip
def test_another_subject_comes_before_the_reference_itself(demo: Collection, reference: str, text: str, first: str) -> None:
    names = [Path(path).name for path in demo.compose_search(f"photos/{reference}", text, with_reference=True).paths]
    assert first in names[0], names[:4]


def test_what_names_nothing_is_no_matter_for_the_head(demo: Collection) -> None:
    for text in ("darker", "without a person"):
        alone = demo.compose_search("photos/palace.jpg", text)
        assert alone.method == "head" and alone.paths == demo.compose_search("photos/palace.jpg", text, composer="slerp").paths, text
    assert Path(demo.compose_search("photos/astronaut.jpg", "darker").paths[0]).name == "astronaut_darker.jpg"
    named, both = (demo.compose_search("photos/astronaut.jpg", "a coffee cup", ands=some) for some in ((), ["without the cup"]))
    assert (named.meaning, both.meaning) == ("cosine", "match") and named.paths != both.paths
