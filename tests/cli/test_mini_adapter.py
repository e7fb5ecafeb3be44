"""The shipped adapter: which instructions reach it, without torch, and large photos above their blurred copies."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from tests.conftest import Run, rankclip_command, subprocess_environment

from rankclip.backbones import specs
from rankclip.collection import Collection
from rankclip.heads import packs
from rankclip.heads.adapter import Adapter, Match
from rankclip.instructions import parse
from rankclip.photos import samples
from rankclip.settings import DEFAULT_MODEL, Settings
from rankclip.store.store import Store

BY_HAND = Path(__file__).parents[2] / "examples/train_adapter/instructions.tsv"
WRONG = 0.03  # of the half that nobody looked at while the words were collected


@pytest.fixture
def folder(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RANKCLIP_MODEL", DEFAULT_MODEL)
    monkeypatch.setenv("RANKCLIP_ENGINE", "auto")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written_by_hand(adapter: Adapter) -> list[tuple[str, str]]:
    """Text and answer. Nobody answers for a thing that the pack does not count."""
    lines = [line.split("\t") for line in BY_HAND.read_text().splitlines() if line and not line.startswith("#")]
    return [(text, answer if answer[:-1] != "count" or counted(adapter, text) else "") for text, answer in lines]


COUNTS = "number-of-"


def counted(adapter: Adapter, text: str) -> bool:
    """Whether a text names a thing that the pack counts."""
    return any(task.name.removeprefix(COUNTS).replace("-", " ") in text for task in adapter.tasks if task.name.startswith(COUNTS))


def test_instructions_written_by_hand_reach_the_right_task(run: Run, folder: Path) -> None:
    Image.new("RGB", (64, 48), (200, 30, 30)).save(folder / "red.png")
    assert run("embed", "red.png", "--store", "here").code == 0
    adapter = Adapter(packs.find("mini-ranking"))
    rows = written_by_hand(adapter)
    unseen = rows[1::2]
    assert len(rows) >= 400 and sum(bool(answer) for _, answer in unseen) >= 60 and sum(not answer for _, answer in unseen) >= 60
    embed = Collection("red.png", settings=Settings(model=DEFAULT_MODEL, store="here")).embed_texts

    def said(match: Match | None) -> str:
        name = "" if match is None else "count" if match.task.name.startswith(COUNTS) else match.task.name
        return "" if match is None else f"{name}{'-' if match.ascending else '+'}"

    wrong = sum(said(adapter.match(parse(text), embed)) != answer for text, answer in unseen)
    assert wrong <= WRONG * len(unseen), f"{wrong} of {len(unseen)}"


def test_counting_is_asked_of_the_thing_that_was_counted() -> None:
    adapter = Adapter(packs.find("mini-ranking"))
    for text, name, ascending in (
        ("most people first", "people", False),
        ("fewest cars first", "cars", True),
        ("sort by number of playing cards", "playing-cards", False),
    ):
        match = adapter.match(parse(text), no_texts)
        assert match is not None and match.task.name == COUNTS + name and match.ascending is ascending, text
    assert sum(task.name.startswith(COUNTS) for task in adapter.tasks) == 12
    assert not any(adapter.runs_network(task) for task in adapter.tasks) and not adapter.reads_tokens, "no network, no patch tokens"


def no_texts(texts: list[str]) -> np.ndarray:
    raise AssertionError(f"{texts} need not be embedded")


def test_it_needs_no_patch_tokens(run: Run, folder: Path) -> None:
    samples.make_demo(folder / "photos")
    assert run("embed", "photos", "--no-tokens").code == 0
    for text in ("older faces first", "sharpest photos first", "most people first"):
        done = run("rank", "photos", text, "--json", "--explain")
        hits = [json.loads(line) for line in done.lines]
        assert done.code == 0 and len(hits) > 20 and all("interval" in hit for hit in hits) and "head mini-ranking" in done.err, done.err


def test_it_ranks_where_torch_is_broken(folder: Path) -> None:
    samples.make_demo(folder / "photos")
    for name in ("torch", "torchvision", "open_clip"):
        (folder / "broken" / name).mkdir(parents=True)
        (folder / "broken" / name / "__init__.py").write_text(f"raise ImportError('{name} is broken here', name='{name}')\n")
    environment = subprocess_environment()
    environment["PYTHONPATH"] = f"{folder / 'broken'}:{environment['PYTHONPATH']}"
    done = subprocess.run(rankclip_command("rank", "photos", "older faces first", "--json", "--top", "2"), env=environment, capture_output=True, timeout=120)
    hits = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and [hit["unit"] for hit in hits] == ["years", "years"], done.stderr


def test_large_photos_rank_above_their_blurred_copies(run: Run, folder: Path) -> None:
    samples.make_demo(folder / "small")
    (folder / "large").mkdir()
    for name in ("cat", "coffee", "motorcycle"):
        image = Image.open(next((folder / "small").glob(f"{name}.*"))).convert("RGB").resize((4000, 3000), Image.Resampling.BICUBIC)
        original = grainy(image, 7)
        original.save(folder / f"large/{name}_original.jpg", quality=90)
        original.filter(ImageFilter.GaussianBlur(6)).save(folder / f"large/{name}_blurred.jpg", quality=90)
    done = run("rank", "large", "technically best photos first")
    assert done.code == 0, done.err
    place = {Path(line).stem: number for number, line in enumerate(done.lines)}
    for name in ("cat", "coffee", "motorcycle"):
        assert place[f"{name}_original"] < place[f"{name}_blurred"], done.lines


def grainy(image: Image.Image, strength: float) -> Image.Image:
    grain = np.random.default_rng(0).standard_normal((image.height, image.width, 1), np.float32) * strength
    return Image.fromarray(np.clip(np.asarray(image, np.float32) + grain, 0, 255).astype(np.uint8))


def test_quality_is_read_from_inner_stages_too(run: Run, pictures: Path, tmp_path: Path) -> None:
    """They are stored with every photo; without them a head still answers, but not the same."""
    asked = ("rank", "photos", "Rank the technical quality of the photos", "--json")
    before = {one["path"]: one["value"] for one in map(json.loads, run(*asked).lines)}
    with Store.open(tmp_path / "store", write=True) as store:
        view = store.view(specs.find(DEFAULT_MODEL).space)
        stages = view.read_stages(view.contents)
        assert stages.shape == (view.rows, 88 + 120 + 208) and np.isfinite(stages).all()
        store.catalogue.connection.execute("DELETE FROM stage")
    shutil.rmtree(tmp_path / "store/scores")
    after = {one["path"]: one["value"] for one in map(json.loads, run(*asked).lines)}
    assert set(after) == set(before) and max(abs(after[path] - before[path]) for path in before) > 1
