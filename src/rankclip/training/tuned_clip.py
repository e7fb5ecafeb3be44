"""Baseline: CLIP fine-tuned on the labels, as the adapter's paper compares with.

Photos are pulled towards the caption that names their number ("a photo, age 34 years"), by cross-entropy over ten numbered captions; the answer is
the expectation of the number. What is tuned is the last linear map of both towers, on stored embeddings: the towers themselves stay frozen,
because most of ours are exported graphs, so this is the least that fine-tuning can do. Time: seconds. Metric: SRCC out of fold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from rankclip.evaluation import ranking as metrics
from rankclip.training.baselines import expectation


@dataclass(frozen=True, slots=True)
class Config:
    steps: int = 300
    batch: int = 256
    rate: float = 1e-3
    decay: float = 1e-3  # pull towards the untuned maps
    scale: float = 100.0  # CLIP's, multiplies the cosine
    every: int = 20  # steps between two looks at the photos that choose when to stop
    seed: int = 0


def predictions(x: np.ndarray, y: np.ndarray, train: np.ndarray, valid: np.ndarray, texts: np.ndarray, numbers: np.ndarray, config: Config) -> np.ndarray:
    """Tune on some photos, stop where others are ordered best, and predict all: float64 [N], in the labels' unit.

    x: float32 [N, D], embeddings. y: float64 [N]. train, valid: positions. texts: float32 [C, D], embeddings of the numbered captions.
    numbers: float64 [C].
    """
    photos, captions = torch.from_numpy(x), torch.from_numpy(texts)  # [N, D], [C, D]
    goals = torch.from_numpy(np.abs(y[:, None] - numbers[None]).argmin(axis=1))  # int64 [N]: the nearest number
    maps = [torch.eye(x.shape[1], requires_grad=True) for _ in range(2)]  # of the photos, of the texts: [D, D]
    optimiser = torch.optim.Adam(maps, lr=config.rate)
    rng = np.random.default_rng(config.seed)

    def logits(some: torch.Tensor) -> torch.Tensor:
        return config.scale * F.normalize(some @ maps[0], dim=-1) @ F.normalize(captions @ maps[1], dim=-1).T  # [B, C]

    def answer() -> np.ndarray:
        with torch.no_grad():
            return expectation(logits(photos).numpy().astype(np.float64), numbers)

    best = answer()
    reached = np.nan_to_num(metrics.srcc(y[valid], best[valid]), nan=-1.0)
    for step in range(config.steps):
        some = torch.from_numpy(rng.choice(train, min(config.batch, len(train)), replace=False))
        pull = sum((one - torch.eye(len(one))).square().sum() for one in maps)
        loss = F.cross_entropy(logits(photos[some]), goals[some]) + config.decay * pull
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        if (step + 1) % config.every == 0:
            found = answer()
            srcc = np.nan_to_num(metrics.srcc(y[valid], found[valid]), nan=-1.0)
            if srcc > reached:
                best, reached = found, srcc
    return best
