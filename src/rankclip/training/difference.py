"""The difference recipe: teach the text side what differs between two photos.

Trains a text path of its own for comparing sentences, so that cos(e(sentence), embedding(a) - embedding(b)) > 0 where the sentence is true
of (a, b). Images are never touched: their embeddings come from the store. Data: sentences about pairs of photos, made from captions by
`generator`, written by a language model (`writer`), or given. The recipes, behind one switch:

    map       ours: a matrix on the difference of the sentence's two sides (heads/sides.py), solved by ridge towards a scaled identity,
              then refined by InfoNCE at temperature 0.1; a minute on two cores for 100,000 sentences, most of it the text tower
    whole     the same matrix on the sentence's own embedding, without the reading of its sides
    authors   PC-CLIP as released: InfoNCE at temperature 1, Adam at 1e-8 times 0.9 an epoch, blocks of the text tower only, batch 512
    lowrank   the authors' loss on updates of rank 8 of those blocks
    control   the paper's control: ordinary image-caption InfoNCE on the same blocks, temperature 0.1, rate 1e-6, batch 128

Source: Sam, Willmott, Semedo, Kolter 2025, "Finetuning CLIP to reason about pairwise differences", and its code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from rankclip.backbones.specs import Backbone
from rankclip.backbones.tokens import END, tokenize
from rankclip.errors import InputError, ModelError
from rankclip.registry import load
from rankclip.training import runs
from rankclip.training.models.difference import Map, add_low_rank, averaged, free_only, info_nce, mean_square
from rankclip.training.runs import Team
from rankclip.types import Progress

RECIPES = ("map", "whole", "authors", "lowrank", "control")
ROWS = 16_384  # sentences that are multiplied in double precision at once
MINI_BLOCKS, CLIP_BLOCKS = "blocks", "transformer.resblocks"  # where towers keep their transformer blocks


@dataclass(frozen=True, slots=True)
class Config:
    """Every knob of a run, with the reason for its default."""

    recipe: str = "map"
    loss: str = "infonce"  # or mse: the un-normalised difference as the target
    ridge: float = 1e-3  # of the mean squared input; validation is flat between 1e-2 and 1e-4
    epochs: int = 5
    batch: int = 512
    rate: float = 1e-4
    decay: float = 1e-3  # towards the ridge solution
    temperature: float = 0.1
    fading: float = 1.0  # factor of the rate after each epoch
    average: float = 0.6  # share of the tuned weights, the rest is the original ones: best on validation, and on words that no sentence had
    rank: int = 8  # of the updates of `lowrank`
    tower: str = ""  # safetensors file of the text tower, for a backbone whose package holds graphs only
    pairs: int = 60_000  # pairs that the generator looks at
    each: int = 2  # sentences a pair at most
    rare: int = 120_000  # further pairs, for the facts that are rare (all but presence and relation)
    left_out: str = ""  # words, by commas: sentences that hold one of them are not trained on
    seed: int = 0


# what the switch changes: the released values, which look like typos and are not
PRESETS: dict[str, dict[str, Any]] = {
    "authors": {"epochs": 20, "rate": 1e-8, "fading": 0.9, "temperature": 1.0, "batch": 512, "average": 1.0},
    "lowrank": {"epochs": 5, "rate": 1e-3, "temperature": 0.1, "batch": 256, "average": 1.0},
    "control": {"epochs": 5, "rate": 1e-6, "temperature": 0.1, "batch": 128, "average": 1.0},
}


@dataclass(frozen=True, slots=True)
class Sentences:
    """Sentences about pairs. a, b: int64 [S], rows of the photos; texts: S. The text tells how a differs from b."""

    a: np.ndarray
    b: np.ndarray
    texts: list[str]

    def __len__(self) -> int:
        return len(self.texts)

    def differences(self, photos: np.ndarray) -> np.ndarray:
        """float32 [S, D]: unit embedding of a minus that of b."""
        return photos[self.a] - photos[self.b]


@dataclass(frozen=True, slots=True)
class Data:
    """photos: float32 [N, D], unit rows. captions: (row, text) for the control."""

    photos: np.ndarray
    train: Sentences
    val: Sentences
    captions: list[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run made. matrix: float32 [D, D] for the maps; graph: ONNX bytes for the towers; accuracy: on validation sentences."""

    form: str
    accuracy: float
    untuned: float
    matrix: np.ndarray | None = None
    graph: bytes = b""
    history: tuple[float, ...] = ()


Inputs = Callable[[list[str]], np.ndarray]  # sentences -> float32 [S, D], what the map reads


def checked(config: Config) -> Config:
    """Refuse values that cannot be meant."""
    for name, known in (("recipe", RECIPES), ("loss", ("infonce", "mse"))):
        if getattr(config, name) not in known:
            raise InputError(f"unknown {name} {getattr(config, name)!r}", hint=f"valid: {', '.join(known)}")
    if not 0.0 <= config.average <= 1.0 or not config.temperature > 0 or not config.rate > 0 or config.batch < 2 or config.epochs < 0:
        raise InputError("average must be from 0 to 1, temperature and rate above 0, batch at least 2, epochs not negative")
    if not config.ridge >= 0 or not config.decay >= 0 or config.rank < 1 or min(config.pairs, config.rare, config.each) < 0:
        raise InputError("ridge, decay, pairs, rare and each must not be negative, rank at least 1")
    if config.recipe == "lowrank" and config.average < 1.0:
        raise InputError("recipe=lowrank has no average: a low-rank update has no original weights to mix with", hint="leave average out")
    return config


def train(data: Data, config: Config, folder: Path, *, inputs: Inputs, backbone: Backbone, team: Team, progress: Progress) -> Outcome:
    """Run the recipe; the run's folder keeps checkpoints and a log, and an interrupted run goes on from its last epoch."""
    runs.seed_all(config.seed)
    if config.recipe in ("map", "whole"):
        return train_map(data, config, folder, inputs=inputs, team=team, progress=progress)
    return train_tower(data, config, folder, backbone=backbone, team=team, progress=progress)


# ---------------------------------------------------------------- the map


def ridge(inputs: np.ndarray, targets: np.ndarray, strength: float, *, towards_identity: bool = True) -> np.ndarray:
    """Solve min |x M - y|^2 + strength * mean|x|^2 * |M - s I|^2 in closed form: float64 [D, D].

    inputs, targets: float [S, D]. s: the scale that fits best as a multiple of the identity. strength 0: plain least squares.
    """
    cross, square = np.zeros((inputs.shape[1], targets.shape[1])), np.zeros((inputs.shape[1],) * 2)  # [D, D], [D, D]
    for start in range(0, len(inputs), ROWS):
        x, y = inputs[start : start + ROWS].astype(np.float64), targets[start : start + ROWS].astype(np.float64)
        cross, square = cross + x.T @ y / len(inputs), square + x.T @ x / len(inputs)
    scale = np.trace(cross) / max(np.trace(square), 1e-12) if towards_identity else 0.0
    pull = strength * np.trace(square) / len(square) * len(square) ** 0.5
    eye = np.eye(len(square))
    return np.asarray(np.linalg.solve(square + (pull + 1e-10) * eye, cross + pull * scale * eye))


def train_map(data: Data, config: Config, folder: Path, *, inputs: Inputs, team: Team, progress: Progress) -> Outcome:
    # ---- data
    x, val = inputs(data.train.texts), inputs(data.val.texts)  # float32 [S, D], [V, D]
    y, wanted = data.train.differences(data.photos), data.val.differences(data.photos)  # float32 [S, D], [V, D]
    keep = np.linalg.norm(y, axis=1) > 1e-3  # a photo with itself has no direction
    log = runs.Log(folder / "log.jsonl", team)

    # ---- closed form
    start = ridge(x, y, config.ridge)
    scale = 1.0 / max(float(np.linalg.norm(x @ start, axis=1).mean()), 1e-12)
    model = Map(torch.from_numpy((start * scale).astype(np.float32))).to(team.device)
    best, best_at = model.weight.detach().cpu().numpy().copy(), accuracy(val @ (start * scale), wanted)
    history, first = [best_at], 0
    log.write(step="ridge", accuracy=best_at)

    # ---- refinement
    rows = np.flatnonzero(keep)
    optimiser = torch.optim.Adam(model.parameters(), lr=config.rate)
    if (kept := runs.load(folder / runs.LAST)) is not None:
        model.load_state_dict(kept["model"])
        optimiser.load_state_dict(kept["optimiser"])
        first, history, best, best_at = kept["epoch"], kept["history"], kept["best"].numpy(), max(kept["history"])
    texts, targets = torch.from_numpy(x), torch.from_numpy(y)  # [S, D], [S, D]
    progress.start((config.epochs - first) * (len(rows) // config.batch), "batches")
    for epoch in range(first, config.epochs):
        for group in optimiser.param_groups:
            group["lr"] = config.rate * config.fading**epoch
        for index in batches(len(rows), config, epoch, team):
            places = torch.from_numpy(rows[index.numpy()])
            t, d = model(texts[places].to(team.device)), targets[places].to(team.device)  # [B, D], [B, D]
            loss = info_nce(t, d, config.temperature) if config.loss == "infonce" else mean_square(t, d)
            loss = loss + config.decay * model.distance()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            team.average_gradients(model.parameters())
            optimiser.step()
            progress.advance()
        weight = model.weight.detach().cpu().numpy()
        history.append(accuracy(val @ weight, wanted))
        if history[-1] > best_at:
            best, best_at = weight.copy(), history[-1]
        log.write(epoch=epoch + 1, loss=float(loss.detach()), accuracy=history[-1])
        if team.leads:
            runs.save({"model": model.state_dict(), "optimiser": optimiser.state_dict(), "epoch": epoch + 1, "history": history,
                       "best": torch.from_numpy(best)}, folder / runs.LAST)  # fmt: skip
        team.wait()
    progress.done()
    identity = np.eye(len(best), dtype=np.float32)
    mixed = config.average * best + (1 - config.average) * identity * float(np.trace(best) / len(best))
    return Outcome(config.recipe, accuracy(val @ mixed, wanted), accuracy(val, wanted), matrix=mixed.astype(np.float32), history=tuple(history))


def batches(size: int, config: Config, epoch: int, team: Team) -> list[torch.Tensor]:
    """Split a shuffled epoch into whole batches, this process's share of each."""
    generator = torch.Generator().manual_seed(config.seed * 1_000 + epoch)
    order = torch.randperm(size, generator=generator)
    batch = min(config.batch, size)
    return [order[start : start + batch][team.rank :: team.size] for start in range(0, size - batch + 1, batch)]


def accuracy(directions: np.ndarray, differences: np.ndarray) -> float:
    """Share of sentences whose direction agrees with the photos' difference in sign; an exact zero counts half."""
    products = (directions * differences).sum(axis=1)  # [S]
    return float(((products > 0) + 0.5 * (products == 0)).mean()) if len(products) else float("nan")


# ---------------------------------------------------------------- the text tower


class Tower(nn.Module):
    """A text tower with one output, whatever its architecture: token ids [B, T] -> [B, D]."""

    def __init__(self, inner: nn.Module, context: int, *, clip: bool) -> None:
        super().__init__()
        self.inner, self.context, self.clip = inner, context, clip

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        found = self.inner.encode_text(ids) if self.clip else self.inner(ids)[0]  # type: ignore[operator]
        return nn.functional.normalize(found, dim=-1)

    def blocks(self) -> list[nn.Module]:
        return list(self.inner.get_submodule(CLIP_BLOCKS if self.clip else MINI_BLOCKS).children())

    def ids(self, texts: Sequence[str]) -> torch.Tensor:
        """Token ids, int64 [B, T]; as short as the longest text, but for open_clip's towers, which want the whole context."""
        ids = tokenize(list(texts), context=self.context)
        return torch.from_numpy(ids if self.clip else ids[:, : int((ids == END).argmax(axis=1).max()) + 1])


def open_tower(backbone: Backbone, checkpoint: str) -> Tower:
    """Load a trainable text tower: from a file that `training/models/mini.py` reads, else from open_clip's weights."""
    if checkpoint:
        return Tower(load("rankclip.training.models.mini").read_text_tower(Path(checkpoint)), backbone.context, clip=False)
    if "architecture" not in backbone.extra:
        raise ModelError(f"{backbone.name} ships without a text tower that torch can train", hint="give its weights (--set tower=FILE), or use recipe=map")
    return Tower(load("rankclip.engines.torch_engine").load_towers(backbone).float(), backbone.context, clip=True)


def train_tower(data: Data, config: Config, folder: Path, *, backbone: Backbone, team: Team, progress: Progress) -> Outcome:
    # ---- model
    tower = open_tower(backbone, config.tower).to(team.device)
    original = {name: value.clone() for name, value in tower.state_dict().items()}
    free = add_low_rank(tower, tower.blocks(), config.rank) if config.recipe == "lowrank" else free_only(tower, tower.blocks())
    tower.to(team.device)
    optimiser = torch.optim.Adam(free, lr=config.rate)
    photos = torch.from_numpy(data.photos)  # [N, D]
    wanted = data.val.differences(data.photos)  # [V, D]
    untuned = accuracy(encode(tower, data.val.texts, team), wanted)
    log = runs.Log(folder / "log.jsonl", team)
    history, first = [untuned], 0
    if (kept := runs.load(folder / runs.LAST)) is not None:
        tower.load_state_dict(kept["model"])
        optimiser.load_state_dict(kept["optimiser"])
        first, history = kept["epoch"], kept["history"]

    # ---- loop
    items: Sequence[Any] = data.captions if config.recipe == "control" else range(len(data.train))
    progress.start((config.epochs - first) * max(1, len(items) // config.batch), "batches")
    for epoch in range(first, config.epochs):
        tower.train()
        for group in optimiser.param_groups:
            group["lr"] = config.rate * config.fading**epoch
        for index in batches(len(items), config, epoch, team):
            if config.recipe == "control":
                some = [data.captions[i] for i in index.tolist()]
                texts, targets = [text for _, text in some], photos[[row for row, _ in some]]
            else:
                texts = [data.train.texts[i] for i in index.tolist()]
                targets = photos[data.train.a[index.numpy()]] - photos[data.train.b[index.numpy()]]  # [B, D]
            t = tower(tower.ids(texts).to(team.device))  # [B, D]
            d = targets.to(team.device)
            loss = info_nce(t, d, config.temperature) if config.loss == "infonce" else mean_square(t, d)
            if not team.agree(bool(torch.isfinite(loss))):  # as released: such a batch is passed over
                continue
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            team.average_gradients(free)
            optimiser.step()
            progress.advance()
        history.append(accuracy(encode(tower, data.val.texts, team), wanted))
        log.write(epoch=epoch + 1, accuracy=history[-1])
        if team.leads:
            runs.save({"model": tower.state_dict(), "optimiser": optimiser.state_dict(), "epoch": epoch + 1, "history": history}, folder / runs.LAST)
        team.wait()
    progress.done()
    if config.average < 1.0 and config.recipe != "lowrank":
        tower.load_state_dict(averaged(tower.state_dict(), original, config.average))
    final = accuracy(encode(tower, data.val.texts, team), wanted)
    return Outcome("tower", final, untuned, graph=exported(tower, folder) if team.leads else b"", history=tuple(history))


@torch.inference_mode()
def encode(tower: Tower, texts: Sequence[str], team: Team) -> np.ndarray:
    """Embed texts with the tower in training, float32 [S, D]."""
    tower.eval()
    parts = [tower(tower.ids(texts[i : i + 256]).to(team.device)).cpu().numpy() for i in range(0, len(texts), 256)]
    return np.concatenate(parts) if parts else np.empty((0, 1), np.float32)


def exported(tower: Tower, folder: Path) -> bytes:
    """Return the tower as an ONNX graph: ids [Q, T] -> direction [Q, D]."""
    import warnings

    path = folder / "head.onnx"
    ids = tower.ids(["a photo of a cat"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that traces says that it will go; the other one needs a package more
        torch.onnx.export(tower.cpu().eval(), (ids,), str(path), input_names=["ids"], output_names=["direction"], opset_version=18, dynamo=False,
                          dynamic_axes={"ids": {0: "Q", 1: "T"}, "direction": {0: "Q"}})  # fmt: skip
    return path.read_bytes()


def settings(config: Config) -> dict[str, Any]:
    """The configuration as plain values, for the card and the run's folder."""
    return asdict(config)
