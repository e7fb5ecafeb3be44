"""Stage "evaluate": the figures of the model card, measured on the shipped graphs, with 95 % intervals by bootstrap over photos."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

import evaluate
import export
import inference
from image import Corpus

SPEED_BATCH, SPEED_ROUNDS = 32, 12


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    value: float
    low: float = float("nan")
    high: float = float("nan")

    def __str__(self) -> str:
        return f"{self.name:45} {self.value:8.3f}" + ("" if np.isnan(self.low) else f"   [{self.low:.3f}, {self.high:.3f}]")


def bootstrap(values: np.ndarray, measure: Callable[[np.ndarray], float], rounds: int = 500) -> tuple[float, float]:
    """95 % interval of a measure over resampled rows (positions are handed to `measure`)."""
    rng = np.random.default_rng(0)
    found = [measure(rng.integers(len(values), size=len(values))) for _ in range(rounds)]
    return float(np.percentile(found, 2.5)), float(np.percentile(found, 97.5))


def retrieval(images: np.ndarray, examples: list, embed: evaluate.EmbedTexts) -> list[Figure]:
    """Recalls on the reference gallery; intervals resample the photos whose captions ask."""
    owner = np.array([i for i, e in enumerate(examples) for _ in e.texts])
    texts = embed([text for e in examples for text in e.texts])
    scores = texts @ images.T  # [C, N]
    better = (scores > scores[np.arange(len(owner)), owner][:, None]).sum(axis=1)  # rank of the right photo, from 0
    best = np.array([(scores.T[i] > scores.T[i][owner == i].max()).sum() for i in range(len(examples))])
    figures = []
    per_photo = [np.flatnonzero(owner == i) for i in range(len(examples))]
    for k in (1, 5, 10):
        hits = better < k
        low, high = bootstrap(best, lambda some, hits=hits: 100 * float(np.concatenate([hits[per_photo[i]] for i in some]).mean()), 200)
        figures.append(Figure(f"text to image R@{k}", 100 * float(hits.mean()), low, high))
    for k in (1, 5, 10):
        hit = best < k
        figures.append(Figure(f"image to text R@{k}", 100 * float(hit.mean()), *bootstrap(hit, lambda some, hit=hit: 100 * float(hit[some].mean()))))
    return figures


def top1(name: str, images: np.ndarray, labels: np.ndarray, table: np.ndarray) -> Figure:
    right = (images @ table.T).argmax(axis=1) == labels
    return Figure(name, 100 * float(right.mean()), *bootstrap(right, lambda some: 100 * float(right[some].mean())))


# ---------------------------------------------------------------- what the tokens hold


class TokenHead(nn.Module):
    """The small attention head of the measurement: two transformer layers over the tokens, mean, one value."""

    def __init__(self, width: int, inside: int = 256, layers: int = 2) -> None:
        super().__init__()
        self.enter = nn.Linear(width, inside)
        self.places = nn.Parameter(torch.randn(1, 49, inside) * 0.02)
        layer = nn.TransformerEncoderLayer(inside, 4, 2 * inside, 0.1, "gelu", batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.out = nn.Sequential(nn.LayerNorm(inside), nn.Linear(inside, 1))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.out(self.body(self.enter(tokens) + self.places).mean(1))[:, 0]


def read_tokens(train: np.ndarray, y: np.ndarray, test: np.ndarray, *, epochs: int = 30, seed: int = 0) -> np.ndarray:
    """Fit the small head with smooth L1 and a pair loss; returns predictions for `test`, averaged with its mirrored tokens."""
    torch.manual_seed(seed)
    centre, spread = y.mean(), y.std()
    x = torch.from_numpy(train.astype(np.float32))
    mean, deviation = x.mean((0, 1)), x.std((0, 1)) + 1e-3
    x, wanted = (x - mean) / deviation, torch.from_numpy(((y - centre) / spread).astype(np.float32))
    head = TokenHead(x.shape[-1])
    optimiser = torch.optim.AdamW(head.parameters(), 5e-4, weight_decay=0.05)
    steps = epochs * len(x) // 64
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=steps + 1)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        some = rng.choice(len(x), 64, replace=False)
        batch = x[some]
        if rng.random() < 0.5:
            batch = batch.unflatten(1, (7, 7)).flip(2).flatten(1, 2)  # the mirrored photo's tokens, nearly
        got, aim = head(batch), wanted[some]
        pairs = nn.functional.binary_cross_entropy_with_logits(2 * (got[:, None] - got[None]), (aim[:, None] > aim[None]).float())
        loss = nn.functional.smooth_l1_loss(got, aim) + 0.3 * pairs
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    head.eval()
    z = (torch.from_numpy(test.astype(np.float32)) - mean) / deviation
    with torch.inference_mode():
        both = (head(z) + head(z.unflatten(1, (7, 7)).flip(2).flatten(1, 2))) / 2
    return both.numpy() * spread + centre


def ages(corpus: Corpus, session, size: int, packs: tuple[str, ...] = ("utkface",)) -> list[Figure]:
    """Age on UTKFace's validation split: ridge on the embedding, and the small head on the tokens."""
    train, valid = corpus.split("train", *packs), corpus.split("val", "utkface")
    (pooled, tokens), (pooled_v, tokens_v) = (export.run_image(session, corpus.plain(some, size)) for some in (train, valid))
    y, y_v = (np.array([100 * corpus.examples[i].values["age"] for i in some]) for some in (train, valid))
    figures = []
    for name, got in (
        ("age, ridge on the embedding", evaluate.ridge(pooled, y, pooled_v, 0.01)),
        ("age, small head on the tokens", read_tokens(tokens, y, tokens_v)),
    ):
        error = np.abs(got - y_v)
        figures.append(Figure(f"{name}: SRCC", evaluate.spearman(got, y_v), *bootstrap(y_v, lambda some, got=got: evaluate.spearman(got[some], y_v[some]))))
        figures.append(Figure(f"{name}: MAE (years)", float(error.mean()), *bootstrap(error, lambda some, error=error: float(error[some].mean()))))
    return figures


# ---------------------------------------------------------------- parity and speed


def parity(folder: Path, views: np.ndarray, texts: list[str]) -> list[Figure]:
    """How far the shipped int8 graphs are from the float ones."""
    small, full = (export.run_image(export.session(folder / name), views) for name in (inference.INFERENCE, "image_fp32.onnx"))
    some, every = (export.run_text(export.session(folder / name), texts) for name in (export.TEXT, "text_fp32.onnx"))
    flat = [np.asarray(tokens, np.float32).reshape(len(views), -1) for tokens in (small[1], full[1])]
    agree = (flat[0] * flat[1]).sum(-1) / np.linalg.norm(flat[0], axis=-1) / np.linalg.norm(flat[1], axis=-1)
    return [Figure("image tower, int8 to fp32: mean cosine", float((small[0] * full[0]).sum(-1).mean())),
            Figure("image tower, int8 to fp32: smallest cosine", float((small[0] * full[0]).sum(-1).min())),
            Figure("tokens, int8 to fp32: mean cosine", float(agree.mean())), Figure("text tower, int8 to fp32: mean cosine", float((some * every).sum(-1).mean()))]  # fmt: skip


def speed(folder: Path, views: np.ndarray, threads: int = 2) -> list[Figure]:
    """Photos a second without decoding, and one query, warm and cold (best of several: the machine is shared)."""
    began = time.perf_counter()
    text = export.session(folder / export.TEXT, threads)
    export.run_text(text, ["older faces first"])
    cold = time.perf_counter() - began
    warm = min(_timed(lambda: export.run_text(text, ["older faces first"])) for _ in range(20))
    image = export.session(folder / inference.INFERENCE, threads)
    batch = views[:SPEED_BATCH]
    best = min(_timed(lambda: image.run(None, {"pixels": batch})) for _ in range(SPEED_ROUNDS))
    return [
        Figure("image tower, photos/s, batch 32, 2 threads", len(batch) / best),
        Figure("one query, warm (ms)", 1e3 * warm),
        Figure("one query, cold (ms)", 1e3 * cold),
    ]


def _timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


# ---------------------------------------------------------------- null calibration


def null_calibration(images: np.ndarray, texts: np.ndarray) -> tuple[float, float]:
    """Mean and spread of the cosine between photos and sentences that are not about them."""
    scores = texts @ images.T
    return float(scores.mean()), float(scores.std())
