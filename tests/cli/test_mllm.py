"""A multimodal language model from the command line: embed, compose-search in its own space and as a second judge, evaluate, finetune, bad input."""

from __future__ import annotations

import json
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests import mllm_models, mllm_world
from tests.conftest import Run, rankclip_command, square, subprocess_environment
from tests.hub import hub

from rankclip.backbones import specs
from rankclip.collection import Collection, multimodal
from rankclip.engines.mllm_engine import MllmEngine
from rankclip.errors import Interrupted, RuntimeMissing
from rankclip.photos.decode import DecodeOptions, decode
from rankclip.scoring import Order
from rankclip.settings import Settings
from rankclip.store.store import Store
from rankclip.training.composer_writer import Endpoint
from rankclip.training.writer import Answer
from rankclip.types import Silent

SHADES = {"red": (220, 30, 30), "darkred": (110, 15, 15), "green": (40, 160, 50), "blue": (30, 60, 210), "black": (8, 8, 8), "white": (248, 248, 248)}


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mllm_models.llava(tmp_path_factory.mktemp("models") / "tiny-llava")


@pytest.fixture
def shades(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RANKCLIP_PRECISION", "fp32")
    monkeypatch.setenv("RANKCLIP_THREADS", "1")
    for name, colour in SHADES.items():
        square(tmp_path / "photos" / f"{name}.png", colour)
    return tmp_path / "photos"


@pytest.fixture
def auto(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line without the toy engine that `run` asks for."""
    monkeypatch.setenv("RANKCLIP_ENGINE", "auto")
    monkeypatch.setenv("RANKCLIP_MODEL", "toy")
    return run


def engine_of(folder: Path) -> MllmEngine:
    return MllmEngine(specs.find(f"mllm:{folder}"), Settings(precision="fp32", threads=1))


def names(lines: list[str]) -> list[str]:
    return [Path(line).stem for line in lines]


def test_mllm_embeds_into_a_space_of_its_own_and_only_what_is_new(auto: Run, shades: Path, llava: Path, tmp_path: Path) -> None:
    assert auto("embed", "photos").code == 0
    first = auto("embed", "photos", "--model", f"mllm:{llava}")
    assert first.code == 0 and "6 new" in first.err and "mllm, cpu, fp32" in first.err
    square(shades / "pink.png", (250, 150, 190))
    again = auto("embed", "photos", "--model", "mllm:tiny-llava", "--batch-size", "2")
    assert "1 new, 6 unchanged" in again.err, "the folder's name is enough once it was used"
    engine = engine_of(llava)
    with Store.open(tmp_path / "store") as store:
        view = store.view(engine.backbone.space)
        spaces = {space.backbone for space in store.catalogue.spaces()}
        content = store.catalogue.files_in(str(shades))["pink.png"].content
        stored = view.read_embeddings(view.rows_of(np.array([content])))[0]
    pixels = decode(str(shades / "pink.png"), DecodeOptions(engine.backbone.input)).pixels
    assert pixels is not None and spaces == {"toy", "mllm:tiny-llava"} and view.rows == 7
    assert np.abs(stored - engine.embed(pixels, None)).max() < 5e-4, "float16 in the store"


def test_mllm_gives_the_same_vector_from_the_store_and_fresh(auto: Run, shades: Path, tmp_path: Path) -> None:
    engine = engine_of(mllm_models.llava(tmp_path / "wide", width=256))  # of 1/16 each: float16 is then exact to 3e-5
    assert auto("embed", "photos", "--model", f"mllm:{tmp_path / 'wide'}").code == 0
    with Store.open(tmp_path / "store") as store:
        view, files = store.view(engine.backbone.space), store.catalogue.files_in(str(shades))
        assert len(files) == 6
        for name, file in files.items():
            pixels = decode(str(shades / name), DecodeOptions(engine.backbone.input)).pixels
            stored = view.read_embeddings(view.rows_of(np.array([file.content])))[0]
            assert np.abs(stored - engine.embed(pixels, None)).max() < 1e-4


def test_mllm_composes_in_its_own_space(auto: Run, shades: Path, llava: Path) -> None:
    model = f"mllm:{llava}"
    found = auto("compose-search", "photos", "photos/red.png", "make it blue", "--model", model, "--with-reference", "--json")
    rows = [json.loads(line) for line in found.lines]
    assert found.code == 0 and len(rows) == 6 and rows[0]["method"] == "mllm"
    engine = engine_of(llava)
    pixels = {name: decode(str(shades / f"{name}.png"), DecodeOptions(engine.backbone.input)).pixels for name in SHADES}
    query = engine.embed(pixels["red"], "make it blue")
    for row in rows:
        assert abs(row["score"] - float(engine.embed(pixels[Path(row["path"]).stem], None) @ query)) < 1e-3
    named = auto("compose-search", "photos", "photos/red.png", "make it blue", "--composer", model, "--with-reference", "--json")
    assert [json.loads(line)["path"] for line in named.lines] == [row["path"] for row in rows], "the light model's search goes over to the space that is there"
    assert names(auto("compose-search", "photos", "photos/red.png", "the same", "--model", model, "--with-reference").lines)[0] == "red"


def test_mllm_reads_a_photo_once_for_all_instructions(auto: Run, shades: Path, llava: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["make it blue", "make it green, the same but darker", "the same", "white instead of red"]
    single = [names(auto("compose-search", "photos", "photos/red.png", text, "--model", f"mllm:{llava}").lines) for text in texts]
    calls: list[int] = []
    real = MllmEngine.encode_changes
    monkeypatch.setattr(MllmEngine, "encode_changes", lambda self, pixels, some: calls.append(len(some)) or real(self, pixels, some))
    found = auto("compose-search", "photos", "photos/red.png", "--instructions", "-", "--model", f"mllm:{llava}", stdin="\n".join(texts).encode())
    rows = [json.loads(line) for line in found.lines]
    assert calls == [3], "one call for all that ask for a change"
    assert [[Path(row["path"]).stem for row in rows if row["instruction"] == text] for text in texts] == single


def test_mllm_judges_the_first_photos_again_where_its_space_is_absent(
    auto: Run, shades: Path, llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    light = names(auto("compose-search", "photos", "photos/red.png", "blue instead of red").lines)
    monkeypatch.setattr(multimodal, "JUDGED", 3)
    found = auto("compose-search", "photos", "photos/red.png", "blue instead of red", "--composer", f"mllm:{llava}", "--json", "--explain")
    rows = [json.loads(line) for line in found.lines]
    assert found.code == 0, found.err
    order = names([row["path"] for row in rows])
    assert order[3:] == light[3:] and sorted(order[:3]) == sorted(light[:3]), "photos after the first keep their places"
    engine = engine_of(llava)
    pixels = {name: decode(str(shades / f"{name}.png"), DecodeOptions(engine.backbone.input)).pixels for name in ("red", *light[:3])}
    query = engine.embed(pixels["red"], "blue instead of red")
    second = sorted(light[:3], key=lambda name: -float(engine.embed(pixels[name], None) @ query))
    wanted = {name: 1 / (61 + light.index(name)) + 1 / (61 + second.index(name)) for name in light[:3]}
    assert all(abs(row["score"] - wanted[name]) < 1e-6 for row, name in zip(rows[:3], order, strict=False))
    assert names(auto("compose-search", "photos", "photos/red.png", "blue instead of red", "--composer", f"mllm:{llava}", "--top", "1").lines) == order[:1]
    refused = auto("compose-search", "photos", "photos/red.png", "blue", "--composer", f"mllm:{llava}", "--bottom", "1")
    assert refused.code == 2 and "--bottom" in refused.err


class Told(Silent):
    """Keeps what was told of each bar; `then` is run at each step of a bar about photos that are read."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.bars: list[dict[str, object]] = []
        self.then = then

    def start(self, total: int | None, what: str) -> None:
        self.bars.append({"what": what, "total": total, "steps": [], "done": False})

    def advance(self, count: int = 1) -> None:
        self.bars[-1]["steps"].append(count)  # type: ignore[attr-defined]
        if "read by" in str(self.bars[-1]["what"]):
            self.then()

    def done(self) -> None:
        self.bars[-1]["done"] = True


def test_mllm_tells_how_far_it_is_and_reads_no_photo_twice(auto: Run, shades: Path, llava: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    auto("embed", "photos")
    monkeypatch.setattr(multimodal, "JUDGED", 3)
    monkeypatch.setattr(multimodal, "AT_ONCE", 2)
    sizes: list[int] = []
    real = MllmEngine.encode_images
    monkeypatch.setattr(MllmEngine, "encode_images", lambda self, pixels: sizes.append(len(pixels)) or real(self, pixels))
    texts, told = ["make it blue", "make it green", "make it white"], Told()
    found = Collection("photos", progress=told).compose_all("photos/red.png", texts, composer=f"mllm:{llava}")
    first = [{path for path, rank in zip(one.paths, one.ranks, strict=True) if rank <= 3} for one in found]
    new = [3, len(first[1] - first[0]), len(first[2] - first[1] - first[0])]
    bars = [bar for bar in told.bars if "read by" in str(bar["what"])]
    assert [bar["what"] for bar in bars] == ["photos read by mllm:tiny-llava"] * 3 and all(bar["done"] for bar in bars)
    assert [bar["total"] for bar in bars] == new and bars[0]["steps"] == [2, 1] and [sum(bar["steps"]) for bar in bars] == new  # type: ignore[call-overload]
    assert sum(sizes) == sum(new) < 9, "what one instruction has read, the next has"
    alone = [Collection("photos").compose_search("photos/red.png", text, composer=f"mllm:{llava}") for text in texts]
    assert [one.paths for one in alone] == [one.paths for one in found]


def test_mllm_stops_between_two_photos(auto: Run, shades: Path, llava: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    auto("embed", "photos")
    monkeypatch.setattr(multimodal, "AT_ONCE", 2)
    cancel = threading.Event()
    told = Told(then=cancel.set)
    with pytest.raises(Interrupted, match="stopped while mllm:tiny-llava read photos") as caught:
        Collection("photos", progress=told, cancel=cancel).compose_search("photos/red.png", "make it blue", composer=f"mllm:{llava}")
    assert caught.value.exit_code == 130 and "rankclip embed --model mllm:tiny-llava" in caught.value.hint
    assert (told.bars[-1]["total"], told.bars[-1]["steps"]) == (5, [2])


def test_mllm_without_a_name_is_the_only_one_here(auto: Run, shades: Path, llava: Path, tmp_path: Path) -> None:
    named = auto("compose-search", "photos", "photos/red.png", "make it blue", "--composer", f"mllm:{llava}", "--json")
    assert auto("compose-search", "photos", "photos/red.png", "make it blue", "--composer", "mllm", "--json").out == named.out
    specs.find(f"mllm:{mllm_models.llava(tmp_path / 'second', seed=1)}")
    two = auto("compose-search", "photos", "photos/red.png", "make it blue", "--composer", "mllm")
    assert two.code == 2 and "which model? 2 are known here: mllm:second, mllm:tiny-llava" in two.err


def test_mllm_says_what_is_not_english_in_whatever_space(auto: Run, shades: Path, llava: Path) -> None:
    words = ("compose-search", "photos", "photos/red.png", "das gleiche aber in blau und ohne Hund", "--composer", f"mllm:{llava}")
    assert "seems to be German" in auto(*words).err
    auto("embed", "photos", "--model", f"mllm:{llava}")
    assert auto(*words).err.count("seems to be German") == 1, "where the search goes over to its own space, too"


def test_mllm_fusion_by_hand() -> None:
    order = Order(np.array([7, 5, 9, 1]), np.zeros(4), np.arange(1, 5))
    found = multimodal.fused(order, np.array([0.1, 0.2, 0.9]))  # the second judge: 9 before 5 before 7
    assert found.index.tolist() == [7, 9, 5, 1] and found.ranks.tolist() == [1, 2, 3, 4]
    assert np.allclose(found.scores, [1 / 61 + 1 / 63, 1 / 63 + 1 / 61, 1 / 62 + 1 / 62, 1 / 64], atol=1e-8)


def test_mllm_is_evaluated(auto: Run, llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKCLIP_PRECISION", "fp32")
    mllm_world.make(tmp_path / "world", copies=2)
    lines = [line for line in (tmp_path / "world/triplets.jsonl").read_text().splitlines() if '"target"' in line][:6]
    (tmp_path / "world/few.jsonl").write_text("\n".join(lines) + "\n")
    found = auto("evaluate", "composition", "triplets", "world/few.jsonl", "--composer", f"mllm:{llava}", "--json")
    row = json.loads(found.lines[0])
    assert found.code == 0 and (row["composer"], row["model"], row["queries"]) == ("mllm", "mllm:tiny-llava", 6)
    assert 0 <= row["metrics"]["R@10"]["value"] <= 1


@pytest.mark.slow
def test_mllm_is_tuned_kept_as_a_head_merged_and_used(auto: Run, llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKCLIP_PRECISION", "fp32")
    captions, triplets = mllm_world.make(tmp_path / "world", copies=2)
    lines = triplets.read_text().splitlines()
    triplets.write_text("\n".join([*lines[:16], *[line for line in lines if '"target"' in line][:4]]) + "\n")
    words = ("finetune", "composer", "--mllm", llava, "--data", triplets, "--captions", captions, "--name", "shapes", "--run", tmp_path / "run")
    settings = ("align_epochs=1", "epochs=2", "batch=32", "part=32", "rate=3e-3", "warmup=1", "merge=true")
    options = [word for one in settings for word in ("--set", one)]
    dry = auto(*words, *options, "--dry-run")
    assert dry.code == 0 and "stage 2: 14 triplets to train, 6 to validate" in dry.text and not (tmp_path / "run").exists()
    done = auto(*words, *options)
    assert done.code == 0 and "R@1 by training" in done.text and "mllm:shapes" in done.err, done.err
    assert "shapes" in auto("models", "list").text
    specs.find.cache_clear()
    tuned, merged, plain = (engine_of_name(name) for name in ("mllm:shapes", f"mllm:{tmp_path / 'run/merged'}", f"mllm:{llava}"))
    pixels = decode(str(tmp_path / "world/red_bar_0.png"), DecodeOptions(plain.backbone.input)).pixels
    assert len({one.backbone.space.fingerprint for one in (tuned, merged, plain)}) == 3
    found = [one.embed(pixels, "make it blue") for one in (tuned, merged, plain)]
    assert np.abs(found[0] - found[1]).max() < 1e-4 and np.abs(found[0] - found[2]).max() > 1e-3
    assert auto("compose-search", "world", "world/red_bar_0.png", "make it blue", "--model", "mllm:shapes", "--top", "3").code == 0
    other = auto(*words, *options[:-2], "--set", "rate=1e-3")
    assert other.code == 2 and "other settings" in other.err


def test_mllm_learns_from_what_a_language_model_wrote(auto: Run, llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captions, _ = mllm_world.make(tmp_path / "world", copies=2)
    captions.write_text(captions.read_text().replace(', "split": "train"', ""))  # a part of the photos validates

    def ask(self: Endpoint, caption: str, edit: str) -> Answer:
        return Answer(json.dumps({"instruction": "make it night", "modified_caption": f"{caption} at night", "keeps": [], "removes": []}), 10)

    monkeypatch.setattr(Endpoint, "ask", ask)
    words = (
        "finetune",
        "composer",
        "--mllm",
        llava,
        "--captions",
        captions,
        "--writer",
        "http://127.0.0.1:1",
        "--writer-model",
        "echo",
        "--writer-photos",
        "5",
    )
    found = auto(*words, "--run", tmp_path / "run", "--dry-run")
    assert found.code == 0 and "stage 2: 5 triplets to train" in found.text, found.err
    assert len((tmp_path / "run/written.jsonl").read_text().splitlines()) == 5


def test_mllm_learns_from_what_rules_write(auto: Run, llava: Path, tmp_path: Path) -> None:
    captions = tmp_path / "world/captions.jsonl"
    mllm_world.make(tmp_path / "world", copies=3)
    captions.write_text(captions.read_text().replace(', "split": "train"', ""))
    found = auto("finetune", "composer", "--mllm", llava, "--captions", captions, "--dry-run")
    assert found.code == 0, found.err
    assert int(found.text.split("stage 2: ")[1].split()[0].replace(",", "")) > 20


def test_mllm_released_is_fetched_by_its_name_and_embeds(auto: Run, shades: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "instructcir_llava_phi35_clip224_lp"
    there = mllm_models.released(tmp_path / "hub/uta-smile" / name)
    (there / "modeling.py").write_text("raise SystemExit('code of a checkpoint was run')")
    (there / "pytorch_model.bin").write_bytes(b"a pickle")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    with hub(tmp_path / "hub") as (address, _):
        monkeypatch.setenv("HF_ENDPOINT", address)
        found = auto("models", "fetch", f"mllm:{name}")
        assert found.code == 0, found.err
    assert auto("embed", "photos/red.png", "--model", f"mllm:{name}").code == 0
    engine = engine_of_name(f"mllm:{name}")
    here = Path(engine.backbone.extra["base"])
    assert here != there and {path.suffix for path in here.iterdir() if path.is_file()} <= {".json", ".jinja", ".safetensors"}
    pixels = decode(str(shades / "red.png"), DecodeOptions(engine.backbone.input)).pixels
    with Store.open(tmp_path / "store") as store:
        view = store.view(engine.backbone.space)
        stored = view.read_embeddings(np.array([0]))[0]
    assert view.rows == 1 and np.abs(stored - engine_of(there).embed(pixels, None)).max() < 5e-4, "float16 in the store"


def engine_of_name(name: str) -> MllmEngine:
    return MllmEngine(specs.find(name), Settings(precision="fp32", threads=1))


# ---------------------------------------------------------------- bad input


def test_mllm_without_its_extra_says_what_to_install(auto: Run, shades: Path, llava: Path, tmp_path: Path) -> None:
    import subprocess

    for package in ("transformers", "peft", "accelerate"):
        folder = tmp_path / f"no-{package}"
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text(f"raise ImportError({f'No module named {package}'!r}, name={package!r})\n")
        tune, embed = ["finetune", "composer", "--mllm", str(llava), "--data", "none.jsonl"], ["embed", "photos", "--model", f"mllm:{llava}"]
        words = tune if package == "peft" else embed  # only training and tuned models need it
        environment = subprocess_environment()
        environment["PYTHONPATH"] = f"{folder}:{environment['PYTHONPATH']}"
        found = subprocess.run(rankclip_command(*words), capture_output=True, env=environment, timeout=300)
        assert found.returncode == 6, found.stderr
        assert found.stderr.decode().splitlines()[-1] == '  run: python -m pip install "rankclip[mllm]"'


@pytest.mark.parametrize(("file", "before", "after", "message"), [
    ("config.json", '"vision_config"', '"blind_config"', "no vision tower in it"),
    ("chat_template.jinja", "message['content']", "''", "its chat template loses the picture"),
    ("tokenizer.json", "<image>", "<photo>", "the image tokens are missing"),
    ("", "", "", "not enough memory on cpu: one photo at a time needs 0.0 GB"),
])  # fmt: skip
def test_mllm_that_cannot_be_used_is_one_clear_line(
    auto: Run, shades: Path, llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, before: str, after: str, message: str
) -> None:
    folder = shutil.copytree(llava, tmp_path / "odd")
    if file:
        text = (folder / file).read_text()
        assert before in text
        (folder / file).write_text(text.replace(before, after))
    else:
        monkeypatch.setattr(MllmEngine, "_free", lambda engine: 1_000)
    for words in (("embed", "photos", "--model"), ("compose-search", "photos", "photos/red.png", "make it blue", "--composer")):
        specs.find.cache_clear()
        found = auto(*words, f"mllm:{folder}")
        lines = [line for line in found.err.splitlines() if line.startswith("rankclip: mllm:odd: ")]
        assert found.code == 6 and len(lines) == 1 and message in lines[0] and found.err.splitlines()[-1].startswith("  "), found.err


def test_mllm_with_a_lora_and_no_peft(llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs.find.cache_clear()
    tuned = tmp_path / "tuned"
    tuned.mkdir()
    (tuned / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(llava)}))
    (tuned / "adapter_model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(RuntimeMissing, match="this needs peft") as caught:
        engine_of(tuned).encode_texts(["red"])
    assert caught.value.exit_code == 6 and caught.value.hint == 'run: python -m pip install "rankclip[mllm]"'


def test_mllm_that_is_not_here_or_was_another(auto: Run, shades: Path, llava: Path, tmp_path: Path) -> None:
    missing = auto("embed", "photos", "--model", "mllm:nowhere")
    assert missing.code == 6 and "run: rankclip models fetch mllm:nowhere" in missing.err
    unnamed = auto("compose-search", "photos", "photos/red.png", "make it blue", "--composer", "mllm")
    assert unnamed.code == 2 and "which model?" in unnamed.err
    folder = tmp_path / "moving"
    shutil.copytree(llava, folder)
    assert auto("embed", "photos", "--model", f"mllm:{folder}", "--store", "own").code == 0
    mllm_models.llava(folder, seed=1)
    specs.find.cache_clear()
    other = auto("compose-search", "photos", "photos/red.png", "make it blue", "--model", f"mllm:{folder}", "--no-scan", "--store", "own")
    assert other.code == 6 and "own: embedded by other weights of mllm:moving, asked by mllm:moving: their embeddings cannot be compared" in other.err
    assert other.err.splitlines()[-1] == "  leave out --no-scan to embed the photos by mllm:moving"
    assert auto("models", "fetch", "mllm:nowhere").code == 2
    offline = auto("models", "fetch", "mllm:instructcir_llava_phi35_clip224_lp", "--offline")
    assert offline.code == 7 and "uta-smile/instructcir_llava_phi35_clip224_lp" in offline.err
