"""The composer's modules and recipe on a world that can be looked through: 6 objects x 6 colours x 4 scenes as orthogonal codes."""

import itertools
import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from tests.conftest import ROOT

from rankclip.errors import InputError
from rankclip.evaluation import composition as metrics
from rankclip.evaluation.triplets import Triplet
from rankclip.heads import packs
from rankclip.heads.composer import GRAPH, ComposerHead
from rankclip.heads.packs import HeadCard
from rankclip.training import composer as recipe
from rankclip.training.composer import Config
from rankclip.training.composer_data import Data, Photos, Texts, Triplets, as_told, baselines, measured
from rankclip.training.composer_gather import Captioned, searched, split_of, triplets_from_captions
from rankclip.training.models.composer import KINDS, TOKEN_READERS, ComposerLoss, LossConfig, Mean, Shapes, SmallCombiner, build
from rankclip.training.models.composer import Config as ModelConfig
from rankclip.types import Features

OBJECTS, COLOURS, SCENES, COPIES = 6, 6, 4, 2
WIDTH, TOKEN, STATE = 48, 24, 20
COMBINATIONS = list(itertools.product(range(OBJECTS), range(COLOURS), range(SCENES)))
NOISE = 0.25


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


class World:
    """Photos are sums of three codes and noise; texts lie apart from them by a common offset, as CLIP's do; patch tokens show a code each."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        base = np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0].astype(np.float32)
        self.codes = {(kind, i): base[place] for place, (kind, i) in enumerate([*(("o", i) for i in range(OBJECTS)), *(("c", i) for i in range(COLOURS)),
                                                                                *(("s", i) for i in range(SCENES))])}  # fmt: skip
        self.gap = 1.6 * base[-1]
        self.to_token, self.to_state = rng.normal(size=(WIDTH, TOKEN)).astype(np.float32), rng.normal(size=(WIDTH, STATE)).astype(np.float32)
        self.photos = [combination for combination in COMBINATIONS for _ in range(COPIES)]
        parts = np.stack([np.stack([self.codes["o", o], self.codes["c", c], self.codes["s", s]]) for o, c, s in self.photos])  # [N, 3, D]
        noise = rng.normal(size=parts.shape).astype(np.float32) * NOISE * WIDTH**-0.5
        self.pooled = unit(parts.sum(axis=1) + noise.sum(axis=1))
        self.tokens = ((parts + noise) @ self.to_token).astype(np.float16)
        self.rng = rng
        self.wordings: dict[str, int] = {}
        self.rows: list[tuple[np.ndarray, np.ndarray]] = []

    def say(self, text: str, codes: list[tuple[str, int]]) -> int:
        """Note an instruction that names some codes; returns its row."""
        if text not in self.wordings:
            found = sum((self.codes[code] for code in codes), np.zeros(WIDTH, np.float32))
            self.wordings[text] = len(self.rows)
            self.rows.append((unit(found + self.gap), np.stack([self.codes[code] for code in codes] or [self.gap])))
        return self.wordings[text]

    def embed(self, texts: list[str]) -> np.ndarray:
        """The text tower: the codes that a text names ("c3" is a colour), and the offset."""
        return unit(np.stack([sum((self.codes[code] for code in self.codes if f"{code[0]}{code[1]}" in text.split()), self.gap) for text in texts]))

    def texts(self) -> Texts:
        longest = max(len(states) for _, states in self.rows)
        states = np.zeros((len(self.rows), longest, STATE), np.float16)
        real = np.zeros((len(self.rows), longest), bool)
        for i, (_, one) in enumerate(self.rows):
            states[i, : len(one)], real[i, : len(one)] = one @ self.to_state, True
        return Texts(tuple(self.wordings), np.stack([pooled for pooled, _ in self.rows]), states, real)


def edits(combination: tuple[int, int, int]) -> list[tuple[str, list[tuple[str, int]], tuple[int, int, int]]]:
    """Every change of a photo: what is said, which codes that names, and what the result shows."""
    o, c, s = combination
    found = [(f"make it c{i}", [("c", i)], (o, i, s)) for i in range(COLOURS) if i != c]
    found += [(f"an o{i} instead", [("o", i)], (i, c, s)) for i in range(OBJECTS) if i != o]
    return found + [(f"the same but s{i}", [("s", i)], (o, c, i)) for i in range(SCENES) if i != s]


def make_data(world: World, held_out: set[tuple[int, int, int]]) -> Data:
    """Training triplets never aim at a held-out combination; validation triplets always do."""
    of: dict[tuple[int, int, int], list[int]] = {}
    for i, combination in enumerate(world.photos):
        of.setdefault(combination, []).append(i)
    train, val = [], []
    for i, combination in enumerate(world.photos):
        for text, codes, wanted in edits(combination):
            row = (i, world.say(text, codes), int(world.rng.choice(of[wanted])), COMBINATIONS.index(wanted), COMBINATIONS.index(combination))
            if wanted in held_out:
                val.append(row)
            elif combination not in held_out:
                train.append(row)
    for text in (*recipe.DESCRIBE, *recipe.NEUTRAL):
        world.say(text, [])
    captions = unit(np.stack([world.codes["o", o] + world.codes["c", c] + world.codes["s", s] for o, c, s in COMBINATIONS]) + world.gap)
    gallery = np.arange(len(world.photos))
    seen = np.array([i for i, combination in enumerate(world.photos) if combination not in held_out])
    described = np.array([(i, COMBINATIONS.index(world.photos[i])) for i in seen.tolist()])
    return Data(Photos(world.pooled, world.tokens), world.texts(), captions, triplets(train, of), triplets(val, of), gallery, seen, described,
                world.embed, world.wordings)  # fmt: skip


def triplets(rows: list[tuple[int, int, int, int, int]], of: dict[tuple[int, int, int], list[int]]) -> Triplets:
    reference, instruction, target, caption, original = np.array(rows).T
    return Triplets(reference, instruction, target, caption, original, caption.copy(), tuple(tuple(of[COMBINATIONS[i]]) for i in caption.tolist()))


@pytest.fixture(scope="module")
def data() -> Data:
    world = World()
    held_out = {COMBINATIONS[i] for i in np.random.default_rng(5).permutation(len(COMBINATIONS))[:24].tolist()}
    found = make_data(world, held_out)
    assert len(found.train) > 2_000 and len(found.val) > 400 and not set(found.train.target.tolist()) & {i for right in found.val.right for i in right}
    return found


@pytest.fixture(scope="module")
def base(data: Data) -> dict[str, Any]:
    return baselines(data)


SETTINGS = Config("transformer", width=64, layers=2, queries=4, dropout=0.0, align_epochs=2, epochs=12, batch=128, rate=2e-3, mined=2, noise=0.1, patience=12)


@pytest.fixture(scope="module")
def trained(data: Data, base: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[recipe.Outcome, Path]:
    torch.set_num_threads(1)  # two would wait for each other wherever the machine is busy
    folder = tmp_path_factory.mktemp("run")
    return recipe.train(data, folder, SETTINGS, base=base), folder


# ---------------------------------------------------------------- the recipe


def test_the_head_learns_combinations_it_never_saw(data: Data, trained: tuple[recipe.Outcome, Path]) -> None:
    found, _ = trained
    plain = measured(data, data.val, data.gallery, lambda rows: (data.photos.pooled[data.val.reference[rows]] + data.instructions.pooled[data.val.instruction[rows]])
                     @ data.photos.pooled.T)  # fmt: skip
    assert found.values["head"]["R@1"].mean() >= 0.9
    assert plain["R@1"].mean() <= 0.6
    assert found.report["best without training"] in found.values and found.report["gain"]["high"] >= 0
    assert found.values["head"]["R@1"].mean() > max(values["R@1"].mean() for name, values in found.values.items() if name != "head")


def test_the_reference_is_not_its_own_answer(trained: tuple[recipe.Outcome, Path]) -> None:
    found, _ = trained
    assert found.values["head"]["reference first"].mean() < 0.05


def test_the_log_tells_the_whole_story(trained: tuple[recipe.Outcome, Path]) -> None:
    _, folder = trained
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [rows[0]["event"], rows[1]["event"], rows[-1]["event"]] == ["baselines", "start", "done"], "baselines come before any training"
    assert {"photo only", "text only", "sum", "slerp", "product"} <= set(rows[0])
    assert [row["stage"] for row in rows if "stage" in row][:3] == ["align", "align", "change"]
    losses = [row["loss"] for row in rows if row.get("stage") == "change"]
    assert losses[-1] < 0.5 * losses[0]


def test_the_exported_head_gives_the_same_queries(data: Data, trained: tuple[recipe.Outcome, Path], tmp_path: Path) -> None:
    found, _ = trained
    config = {"kind": "transformer", "embedding": WIDTH, "patches": 3, "token": TOKEN, "state": STATE, "parameters": found.parameters}
    pack = packs.write(tmp_path / "worlds", HeadCard("worlds", "composer", "world", "0" * 16, config), {GRAPH: found.graph})
    head = ComposerHead(pack)
    rows = np.arange(60)
    assert data.photos.tokens is not None
    some, texts = data.val.some(rows), data.instructions
    features = Features(data.photos.pooled[some.reference], data.photos.tokens[some.reference].astype(np.float32))
    got = head.compose(features, texts.states[some.instruction].astype(np.float32), texts.real[some.instruction], texts.pooled[some.instruction])
    best = metrics.first(got @ data.photos.pooled.T, 2)
    right = [bool(set(row.tolist()) & set(some.right[i])) for i, row in enumerate(best)]
    assert np.mean(right) >= 0.85, "what is measured in torch holds in ONNX"
    one = head.compose(Features(features.pooled[:1], features.tokens[:1]), texts.states[some.instruction[:1], :1].astype(np.float32),  # type: ignore[index]
                       texts.real[some.instruction[:1], :1], texts.pooled[some.instruction[:1]])  # fmt: skip
    assert np.allclose(one[0], got[0], atol=1e-5), "padding and neighbours change nothing"


def test_an_interrupted_run_goes_on_as_if_nothing_had_been(data: Data, base: dict[str, Any], tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    class Stopping:
        def __init__(self, after: int) -> None:
            self.left = after

        def start(self, total: int | None, what: str) -> None: ...
        def note(self, message: str) -> None: ...
        def done(self) -> None: ...
        def advance(self, count: int = 1) -> None:
            self.left -= 1
            if self.left < 0:
                raise Stop

    short = Config(**{**{name: getattr(SETTINGS, name) for name in SETTINGS.__slots__}, "align_epochs": 1, "epochs": 2, "width": 32, "layers": 1})
    with pytest.raises(Stop):
        recipe.train(data, tmp_path / "one", short, progress=Stopping(30), base=base)
    whole, parts = recipe.train(data, tmp_path / "two", short, base=base), recipe.train(data, tmp_path / "one", short, base=base)
    assert whole.graph == parts.graph and np.array_equal(whole.values["head"]["place"], parts.values["head"]["place"])


def test_the_own_photo_as_negative_is_what_keeps_it_away(data: Data, base: dict[str, Any], trained: tuple[recipe.Outcome, Path], tmp_path: Path) -> None:
    """Without it the reference comes first more often (the ablation of MegaPairs)."""
    short = {name: getattr(SETTINGS, name) for name in SETTINGS.__slots__} | {"align_epochs": 2, "epochs": 1}
    with_own = recipe.train(data, tmp_path / "a", Config(**short), base=base)
    without = recipe.train(data, tmp_path / "b", Config(**short | {"own_photo": 0, "own_caption": False, "mined": 0}), base=base)
    assert without.values["head"]["reference first"].mean() > with_own.values["head"]["reference first"].mean()


@pytest.mark.parametrize("kind", ["combiner", "flow"])
def test_the_other_heads_learn_too(data: Data, base: dict[str, Any], tmp_path: Path, kind: str) -> None:
    short = Config(**{name: getattr(SETTINGS, name) for name in SETTINGS.__slots__} | {"kind": kind, "epochs": 6})
    found = recipe.train(data, tmp_path, short, base=base)
    assert found.values["head"]["R@1"].mean() > found.values["slerp"]["R@1"].mean()


def test_text_alone_teaches_a_head(data: Data, base: dict[str, Any], tmp_path: Path) -> None:
    short = Config(**{name: getattr(SETTINGS, name) for name in SETTINGS.__slots__} | {"kind": "combiner", "epochs": 8, "align_epochs": 0, "text_only": True})
    found = recipe.train(data, tmp_path, short, base=base)
    assert found.values["head"]["R@1"].mean() > max(found.values[name]["R@1"].mean() for name in ("photo only", "text only", "sum"))


def test_what_cannot_be_learnt_is_refused(data: Data, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown kind"):
        recipe.train(data, tmp_path, Config(kind="mamba"))
    few = Data(**{name: getattr(data, name) for name in Data.__slots__} | {"train": data.train.some(np.arange(1))})
    with pytest.raises(InputError, match="nothing can be learnt from so few"):
        recipe.train(few, tmp_path, SETTINGS)


def test_every_right_photo_is_a_target_some_time(data: Data) -> None:
    some, rng = data.train.some(np.arange(20)), np.random.default_rng(0)
    draws = np.stack([recipe.drawn(some, rng) for _ in range(100)], axis=1)
    assert [set(row.tolist()) for row in draws] == [set(right) for right in some.right] and min(map(len, some.right)) > 1


def test_what_is_right_for_a_row_is_no_negative_of_it() -> None:
    found = recipe.also_right([[1, 2], [3], []], np.array([2, 3, -1]), 4)
    assert found.tolist() == [[True, False, False], [False, True, False], [False, False, False]]


def test_a_composer_of_embeddings_is_given_no_tokens(data: Data) -> None:
    batch = recipe.change_batch(recipe.without_tokens(data), np.arange(8), recipe.near_misses(data), SETTINGS, torch.device("cpu"), np.random.default_rng(0))
    assert batch.given[0].shape == (8, 1, 1) and batch.given[2].shape[:2] == (8, 1)


def test_captions_alone_give_triplets_of_each_split() -> None:
    colours, things = ("red", "blue", "green", "black"), ("dog", "car", "boat")
    photos = [Captioned(f"{i:03}.jpg", (f"a {colours[i % 4]} {things[i % 3]} in a park", f"{colours[i % 4]} {things[i % 3]} {i}")) for i in range(120)]
    rows, part = triplets_from_captions(photos, seed=1), {photo.path: split_of(photo.path, "") for photo in photos}
    assert {part[name] for row in rows for name in (row.reference, *row.targets) if row.split == "val"} == {"val"}
    assert {part[name] for row in rows for name in (row.reference, *row.targets) if row.split == "train"} == {"train"}
    told = [row for row in rows if row.instruction.split()[-1].isdigit()]
    assert {row.split for row in told} == {"train"} and len(told) == sum(split == "train" for split in part.values()), "each photo is asked for once"
    assert all(row.targets == (f"{int(row.instruction.split()[-1]):03}.jpg",) and row.reference not in row.targets for row in told)
    assert any("make it" in row.instruction for row in rows) and any("in place of" in row.instruction for row in rows)
    assert triplets_from_captions(photos, seed=1) == rows


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_is_written_at_half_the_size(data: Data, kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    shown = data if kind in TOKEN_READERS else recipe.without_tokens(data)
    model = build(shown.shapes, Config(kind).model()).eval()
    graph, rows = recipe.export(model, shown), np.arange(40)
    matrices = sum(one.weight.numel() for one in model.modules() if type(one) is torch.nn.Linear)
    others = sum(one.numel() for one in model.parameters()) - matrices
    assert len(graph) < 2 * matrices + 4 * others + 60_000
    given = recipe.inputs(shown, shown.val.reference[rows], shown.val.instruction[rows], torch.device("cpu"))
    with torch.no_grad():
        wanted = model(*given).numpy()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    named = dict(zip(("tokens", "pooled", "states", "real", "text"), given, strict=True))
    (got,) = session.run(None, {one.name: named[one.name].numpy() for one in session.get_inputs()})
    assert ((wanted * got).sum(axis=1) > 0.9999).all()


def test_validation_searches_every_photo_of_its_side() -> None:
    rows = [Triplet("a.jpg", "x", ("b.jpg",), split="val"), Triplet("c.jpg", "x", ("d.jpg",), split="train")]
    alone = [Captioned("e.jpg", ("e",), "val"), Captioned("f.jpg", ("f",), "train")]
    row_of = {f"{name}.jpg": i for i, name in enumerate("abcdef")}
    assert searched(rows, alone, row_of).tolist() == [0, 1, 4], "a photo that no triplet names is searched, too"
    assert searched([replace(row, split="") for row in rows], alone, row_of).tolist() == list(range(6))


def test_the_script_as_it_stands_makes_what_ships(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ROOT / "examples/train_composer"
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "triplets", raising=False)
    script = runpy.run_path(str(folder / "train.py"))
    monkeypatch.delitem(sys.modules, "triplets")
    card = packs.find("composer-mini").card
    one = build(Shapes(card.config["embedding"], 0, card.config["state"]), script["SHIPPED"].model())
    assert script["SHIPPED"].kind == card.config["kind"]
    assert script["MEMBERS"] * sum(p.numel() for p in one.parameters()) == card.config["parameters"]
    assert set(script["PARTS"]) | set(script["LIKE"]) | {"no change"} == set(card.figures), "all of it is measured"
    assert [card.figures[part]["gallery"] for part in ("fashion", "edits")] == [453, 1318], "every photo of the validation side is searched"


def test_a_head_is_measured_with_what_a_search_tells_it(data: Data) -> None:
    names = (*data.instructions.names[:2], "c1, without o2", "c1")
    texts = Texts(names, *(np.concatenate([part[:2], part[:2]]) for part in (data.instructions.pooled, data.instructions.states, data.instructions.real)))
    known = replace(data, instructions=texts, wordings={name: i for i, name in enumerate(names)})
    assert as_told(known, np.array([0, 2, 3, 2])).tolist() == [0, 3, 3, 3]
    assert as_told(data, data.val.instruction).tolist() == data.val.instruction.tolist(), "nothing is left out of these"


def test_near_misses_are_never_right(data: Data) -> None:
    found = recipe.near_misses(data)
    assert found.shape == (len(data.train), 2 * recipe.POOL)
    for row in range(0, len(data.train), 97):
        assert not set(found[row].tolist()) & {*data.train.right[row], int(data.train.reference[row])}


# ---------------------------------------------------------------- the modules


def given(size: int = 3, patches: int = 4) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    pooled, text = (torch.nn.functional.normalize(torch.randn(size, WIDTH, generator=generator), dim=-1) for _ in range(2))
    return torch.randn(size, patches, TOKEN, generator=generator), pooled, torch.randn(size, 5, STATE, generator=generator), torch.ones(size, 5), text


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_and_unit_length(kind: str) -> None:
    module = build(Shapes(WIDTH, TOKEN, STATE), ModelConfig(kind, width=32)).eval()
    found = module(*given())
    assert found.shape == (3, WIDTH) and torch.allclose(found.norm(dim=-1), torch.ones(3), atol=1e-5)


@pytest.mark.parametrize("kind", ["transformer", "combiner"])
def test_without_a_correction_it_is_the_plain_sum(kind: str) -> None:
    module = build(Shapes(WIDTH, TOKEN, STATE), ModelConfig(kind, width=32)).eval()
    torch.nn.init.zeros_(module.change.weight)  # type: ignore[union-attr,arg-type]
    torch.nn.init.zeros_(module.change.bias)  # type: ignore[union-attr,arg-type]
    tokens, pooled, states, real, text = given()
    assert torch.allclose(module(tokens, pooled, states, real, text), torch.nn.functional.normalize(pooled + text, dim=-1), atol=1e-6), (
        "the gate starts at one half"
    )


def test_several_composers_as_one_give_the_mean_of_their_queries() -> None:
    members = [build(Shapes(WIDTH, TOKEN, STATE), ModelConfig(kind, width=32)).eval() for kind in ("combiner", "flow")]
    first, last = (one(*given()) for one in members)
    assert torch.allclose(Mean(members)(*given()), torch.nn.functional.normalize((first + last) / 2, dim=-1), atol=1e-6)


def test_the_share_stays_between_photo_and_text() -> None:
    module = SmallCombiner(Shapes(WIDTH, TOKEN, STATE), ModelConfig("combiner"))
    hidden = torch.randn(200, 512) * 30
    torch.nn.init.normal_(module.residual.gate.weight)
    share = torch.sigmoid(module.residual.gate(hidden)).detach()
    assert float(share.min()) >= 0 and float(share.max()) <= 1 and share.std() > 0.1


def test_parameter_counts() -> None:
    counts = {kind: sum(p.numel() for p in build(Shapes(512, 0, 512), ModelConfig(kind)).parameters()) for kind in KINDS}
    assert 1.0e6 < counts["combiner"] < 1.1e6, "the small Combiner of the papers at 512"
    assert 2.0e6 < counts["flow"] < 3.0e6 and counts["transformer"] * 4 < 10e6, "the head fits into 10 MB"


def test_what_is_not_real_is_not_read() -> None:
    module = build(Shapes(WIDTH, TOKEN, STATE), ModelConfig(width=32)).eval()
    tokens, pooled, states, real, text = given()
    real[:, 3:] = 0
    other = states.clone()
    other[:, 3:] = 99.0
    assert torch.allclose(module(tokens, pooled, states, real, text), module(tokens, pooled, other, real, text), atol=1e-5)
    other[:, 2] = 99.0
    assert not torch.allclose(module(tokens, pooled, states, real, text), module(tokens, pooled, other, real, text), atol=1e-3)


def test_the_loss_by_hand() -> None:
    query = torch.eye(2)
    has, none = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.zeros(2, 1)
    loss = ComposerLoss(LossConfig(temperature=1.0))
    alone = loss(query, torch.eye(2), torch.eye(2), has, torch.eye(2), torch.zeros(2, 1, 2), none)
    assert float(alone) == pytest.approx(np.log(1 + np.exp(-1)), abs=1e-5)
    hard = loss(query, torch.eye(2), torch.eye(2), has, torch.eye(2), query[:, None], torch.ones(2, 1))
    assert float(hard) == pytest.approx(np.log(2 + np.exp(-1)), abs=1e-5), "a negative as good as the target"
    twins = loss(query, torch.eye(2), torch.eye(2), has, torch.ones(2, 2), torch.zeros(2, 1, 2), none)
    assert float(twins) == pytest.approx(0.0, abs=1e-5), "a right photo of another row is no negative"
    both = loss(query, torch.eye(2), torch.eye(2), torch.ones(2, 2), torch.eye(2), torch.zeros(2, 1, 2), none)
    assert float(both) == pytest.approx(1.5 * np.log(1 + np.exp(-1)), abs=1e-5)
