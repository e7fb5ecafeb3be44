"""The difference recipe: losses by hand, what trains and what stays, planted truth, a toy world that must be learnt, resume."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import Run, square
from torch import nn

from rankclip.backbones.specs import TOY
from rankclip.collection import Collection
from rankclip.errors import InputError
from rankclip.heads import packs
from rankclip.heads.difference import MATRIX, DifferenceHead, packed, sided
from rankclip.heads.packs import HeadCard
from rankclip.training import difference
from rankclip.training.comparing import gather, read_captions_file
from rankclip.training.difference import PRESETS, Config, Data, Sentences, accuracy, open_tower, ridge, train
from rankclip.training.generator import PairOptions, facts_between, generate
from rankclip.training.models.difference import LowRank, Map, averaged, free_only, info_nce, mean_square
from rankclip.training.runs import Team
from rankclip.types import Silent

ALONE = Team(0, 1, torch.device("cpu"))


def test_the_loss_by_hand() -> None:
    t, d = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]]), torch.tensor([[5.0, 0.0], [0.0, 0.1], [-1.0, 1.0]])
    tn, dn = (x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True) for x in (t, d))
    z = tn @ dn.T / 0.5

    def ce(rows: np.ndarray) -> float:
        return float(np.mean([np.log(np.exp(row).sum()) - row[i] for i, row in enumerate(rows)]))

    assert float(info_nce(t, d, 0.5)) == pytest.approx((ce(z) + ce(z.T)) / 2, rel=1e-5)
    assert float(mean_square(t, d)) == pytest.approx(float(((t - d) ** 2).sum(1).mean()))


def test_the_loss_begins_at_the_logarithm_of_the_batch() -> None:
    torch.manual_seed(0)
    assert float(info_nce(torch.randn(512, 512), torch.randn(512, 512), 1.0)) == pytest.approx(np.log(512), abs=0.05)


def test_ridge_finds_a_planted_matrix() -> None:
    rng = np.random.default_rng(0)
    x, planted = rng.normal(size=(4_000, 12)), rng.normal(size=(12, 12))
    found = ridge(x, x @ planted, 0.0)
    assert np.linalg.norm(found - planted) / np.linalg.norm(planted) < 1e-3
    scaled = ridge(x, 3.0 * x, 1e6)
    assert np.allclose(scaled, 3.0 * np.eye(12), atol=1e-3), "a strong pull leaves the scaled identity"


# ---------------------------------------------------------------- a toy world

SHAPES, COLOURS, PLACES = ("cube", "ball", "cone", "ring"), ("red", "blue", "green", "white"), ("kitchen", "beach", "forest", "street")
WORDS = [*SHAPES, *COLOURS, *PLACES]


class World:
    """Photos are codes of three attributes, turned into another space with noise; texts are bags of words in a third space."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.image = rng.normal(size=(len(WORDS), 64))
        self.text = {word: rng.normal(size=64) for word in WORDS}
        self.rng = rng

    def photo(self, *words: str) -> np.ndarray:
        row = sum(self.image[WORDS.index(word)] for word in words) + 0.5 * self.rng.normal(size=64)
        return (row / np.linalg.norm(row)).astype(np.float32)

    def embed(self, texts: list[str]) -> np.ndarray:
        rows = np.stack([sum((self.text[word] for word in text.split() if word in self.text), 0.05 * np.ones(64)) for text in texts])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def sentences(self, count: int, *, held_out: bool, combination: bool = False) -> tuple[np.ndarray, Sentences]:
        """combination: only red cubes against blue balls, which training never shows."""
        photos, rows = [], []
        while len(rows) < count:
            codes = [[str(self.rng.choice(kind)) for kind in (SHAPES, COLOURS, PLACES)] for _ in range(2)]
            if combination:
                codes[0][:2], codes[1][:2] = ["cube", "red"], ["ball", "blue"]
            if not held_out and any(code[:2] in (["cube", "red"], ["ball", "blue"]) for code in codes):
                continue
            different = [i for i in range(3) if codes[0][i] != codes[1][i]]
            if not different:
                continue
            slot = int(self.rng.choice(different))
            a, b = codes[0][slot], codes[1][slot]
            text = f"The first photo shows a {a} thing, while the second shows a {b} thing." if len(rows) % 2 else f"the thing is {a} instead of {b}"
            photos += [self.photo(*code) for code in codes]
            rows.append((len(photos) - 2, len(photos) - 1, text))
        return np.stack(photos), Sentences(np.array([a for a, _, _ in rows]), np.array([b for _, b, _ in rows]), [text for *_, text in rows])


def joined(*parts: tuple[np.ndarray, Sentences]) -> tuple[np.ndarray, list[Sentences]]:
    shift, photos, sentences = 0, [], []
    for rows, some in parts:
        photos.append(rows)
        sentences.append(Sentences(some.a + shift, some.b + shift, some.texts))
        shift += len(rows)
    return np.concatenate(photos), sentences


@pytest.mark.parametrize("loss", ["infonce", "mse"])
def test_the_toy_world_is_learnt(tmp_path: Path, loss: str) -> None:
    world = World()
    photos, (learn, val, unseen) = joined(world.sentences(1_500, held_out=False), world.sentences(400, held_out=True),
                                          world.sentences(200, held_out=True, combination=True))  # fmt: skip
    centre = np.zeros(64, np.float32)

    def inputs(texts: list[str]) -> np.ndarray:
        return sided(texts, world.embed, centre)

    whole = accuracy(world.embed(val.texts), val.differences(photos))
    assert abs(whole - 0.5) < 0.06, "untrained, and whole sentences: chance"
    config = Config(epochs=3, batch=128, rate=1e-3, loss=loss)
    found = train(Data(photos, learn, val, []), config, tmp_path, inputs=inputs, backbone=TOY, team=ALONE, progress=Silent())
    assert found.matrix is not None and abs(found.untuned - 0.5) < 0.12 and found.accuracy >= 0.9
    assert accuracy(inputs(unseen.texts) @ found.matrix, unseen.differences(photos)) >= 0.8, "a combination that training never showed"


def test_resuming_gives_the_same(tmp_path: Path) -> None:
    world = World(1)
    photos, (learn, val) = joined(world.sentences(300, held_out=False), world.sentences(100, held_out=True))

    def run(folder: Path, epochs: int) -> difference.Outcome:
        folder.mkdir(exist_ok=True)
        return train(Data(photos, learn, val, []), Config(epochs=epochs, batch=64, rate=1e-2), folder,
                     inputs=lambda texts: sided(texts, world.embed, np.zeros(64, np.float32)), backbone=TOY, team=ALONE, progress=Silent())  # fmt: skip

    straight = run(tmp_path / "a", 4)
    run(tmp_path / "b", 2)
    resumed = run(tmp_path / "b", 4)
    assert straight.history == resumed.history and (straight.matrix == resumed.matrix).all()  # type: ignore[union-attr]
    assert len((tmp_path / "b" / "log.jsonl").read_text().splitlines()) >= 5


def test_wrong_settings_are_refused() -> None:
    for changes in ({"recipe": "magic"}, {"loss": "hinge"}, {"average": 1.5}, {"temperature": 0.0}, {"rate": -1.0}, {"rate": float("nan")}, {"ridge": -1.0},
                    {"each": -1}, {"recipe": "lowrank", "average": 0.5}):  # fmt: skip
        with pytest.raises(InputError):
            difference.checked(Config(**changes))  # type: ignore[arg-type]


# ---------------------------------------------------------------- the text tower


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    """A tiny text tower in rankclip-mini's form."""
    from rankclip.training.models.mini import TextConfig, TextTower, write_text_tower

    torch.manual_seed(0)
    config = TextConfig(width=32, layers=2, heads=2, factor=8, embedding=16)
    write_text_tower(TextTower(config), tmp_path / "tower.safetensors", "MIT")
    return str(tmp_path / "tower.safetensors")


def test_a_file_that_is_no_text_tower_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.safetensors").write_text("not weights")
    for name in ("notes.safetensors", "gone.safetensors"):
        with pytest.raises(InputError, match=name):
            open_tower(TOY, str(tmp_path / name))


def pairs_data() -> Data:
    rng = np.random.default_rng(0)
    photos = rng.normal(size=(24, 16)).astype(np.float32)
    photos /= np.linalg.norm(photos, axis=1, keepdims=True)
    texts = [f"the first has {i} dogs and the second {i + 1}" for i in range(12)]
    some = Sentences(np.arange(12), np.arange(12, 24), texts)
    return Data(photos, some, some, [(i, f"photo number {i}") for i in range(24)])


def test_only_the_blocks_train(checkpoint: str) -> None:
    tower = open_tower(TOY, checkpoint)
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    free = free_only(tower, tower.blocks())
    optimiser = torch.optim.Adam(free, lr=1e-2)
    for _ in range(10):
        loss = info_nce(tower(tower.ids(["two dogs", "a cat", "red"])), torch.eye(3, 16), 1.0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    changed = {name for name, value in tower.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all(".blocks." in name for name in changed)
    assert {name for name in before if ".blocks." not in name} >= {"inner.position", "inner.project.weight", "inner.table.weight", "inner.norm.weight"}


@pytest.mark.parametrize("recipe", ["authors", "lowrank", "control"])
def test_tower_recipes_run_resume_and_export(tmp_path: Path, checkpoint: str, recipe: str) -> None:
    config = Config(**{**PRESETS[recipe], "recipe": recipe, "tower": checkpoint, "epochs": 2, "batch": 4, "rank": 2})
    folder = tmp_path / recipe
    folder.mkdir()
    data = pairs_data()
    found = train(data, config, folder, inputs=lambda texts: np.zeros((len(texts), 16)), backbone=TOY, team=ALONE, progress=Silent())
    assert len(found.history) == 3 and found.graph
    card = HeadCard("tower", "difference", "toy", TOY.space.fingerprint, {"form": "tower"})
    head = DifferenceHead(packs.write(tmp_path / "pack", card, {"head.onnx": found.graph}))
    rows = head.embedder(lambda texts: np.zeros((len(texts), 16), np.float32))(data.val.texts)
    assert accuracy(rows, data.val.differences(data.photos)) == pytest.approx(found.accuracy, abs=0.09)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    again = train(data, config, folder, inputs=lambda texts: np.zeros((len(texts), 16)), backbone=TOY, team=ALONE, progress=Silent())
    assert again.history == found.history, "a finished run is not trained again"


def test_the_released_recipe_is_a_light_touch(tmp_path: Path, checkpoint: str) -> None:
    assert PRESETS["authors"] == {"epochs": 20, "rate": 1e-8, "fading": 0.9, "temperature": 1.0, "batch": 512, "average": 1.0}
    tower = open_tower(TOY, checkpoint)
    free = free_only(tower, tower.blocks())
    before = [parameter.detach().clone() for parameter in free]
    optimiser = torch.optim.Adam(free, lr=1e-8)
    info_nce(tower(tower.ids(["two dogs", "a cat"])), torch.eye(2, 16), 1.0).backward()
    optimiser.step()
    assert (
        0 < max(float((now.detach() - then).abs().max()) for now, then in zip(free, before, strict=True)) <= 2e-8
    )  # at a rate of 1e-8, within a step of float32


def test_low_rank_updates_begin_at_zero() -> None:
    base = nn.Linear(6, 5)
    update = LowRank(base, 2)
    x = torch.randn(3, 6)
    assert torch.equal(update(x), base(x))
    assert {name for name, value in update.named_parameters() if value.requires_grad} == {"down", "up"}


def test_averaging_weights() -> None:
    one, other = {"w": torch.ones(2), "n": torch.tensor(3)}, {"w": torch.zeros(2), "n": torch.tensor(3)}
    assert averaged(one, other, 0.25)["w"].tolist() == [0.25, 0.25] and averaged(one, other, 1.0)["w"].tolist() == [1.0, 1.0]
    assert Map(torch.eye(3)).distance().item() == 0.0


# ---------------------------------------------------------------- the head


def test_the_identity_changes_nothing(tmp_path: Path) -> None:
    card = HeadCard("same", "difference", "toy", TOY.space.fingerprint, {"form": "whole"})
    head = DifferenceHead(packs.write(tmp_path / "same", card, {MATRIX: packed(matrix=np.eye(16, dtype=np.float32), centre=np.zeros(16, np.float32))}))
    rng = np.random.default_rng(0)
    table = rng.normal(size=(3, 16)).astype(np.float32)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    assert np.allclose(head.embedder(lambda texts: table)(["a", "b", "c"]), table, atol=1e-6)


# ---------------------------------------------------------------- the command


def captioned(folder: Path, count: int = 60) -> Path:
    """Coloured squares with captions that name the colour."""
    rows = []
    rng = np.random.default_rng(0)
    colours = {"red": (220, 30, 30), "green": (40, 160, 50), "blue": (30, 60, 210), "white": (248, 248, 248), "black": (8, 8, 8)}
    for i in range(count):
        name = list(colours)[i % 5]
        shade = tuple(int(np.clip(value + rng.integers(-25, 25), 0, 255)) for value in colours[name])
        square(folder / f"{i}.png", shade, (40 + i % 7, 30))  # type: ignore[arg-type]
        rows.append({"path": f"{folder.name}/{i}.png", "captions": [f"a {name} box on a table"], "split": "val" if i % 4 == 0 else "train"})
    path = folder.parent / "captions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


SMALL = ("--set", "pairs=400", "--set", "rare=800", "--set", "epochs=2", "--set", "batch=32")


def test_a_head_is_trained_installed_and_used(run: Run, tmp_path: Path) -> None:
    file = captioned(tmp_path / "boxes")
    run("embed", "boxes", "-q")
    stored = {path.name: path.read_bytes() for path in (tmp_path / "store").rglob("pooled.*")}
    (tmp_path / "classes.txt").write_text("red\ngreen\nblue\n")
    searches = [("rank", "boxes", "a red box on a table", "--json"), ("classify", "boxes", "--classes", "classes.txt", "--json", "-q")]
    before = [run(*words).text for words in searches]
    found = run("finetune", "difference", "--captions", file, "--name", "boxes", *SMALL, "-q")
    assert found.code == 0 and "sign accuracy of one sentence" in found.text, found.err
    assert {path.name: path.read_bytes() for path in (tmp_path / "store").rglob("pooled.*")} == stored, "embeddings do not change"
    card = json.loads((packs.user_packs() / "boxes" / "card.json").read_text())
    assert card["figures"]["one_sentence"] > 0.8 and card["figures"]["one_sentence"] > card["figures"]["untuned_one_sentence"] + 0.12
    assert set(card["files"]) == {"head.npz", "axes.npz"}
    answer = json.loads(run("diff", "boxes/0.png", "boxes/2.png", "--ask", "which is redder?", "--json").text)
    assert answer["answer"] == "A" and answer["probability"] > 0.6
    ranked = run("rank", "boxes", "from red to blue", "--method", "difference", "--explain")
    assert [run(*words).text for words in searches] == before and all(before), "plain search and zero-shot classes stay as they were"
    assert ranked.code == 0 and int(ranked.lines[0].split("/")[1].split(".")[0]) % 5 == 0 and "read by boxes" in ranked.err


def test_what_the_camera_wrote_makes_sentences(run: Run, tmp_path: Path) -> None:
    rows = []
    for i in range(24):
        exif = Image.Exif()
        exif[0x8769] = {0x9003: f"2021:{'07' if i % 2 else '01'}:03 {6 + i % 12:02d}:00:00"}
        exif[0x8825] = {1: "N", 2: (48.0, 0.0, 0.0), 3: "E", 4: (11.0, 0.0, 0.0)}
        (tmp_path / "dated").mkdir(exist_ok=True)
        Image.new("RGB", (32 + i, 24), (10 * i, 99, 99)).save(tmp_path / "dated" / f"{i}.jpg", exif=exif)
        rows.append({"path": f"dated/{i}.jpg", "captions": ["a box"], "split": "train"})
    (tmp_path / "dated.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    captioned_rows = read_captions_file(tmp_path / "dated.jsonl")
    library = gather(Collection(str(tmp_path / "dated")), captioned_rows, [row.path for row in captioned_rows], frozenset())
    said = {told.sentence.text for told in generate(library.described, PairOptions(count=300, each=3))}
    assert any("later in the day" in text for text in said)
    assert {"summer", "winter"} == {next(iter(one.frame.scene["season"])) for one in library.described}
    assert any(fact.first == "in summer" for fact in facts_between(library.described[1], library.described[2]))


def test_a_finished_run_with_other_settings_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    file = captioned(tmp_path / "boxes", 40)
    assert run("finetune", "difference", "--captions", file, "--run", tmp_path / "r", *SMALL, "-q").code == 0
    found = run("finetune", "difference", "--captions", file, "--run", tmp_path / "r", *SMALL, "--set", "seed=4", "-q")
    assert found.code == 2 and "other settings" in found.err


@pytest.mark.parametrize(("text", "said"), [
    ('{"path": 3}', "line 2: needs"), ("{", "line 2: not JSON"), ("[1]", "line 2: not a JSON object"),
    ('{"path": "b.jpg", "captions": ["x"], "values": 5}', 'line 2: "values" must name numbers'),
    ('{"path": "b.jpg", "captions": ["x"], "values": {"age": "old"}}', 'line 2: "values" must name numbers'),
])  # fmt: skip
def test_a_malformed_line_is_named_by_number(run: Run, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "captions.jsonl").write_text('{"path": "a.jpg", "captions": ["a dog"]}\n' + text + "\n")
    found = run("finetune", "difference", "--captions", "captions.jsonl")
    assert found.code == 2 and said in found.err


@pytest.mark.parametrize(
    "row", ['{"a": "x.jpg"}', '{"a": "x.jpg", "b": "y.jpg", "text": "  "}', '{"a": "x.jpg", "b": "y.jpg", "text": "darker", "reverse": 5}']
)
def test_a_malformed_pair_is_named_by_number(run: Run, tmp_path: Path, row: str) -> None:
    (tmp_path / "pairs.jsonl").write_text(f"\n{row}\n")
    found = run("finetune", "difference", "--pairs", "pairs.jsonl")
    assert found.code == 2 and 'pairs.jsonl, line 2: needs "a", "b" and "text"' in found.err


def test_photos_without_anything_in_common_are_no_lesson(run: Run, tmp_path: Path) -> None:
    file = captioned(tmp_path / "boxes", 12)
    file.write_text(file.read_text().replace('"val"', '"train"'))
    found = run("finetune", "difference", "--captions", file, *SMALL, "-q")
    assert found.code == 4 and "no sentence to choose by" in found.err and "validation photos" in found.err


def test_dry_run_and_wrong_options(run: Run, tmp_path: Path) -> None:
    file = captioned(tmp_path / "boxes", 40)
    found = run("finetune", "difference", "--captions", file, "--dry-run", *SMALL, "-q")
    assert found.code == 0 and "sentences to train" in found.text and not list(packs.user_packs().glob("*"))
    assert run("finetune", "difference").code == 2
    assert run("finetune", "difference", "--captions", file, "--set", "speed=9").code == 2
    assert run("finetune", "difference", "--captions", file, "--writer", "http://localhost:1/v1").code == 2
