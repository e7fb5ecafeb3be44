"""The bundled model on real photos: sample pictures of the packages that the demo uses, in the order a sentence asks for."""

import json
import os
import sqlite3
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import Result, Run, rankclip_command, subprocess_environment

from rankclip.backbones import specs
from rankclip.registry import ENGINES, resolve
from rankclip.settings import DEFAULT_MODEL, Settings

MODEL_BYTES = 40_000_000


def process(environment: dict[str, str], *words: str) -> Result:
    found = subprocess.run(rankclip_command(*words), capture_output=True, env=environment, timeout=120)
    return Result(found.returncode, found.stdout, found.stderr.decode())


def test_the_card_says_what_the_files_hold() -> None:
    mini = specs.find(DEFAULT_MODEL)
    assert (mini.width, mini.context, mini.licence) == (384, 77, "CC BY-NC 4.0")
    assert mini.patches <= 49 and mini.token_width <= 192 and mini.null[1] > 0
    assert mini.folder is not None
    assert sum(path.stat().st_size for path in mini.folder.iterdir()) <= MODEL_BYTES
    assert {path.name for path in mini.folder.iterdir()} == {"card.json", "image.onnx", "inference.onnx", "text.onnx"}


def test_inner_stages_are_given_beside_what_the_graph_gave_before(tmp_path: Path) -> None:
    """inference.onnx is quicker and has an output more; embedding and tokens are those of image.onnx, to the bit, and so stores and heads stay right."""
    from rankclip.engines.onnx_engine import OnnxEngine

    mini, settings = specs.find(DEFAULT_MODEL), Settings(threads=1)
    assert mini.folder is not None
    (tmp_path / "image.onnx").symlink_to(mini.folder / "image.onnx")
    pixels = np.random.default_rng(3).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    alone, found = OnnxEngine(replace(mini, folder=tmp_path), settings).encode_images(pixels), OnnxEngine(mini, settings).encode_images(pixels)
    assert alone.stages is None and found.stages is not None and found.stages.shape == (3, 88 + 120 + 208)
    assert alone.tokens is not None and found.tokens is not None
    assert np.array_equal(alone.pooled, found.pooled) and np.array_equal(alone.tokens, found.tokens)
    assert np.isfinite(found.stages).all() and np.abs(found.stages[0] - found.stages[1]).max() > 0.01


NAMED = [
    ("a cat", "cat"),
    ("a cup of coffee", "coffee"),
    ("a rocket", "rocket"),
    ("a motorcycle", "motorcycle"),
    ("a flower", "flower"),
    ("a page of text", "page"),
]


@pytest.mark.parametrize(("instruction", "right"), NAMED)
def test_what_a_sentence_names_comes_first(run: Run, pictures: Path, instruction: str, right: str) -> None:
    found = run("rank", "photos", instruction, "--top", "3", "--method", "similarity")
    assert found.code == 0, found.err
    assert right in Path(found.lines[0]).name, found.lines


def test_older_faces_come_first_and_what_shows_no_face_last(run: Run, pictures: Path) -> None:
    found = run("rank", "photos", "older faces first", "--json")
    assert found.code == 0, found.err
    hits = [json.loads(line) for line in found.lines]
    shown = [Path(hit["path"]).stem for hit in hits if hit["applies"]]
    assert shown[0] == "grace_hopper" and set(shown[1:]) == {"astronaut", "astronaut_darker"}, "a darker copy shows nobody else"
    assert [Path(hit["path"]).stem for hit in hits][: len(shown)] == shown and hits[0]["unit"] == "years"


@pytest.mark.parametrize(("said", "plainly"), [("top 3 darkest photos", "darkest photos first"), ("photos that are not dark", "brightest photos first"),
                                               ("older faces 1st", "older faces first")])  # fmt: skip
def test_a_head_answers_however_it_is_asked(run: Run, pictures: Path, said: str, plainly: str) -> None:
    one, other = ([{**json.loads(line), "instruction": ""} for line in run("rank", "photos", text, "--json").lines] for text in (said, plainly))
    assert one == other and {hit["method"] for hit in one} == {"adapter"}


def test_other_languages_are_not_ordered_in_silence(run: Run, pictures: Path) -> None:
    for text, language in (("von alt nach jung", "German"), ("du plus vieux au plus jeune", "French"), ("от старых к молодым", "Cyrillic")):
        found = run("rank", "photos", text, "--explain")
        assert found.code == 0 and "taken as a plain sentence" in found.err
        assert f"seems to be {language}, and rankclip-mini reads English only" in found.err
    assert "reads English" not in run("rank", "photos", "from old to young").err


def test_what_is_not_asked_about_comes_last(run: Run, pictures: Path) -> None:
    hits = [json.loads(line) for line in run("rank", "photos", "sharpest photos of the cat first", "--json").lines]
    shown = [Path(hit["path"]).stem for hit in hits if hit["applies"]]
    assert {name for name in shown if name.startswith("cat")} == {"cat", "cat_blurred", "cat_cropped", "cat_darker", "cat_noisy"}
    assert len(shown) <= 8 < len(hits) and [Path(hit["path"]).stem for hit in hits][: len(shown)] == shown
    assert shown.index("cat") < shown.index("cat_blurred")
    assert all(abs(hit["score"]) < 2 for hit in hits), "the score itself is not touched"
    last = [json.loads(line) for line in run("rank", "photos", "sharpest photos of the cat first", "--json", "--bottom", "3").lines]
    assert [hit["path"] for hit in last] == [hit["path"] for hit in hits[-3:]] and not any(hit["applies"] for hit in last)
    people = run("rank", "photos", "sharpest photos of people first", "--json")
    assert all(json.loads(line).get("applies") is not False for line in people.lines), "people are not told apart"
    told = run("rank", "photos", "sharpest photos of the cat first", "--explain").err
    assert "photos do not show its subject and come last" in told


def test_from_dark_to_bright(run: Run, pictures: Path) -> None:
    names = [Path(line).stem for line in run("rank", "photos", "from dark to bright").lines]
    for photo in ("astronaut", "cat", "palace", "flower"):
        assert names.index(f"{photo}_darker") < names.index(photo), names


def test_turned_by_exif_or_upright_makes_no_difference(run: Run, pictures: Path) -> None:
    hits = [json.loads(line) for line in run("rank", "photos", "a person", "--json", "--method", "similarity").lines]
    cosines = {Path(hit["path"]).stem: hit["cosine"] for hit in hits}
    turned = [name for name in cosines if name.endswith("_turned")]
    assert turned
    assert all(abs(cosines[name] - cosines[name.removesuffix("_turned")]) < 0.02 for name in turned)


def test_an_embedding_does_not_depend_on_its_neighbours(run: Run, pictures: Path, tmp_path: Path) -> None:
    def stored(folder: Path) -> dict[str, bytes]:
        catalogue = sqlite3.connect(folder / "catalogue.sqlite3")
        names = {content: name for name, content in catalogue.execute("SELECT name, content FROM file")}
        catalogue.close()
        space = next((folder / "spaces").iterdir())
        rows, master = np.fromfile(space / "rows.i64", np.int64), np.fromfile(space / "pooled.f16", np.float16).reshape(-1, 384)
        return {names[content]: row.tobytes() for content, row in zip(rows.tolist(), master, strict=True)}

    assert run("embed", "photos", "--store", "one").code == 0
    few = sorted(pictures.iterdir())[3:8]
    assert run("embed", *map(str, few), "--store", "two").code == 0
    all_of_them, some = stored(tmp_path / "one"), stored(tmp_path / "two")
    assert len(some) == 5 and all(all_of_them[name] == row for name, row in some.items()), "bit-equal in every batch"


def test_a_batch_of_any_size_gives_the_same_rows() -> None:
    backbone = specs.find(DEFAULT_MODEL)
    engine = resolve(ENGINES, backbone.image_engine, what="engine")(backbone, Settings())
    pixels = np.random.default_rng(0).integers(0, 256, (19, backbone.input.size, backbone.input.size, 3), np.uint8)
    whole = engine.encode_images(pixels)
    assert whole.pooled.shape == (19, 384) and whole.tokens.shape[0] == 19
    for some in (slice(0, 1), slice(3, 12), slice(17, 19)):
        part = engine.encode_images(pixels[some])
        assert np.array_equal(part.pooled, whole.pooled[some]) and np.array_equal(part.tokens, whole.tokens[some])


def test_it_works_where_torch_is_broken(run: Run, pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    for name in ("torch", "torchvision", "open_clip"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"raise ImportError('{name} is broken here', name='{name}')\n")
    environment = subprocess_environment()
    environment["PYTHONPATH"] = f"{folder}:{environment['PYTHONPATH']}"
    assert process(environment, "embed", "photos").code == 0
    found = process(environment, "rank", "photos", "a cat", "--top", "1")
    assert found.code == 0 and "cat" in found.text, found.err
    cat, *others = (f"photos/{name}" for name in sorted(os.listdir("photos"), key=lambda name: ("cat" not in name, name)))
    composed = process(environment, "compose-search", "photos", cat, "the same but at night", "--top", "3")
    assert composed.code == 0 and len(composed.lines) == 3 and cat not in composed.lines, composed.err
    compared = process(environment, "diff", cat, others[-1])
    assert compared.code == 0 and compared.text, compared.err
    needs = process(environment, "finetune", "adapter", "--data", "labels.csv", "--instruction", "sort by age")
    assert needs.code == 6 and "python -m pip install torch open_clip_torch" in needs.err


def test_model_info(run: Run, pictures: Path) -> None:
    lines = dict(line.split(maxsplit=1) for line in run("models", "info").lines if not line.startswith("patch"))
    assert lines["name"] == DEFAULT_MODEL and lines["embedding"] == "384" and len(lines["space"]) == 16
