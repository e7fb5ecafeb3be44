"""The bundled composer on the demo's photos: what asks for no change is image search, what asks for one leads away from the reference."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import subprocess_environment

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


def test_the_bundled_head_needs_no_torch(demo: Collection) -> None:
    code = ("import sys\nfrom rankclip import Collection\nfound = Collection('photos', store='store').compose_search('photos/cat.jpg', 'with a red ball')\n"
            "print(found.method, found.explanation.head, 'onnxruntime' in sys.modules, {'torch', 'open_clip', 'transformers'} & set(sys.modules))\n")  # fmt: skip
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=subprocess_environment(), timeout=60)
    assert found.stdout == "head composer-mini True set()\n", found.stderr


def test_what_names_nothing_is_no_matter_for_the_head(demo: Collection) -> None:
    for text in ("darker", "without a person"):
        alone = demo.compose_search("photos/palace.jpg", text)
        assert alone.method == "head" and alone.paths == demo.compose_search("photos/palace.jpg", text, composer="slerp").paths, text
    assert Path(demo.compose_search("photos/astronaut.jpg", "darker").paths[0]).name == "astronaut_darker.jpg"
    named, both = (demo.compose_search("photos/astronaut.jpg", "a coffee cup", ands=some) for some in ((), ["without the cup"]))
    assert (named.meaning, both.meaning) == ("cosine", "match") and named.paths != both.paths


@pytest.mark.parametrize(("reference", "text", "unwanted"), [
    ("cat.jpg", "a portrait, without a cat", "cat"),
    ("coffee.jpg", "a portrait, without a cat", "cat"),
    ("astronaut.jpg", "on a table, without a cup", "coffee"),
    ("coffee.jpg", "an animal and no cat", "cat"),
])  # fmt: skip
def test_what_is_to_be_left_out_does_not_lead_there(demo: Collection, reference: str, text: str, unwanted: str) -> None:
    found = demo.compose_search(f"photos/{reference}", text)
    assert found.method == "head" and found.meaning == "match" and not [path for path in found.paths[:2] if unwanted in path], found.paths[:4]
    assert found.explanation is not None and any("forbidden" in one for one in found.explanation.texts)
