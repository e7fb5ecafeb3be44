"""`finetune adapter` and `rank` by what it learnt, as a user runs them."""

import csv
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import Run, rankclip_command, subprocess_environment

from rankclip.collection import Collection, features
from rankclip.evaluation import ranking as metrics
from rankclip.heads import packs
from rankclip.heads.adapter import Adapter

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.filterwarnings("ignore::UserWarning")]
torch = pytest.importorskip("torch")
SMALL = (
    "--set",
    "epochs=3",
    "--set",
    "width=32",
    "--set",
    "steps_an_epoch=25",
    "--set",
    "batch=24",
    "--set",
    "warmup=5",
    "--set",
    "rate=3e-3",
    "--set",
    "average=0.8",
    "--set",
    "facts=false",
    "--set",
    "prompts=2",
    "--name",
    "redness",
    "--quiet",
)


@pytest.fixture
def labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sixty squares, redder and redder, and what to call them."""
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for number in range(60):
        pixels = np.empty((24, 24, 3), np.uint8)
        for quarter in range(4):  # other colours in every photo: else they would count as one photo
            pixels[:, quarter * 6 : quarter * 6 + 6] = rng.integers(0, 200, 3)
        pixels[: (number * 24) // 60] = (230, 10, 10)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
        rows.append((f"photos/{number:02}.png", number))
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "value"), *rows])
    return tmp_path


def finetune(run: Run, *more: str, data: str = "labels.csv") -> object:
    return run("finetune", "adapter", "--data", data, "--instruction", "sort by redness", "--unit", "points", *SMALL, *more)


def test_train_rank_and_rank_again(run: Run, labelled: Path) -> None:
    done = finetune(run)
    assert done.code == 0, done.err
    lines = done.lines
    assert lines[0].startswith("'sort by redness': 60 labelled photos, 0 to 59 points (")
    assert lines[1].startswith("sort-by-redness: SRCC ") and any(line.startswith("  ridge: SRCC") for line in lines)
    pack = packs.find("redness")
    assert set(pack.card.files) == {"head.onnx", "kernels.npz", "sort-by-redness.png"} and pack.card.space
    Image.open(pack.file("sort-by-redness.png")).verify()
    shutil.copytree(labelled / "photos", labelled / "fresh")
    first = run("rank", "fresh", "sort by redness", "--json", "--explain")
    hits = [json.loads(line) for line in first.lines]
    assert "head redness was trained on 'sort by redness'" in first.err
    assert len(hits) == 60 and all(hit["unit"] == "points" and hit["interval"][0] <= hit["value"] <= hit["interval"][1] for hit in hits)
    values = [int(Path(hit["path"]).stem) for hit in hits]
    assert np.corrcoef(values, range(60))[0, 1] < -0.5, "redder photos come first"
    assert run("rank", "fresh", "sort by redness, lowest first").lines[0] == hits[-1]["path"]
    environment = subprocess_environment()
    code = "import sys; from rankclip.cli.app import app; app(['rank', 'fresh', 'sort by redness'], standalone_mode=False); print([m for m in ('torch', 'onnxruntime') if m in sys.modules], file=sys.stderr)"
    again = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=labelled)
    assert again.stdout.splitlines() == [hit["path"] for hit in hits] and again.stderr.strip().endswith("[]"), "scores come from the cache"


def test_a_network_ranks_where_torch_is_broken(run: Run, labelled: Path) -> None:
    assert finetune(run, "--set", "kernel=false").code == 0
    adapter = Adapter(packs.find("redness"))
    assert adapter.reads_tokens and adapter.runs_network(adapter.tasks[0]) and set(adapter.pack.card.files) == {"head.onnx", "sort-by-redness.png"}
    (labelled / "broken/torch").mkdir(parents=True)
    (labelled / "broken/torch/__init__.py").write_text("raise ImportError('torch is broken here', name='torch')\n")
    environment = subprocess_environment()
    environment["PYTHONPATH"] = f"{labelled / 'broken'}:{environment['PYTHONPATH']}"
    done = subprocess.run(rankclip_command("rank", "photos", "sort by redness", "--json"), env=environment, capture_output=True, timeout=120)
    hits = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and len(hits) == 60 and all(hit["unit"] == "points" for hit in hits), done.stderr
    assert np.corrcoef([int(Path(hit["path"]).stem) for hit in hits], range(60))[0, 1] < -0.5, "redder photos come first"


def test_a_run_that_was_stopped_goes_on_to_the_same_result(run: Run, labelled: Path) -> None:
    assert finetune(run, "--run", "whole").code == 0
    from rankclip.training import adapter

    written, save = [], adapter.runs.save

    def stop_after_two(state: dict, path: Path) -> None:
        save(state, path)
        written.append(path)
        if len(written) == 2:
            raise KeyboardInterrupt

    adapter.runs.save = stop_after_two
    try:
        assert finetune(run, "--run", "halves").code == 130
    finally:
        adapter.runs.save = save
    assert finetune(run, "--run", "halves").code == 0
    states = [torch.load(f"{name}/last.pt", weights_only=True) for name in ("whole", "halves")]
    assert states[0]["epoch"] == states[1]["epoch"] == 3
    assert all(torch.equal(states[0]["averaged"][name], states[1]["averaged"][name]) for name in states[0]["averaged"])
    assert finetune(run, "--run", "halves", "--seed", "1").code == 2, "a run of other settings is not gone on with"


def test_a_baseline_can_be_the_head(run: Run, labelled: Path) -> None:
    assert finetune(run, "--baseline").code == 0
    assert packs.find("redness").file("head.onnx").stat().st_size < 10_000
    hits = [json.loads(line) for line in run("rank", "photos", "sort by redness", "--json").lines]
    assert hits[0]["method"] == "adapter" and int(Path(hits[0]["path"]).stem) > 50
    photo = Path("photos/cut.jpg")
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (300, 400, 3), dtype=np.uint8)).save(photo)
    photo.write_bytes(photo.read_bytes()[: photo.stat().st_size // 2])
    run("embed", "photos", "--allow-truncated")
    found = run("rank", "photos", "sort by redness", "--json")
    assert [hit["path"] for hit in map(json.loads, found.lines) if hit.get("truncated")] == ["photos/cut.jpg"]


@pytest.mark.parametrize("kind", [("--size", "lite"), ("--baseline",)], ids=["lite", "ridge"])
def test_a_small_head_needs_neither_token_states_nor_patch_tokens(run: Run, labelled: Path, monkeypatch: pytest.MonkeyPatch, kind: tuple[str, ...]) -> None:
    def wide(self: object, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        return np.ones((len(texts), 3, 5), np.float32), np.ones((len(texts), 3), bool)  # the embedding has 16

    monkeypatch.setattr("rankclip.engines.toy.ToyEngine.encode_text_states", wide, raising=False)
    assert finetune(run, *kind).code == 0
    monkeypatch.setenv("RANKCLIP_STORE", str(labelled / "plain"))
    run("embed", "photos", "--no-tokens")
    found = run("rank", "photos", "sort by redness", "--json")
    hits = [json.loads(line) for line in found.lines]
    assert "patch tokens" not in found.err and len(hits) == 60 and all(hit["unit"] == "points" for hit in hits)
    assert np.corrcoef([int(Path(hit["path"]).stem) for hit in hits], range(60))[0, 1] < -0.5, "redder photos come first"
    told = json.loads(run("diff", "photos/58.png", "photos/01.png", "--json").text)
    assert [one["text"] for one in told["attributes"] if one.get("unit") == "points"], "two photos are compared by it as well"


def teach_subject(photos: str, holds: str) -> None:
    """Put the probe "the photo holds a face" into the pack, as `examples/train_adapter` fits it: on embeddings, by whether a name begins with `holds`."""
    collection = Collection(photos, engine="toy")
    with collection.opened(scan=False) as (store, view, gallery):
        pooled = features.read(store, view, gallery.contents).pooled
        names = [Path(path).name for path in gallery.paths(np.arange(len(gallery.contents)))]
    weights, bias = metrics.ridge(pooled, np.array([1.0 if name.startswith(holds) else -1.0 for name in names]), 1e-6)
    pack = packs.find("redness")
    tasks = [{**task, "subject": [*weights.tolist(), bias]} for task in pack.card.config["tasks"]]
    files = {name: pack.file(name).read_bytes() for name in pack.card.files}
    packs.write(pack.folder, dataclasses.replace(pack.card, config={**pack.card.config, "tasks": tasks}), files)


def test_photos_without_a_face_come_last_and_are_marked(run: Run, labelled: Path) -> None:
    for number in range(8):
        Image.new("RGB", (24, 24), (20 + number, 20, 240)).save(labelled / "photos" / f"sea{number}.png")
    Image.new("RGB", (24, 24), (28, 20, 240)).save(labelled / "photos" / "blind.png")
    assert run("embed", "photos/blind.png", "--no-tokens").code == 0
    for photo in (labelled / "photos").glob("[0-9]*"):
        photo.rename(photo.with_name(f"face{photo.name}"))
    (labelled / "labels.csv").write_text((labelled / "labels.csv").read_text().replace("photos/", "photos/face"))
    assert run("finetune", "adapter", "--data", "labels.csv", "--instruction", "Sort the faces by age", "--unit", "years", *SMALL).code == 0
    run("embed", "photos")
    teach_subject("photos", "face")
    for instruction in ("older faces first", "younger faces first"):
        found = run("rank", "photos", instruction, "--json", "--explain")
        assert found.code == 0, found.err
        hits = [json.loads(line) for line in found.lines]
        names = [Path(hit["path"]).stem for hit in hits]
        assert [hit["applies"] for hit in hits] == [True] * 60 + [False] * 9 and names[-1] == "blind"
        assert all(name.startswith("face") for name in names[:60]) and all(name.startswith("sea") for name in names[60:68])
        assert all(hit["unit"] == "years" and "value" in hit for hit in hits[:68]) and "value" not in hits[68] and "interval" not in hits[68]
        assert "head redness was trained on 'Sort the faces by age'; 9 of 69 photos do not show its subject and come last" in found.err
        assert "1 photos have no patch tokens and come last" in found.err
        order = np.corrcoef([int(name[4:]) for name in names[:60]], range(60))[0, 1]
        assert order < -0.5 if instruction.startswith("older") else order > 0.5
    rows = [line for line in run("rank", "photos", "older faces first", "--format", "table", "--all").lines if ".png" in line]
    assert ["does not apply" in row for row in rows] == [False] * 60 + [True] * 9


def test_winners_and_losers(run: Run, labelled: Path) -> None:
    rng = np.random.default_rng(1)
    pairs = [sorted(rng.choice(60, 2, replace=False).tolist(), reverse=True) for _ in range(400)]
    rows = [{"winner": f"photos/{a:02}.png", "loser": f"photos/{b:02}.png"} for a, b in pairs]
    (labelled / "duels.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = finetune(run, data="duels.jsonl")
    assert done.code == 0, done.err
    share = float(done.lines[-1].split(": ")[1].split("%")[0])
    assert share > 60
    hit = json.loads(run("rank", "photos", "sort by redness", "--json").lines[0])
    assert "value" not in hit and hit["method"] == "adapter", "comparisons give an order, no unit"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,value\nphotos/00.png,3\nphotos/01.png,much\n", "labels.csv:3: 'much' is not a number"),
        ("path,value\nphotos/00.png,nan\n", "labels.csv:2: the value is nan"),
        ("path,value\nphotos/00.png\n", "labels.csv:2: 1 columns, 2 expected"),
        ("path,value\nphotos/nothere.png,3\n", "no photos|is not there|missing"),
        ("path,value\n" + "".join(f"photos/{n:02}.png,{n}\n" for n in range(5)), "5 labelled photos, at least 20"),
        ("path,value\n" + "".join(f"photos/{n:02}.png,7\n" for n in range(60)), "all 60 labels are 7"),
        ("", "no rows"),
    ],
)
def test_bad_labels_are_named(run: Run, labelled: Path, content: str, message: str) -> None:
    (labelled / "labels.csv").write_text(content)
    done = finetune(run)
    assert done.code in (2, 4)
    assert any(part in done.err for part in message.split("|")), done.err
    assert not packs.user_packs().exists()


def test_dry_run_trains_nothing(run: Run, labelled: Path) -> None:
    done = finetune(run, "--dry-run")
    assert done.code == 0 and "parameters, up to 3 epochs" in done.text
    assert not packs.user_packs().exists() and not os.path.exists("redness")


def test_unknown_settings_are_refused_at_once(run: Run, labelled: Path) -> None:
    done = finetune(run, "--set", "epoch=3")
    assert done.code == 2 and "unknown setting 'epoch'" in done.err
