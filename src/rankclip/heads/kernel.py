"""A kernel regression beside the network: what is near which training photos, by embedding, pixel facts and inner stages of the tower. NumPy only.

A network that learns many tasks from a few thousand labels is smooth where labels are not; a kernel regression is not, and validation says how to mix
them. Source: kernel ridge regression on a sample of the training rows (Nyström; Williams and Seeger 2001).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple

import numpy as np

from rankclip.types import PixelFacts

KERNELS = "kernels.npz"
BATCH = 8_192
CONTRAST, SHARPNESS, NOISE = 1, 5, 6  # columns of `PixelFacts`
DETAIL = np.float32(5.0)  # size of the two columns of detail beside the others
FARTHEST = 3.0  # spreads from the mean: a photo with stranger facts counts as one that far away
FACTS = len(PixelFacts.__slots__)  # columns of pixel facts; behind them are those of the stages


class Scale(NamedTuple):
    """How large some columns are beside the embedding, which has size one (0: left out), and what they are standardised by: float32 [C] each."""

    weight: float
    mean: np.ndarray
    std: np.ndarray


@dataclass(frozen=True, slots=True)
class Kernel:
    """One task's regression. Rows are [embedding, weighted facts, weighted stages]; what has weight 0 is left out.

    centres: int8 [M, C], in steps: float32 [C], C = D + 16 + S or less. weights: float32 [M]. gamma: of exp(-gamma |x - c|^2). linear: of x . c beside it.
    fact_mean, fact_std: float32 [16], of `fact_columns`. stage_mean, stage_std: float32 [S].
    """

    centres: np.ndarray
    steps: np.ndarray
    weights: np.ndarray
    bias: float
    gamma: float
    linear: float
    fact_weight: float
    fact_mean: np.ndarray
    fact_std: np.ndarray
    stage_weight: float = 0.0
    stage_mean: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    stage_std: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))

    def scores(self, pooled: np.ndarray, measured: np.ndarray) -> np.ndarray:
        """Predict, float32 [N], standardised. pooled: float32 [N, D]. measured: float32 [N, 7 + S or 7], pixel facts and stages, NaN where unknown."""
        facts, stages = Scale(self.fact_weight, self.fact_mean, self.fact_std), Scale(self.stage_weight, self.stage_mean, self.stage_std)
        centres, out = self.centres * self.steps, np.empty(len(pooled), np.float32)
        for start in range(0, len(pooled), BATCH):
            some = slice(start, start + BATCH)
            x = rows(pooled[some], measured[some], facts, stages)
            out[some] = similarity(x, centres, self.gamma, self.linear) @ self.weights + self.bias
        return out


@dataclass(frozen=True, slots=True)
class Sum:
    """Regressions whose predictions add up."""

    parts: tuple[Kernel, ...]

    def scores(self, pooled: np.ndarray, measured: np.ndarray) -> np.ndarray:
        """See `Kernel`."""
        return np.asarray(np.sum([part.scores(pooled, measured) for part in self.parts], axis=0), np.float32)


Regression = Kernel | Sum


def mean(*shared: tuple[float, Kernel]) -> Sum:
    """Join regressions, each with its share of the answer."""
    return Sum(tuple(replace(kernel, weights=np.float32(share) * kernel.weights, bias=share * kernel.bias) for share, kernel in shared))


def fact_columns(facts: np.ndarray) -> np.ndarray:
    """Pixel facts, their logarithms, and two of detail, float32 [N, 2F + 2]; NaN stays NaN.

    Sharpness without noise: white noise of deviation s gives the Laplacian a variance of 20 s^2, and whatever is above that is detail.
    Sharpness without contrast: a faint picture has small differences that are no blur.
    """
    contrast, sharpness, noise = facts[:, CONTRAST], facts[:, SHARPNESS], facts[:, NOISE]
    beyond_noise = sharpness - np.log10(1 + 20 * (255 * np.maximum(noise, 0)) ** 2)
    beyond_contrast = sharpness - 2 * np.log10(1 + 255 * np.maximum(contrast, 0))
    return np.concatenate([facts, np.log10(np.maximum(facts, 0) + 1e-3), beyond_noise[:, None], beyond_contrast[:, None]], axis=1).astype(np.float32)


def rows(pooled: np.ndarray, measured: np.ndarray, facts: Scale, stages: Scale) -> np.ndarray:
    """Join embedding, standardised facts and standardised stages, float32 [N, C]; what is unknown lies in the middle.

    pooled: float32 [N, D]. measured: float32 [N, 7 + S or 7].
    """
    parts = [pooled]
    if facts.weight:
        columns = standardised(fact_columns(measured[:, :FACTS])[:, : len(facts.mean)], facts)  # packs of before had none of detail
        columns[:, 2 * FACTS :] *= DETAIL
        parts.append(columns)
    if stages.weight:
        seen = measured[:, FACTS:] if measured.shape[1] > FACTS else np.full((len(measured), len(stages.mean)), np.nan, np.float32)
        parts.append(standardised(seen, stages))
    return np.concatenate(parts, axis=1).astype(np.float32)


def standardised(columns: np.ndarray, scale: Scale) -> np.ndarray:
    """Columns of mean 0 and spread 1, none far out, all of them together of size `weight`: float32 [N, C]."""
    plain = np.nan_to_num(np.clip((columns - scale.mean) / scale.std, -FARTHEST, FARTHEST))
    return np.asarray(plain * np.float32(scale.weight / columns.shape[1] ** 0.5), np.float32)


def similarity(x: np.ndarray, centres: np.ndarray, gamma: float, linear: float) -> np.ndarray:
    """exp(-gamma |x - c|^2) + linear x . c for all pairs, [N, M] in the inputs' type."""
    products = x @ centres.T
    distances = (x**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1)[None] - 2 * products
    found: np.ndarray = np.exp(-gamma * np.maximum(distances, 0)) + linear * products
    return found


def to_bytes(regressions: Mapping[str, Regression]) -> bytes:
    """Write `kernels.npz`: every field of every task's kernel under "task/field"; an array that an earlier task holds, too, as the name that it has there.

    The second kernel of a sum is "task#1/field".
    """
    out = io.BytesIO()
    found: dict[str, np.ndarray] = {}
    names: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    for task, kernel in named(regressions):
        for one in fields(Kernel):
            value = np.asarray(getattr(kernel, one.name))
            known = names.setdefault((value.dtype.str, value.shape, value.tobytes()), f"{task}/{one.name}") if value.size > 1 else ""
            found[f"{task}/{one.name}"] = np.array(known) if known and known in found else value
    np.savez(out, **found)  # type: ignore[arg-type]
    return out.getvalue()


def named(regressions: Mapping[str, Regression]) -> Iterator[tuple[str, Kernel]]:
    """Yield all kernels with the names that they have in a file."""
    for task, regression in regressions.items():
        parts = regression.parts if isinstance(regression, Sum) else (regression,)
        yield from ((f"{task}#{number}" if number else task, part) for number, part in enumerate(parts))


def read_bytes(data: bytes) -> dict[str, Regression]:
    """Read regressions by task, as `to_bytes` writes them."""
    with np.load(io.BytesIO(data), allow_pickle=False) as found:
        plain = {name: found[name].item() if found[name].ndim == 0 else found[name] for name in found.files}
    plain = {name: plain[value] if isinstance(value, str) else value for name, value in plain.items()}
    known = [one.name for one in fields(Kernel)]  # packs of before have none of the stages
    parts: dict[str, list[Kernel]] = {}
    for task in dict.fromkeys(name.rpartition("/")[0] for name in plain):
        kernel = Kernel(**{name: plain[f"{task}/{name}"] for name in known if f"{task}/{name}" in plain})
        parts.setdefault(task.partition("#")[0], []).append(kernel)
    return {task: found[0] if len(found) == 1 else Sum(tuple(found)) for task, found in parts.items()}
