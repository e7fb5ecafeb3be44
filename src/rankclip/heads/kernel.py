"""A kernel regression beside the network: what is near which training photos, by embedding and pixel facts. NumPy only.

A network that learns many tasks from a few thousand labels is smooth where labels are not; a kernel regression is not, and validation says how to mix
them. Source: kernel ridge regression on a sample of the training rows (Nyström; Williams and Seeger 2001).
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

KERNELS = "kernels.npz"
BATCH = 8_192
CONTRAST, SHARPNESS, NOISE = 1, 5, 6  # columns of `PixelFacts`
DETAIL = np.float32(5.0)  # size of the two columns of detail beside the others
FARTHEST = 3.0  # spreads from the mean: a photo with stranger facts counts as one that far away


@dataclass(frozen=True, slots=True)
class Kernel:
    """One task's regression. Rows are [embedding, weighted facts]; without facts (weight 0) the embedding alone.

    centres: int8 [M, D or D + 16], in steps: float32 [D or D + 16]. weights: float32 [M]. gamma: of exp(-gamma |x - c|^2). linear: of x . c beside it.
    fact_mean, fact_std: float32 [16], of `fact_columns`.
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

    def scores(self, pooled: np.ndarray, facts: np.ndarray) -> np.ndarray:
        """Predict, float32 [N], standardised. pooled: float32 [N, D]. facts: float32 [N, 7], NaN where unknown."""
        centres, out = self.centres * self.steps, np.empty(len(pooled), np.float32)
        for start in range(0, len(pooled), BATCH):
            some = slice(start, start + BATCH)
            x = rows(pooled[some], facts[some], self.fact_weight, self.fact_mean, self.fact_std)
            out[some] = similarity(x, centres, self.gamma, self.linear) @ self.weights + self.bias
        return out


def fact_columns(facts: np.ndarray) -> np.ndarray:
    """Pixel facts, their logarithms, and two of detail, float32 [N, 2F + 2]; NaN stays NaN.

    Sharpness without noise: white noise of deviation s gives the Laplacian a variance of 20 s^2, and whatever is above that is detail.
    Sharpness without contrast: a faint picture has small differences that are no blur.
    """
    contrast, sharpness, noise = facts[:, CONTRAST], facts[:, SHARPNESS], facts[:, NOISE]
    beyond_noise = sharpness - np.log10(1 + 20 * (255 * np.maximum(noise, 0)) ** 2)
    beyond_contrast = sharpness - 2 * np.log10(1 + 255 * np.maximum(contrast, 0))
    return np.concatenate([facts, np.log10(np.maximum(facts, 0) + 1e-3), beyond_noise[:, None], beyond_contrast[:, None]], axis=1).astype(np.float32)


def rows(pooled: np.ndarray, facts: np.ndarray, weight: float, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Join embedding and standardised facts, float32 [N, D + 16 or D]; unknown facts lie in the middle."""
    if not weight:
        return pooled
    columns = np.nan_to_num(np.clip((fact_columns(facts)[:, : len(mean)] - mean) / std, -FARTHEST, FARTHEST))  # packs of before had none of detail
    columns[:, 2 * facts.shape[1] :] *= DETAIL
    return np.concatenate([pooled, columns * np.float32(weight / columns.shape[1] ** 0.5)], axis=1).astype(np.float32)


def similarity(x: np.ndarray, centres: np.ndarray, gamma: float, linear: float) -> np.ndarray:
    """exp(-gamma |x - c|^2) + linear x . c for all pairs, [N, M] in the inputs' type."""
    products = x @ centres.T
    distances = (x**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1)[None] - 2 * products
    found: np.ndarray = np.exp(-gamma * np.maximum(distances, 0)) + linear * products
    return found


def to_bytes(kernels: Mapping[str, Kernel]) -> bytes:
    """Write `kernels.npz`: every field of every task's kernel under "task/field"; an array that an earlier task holds, too, as the name that it has there."""
    out = io.BytesIO()
    found: dict[str, np.ndarray] = {}
    names: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    for task, kernel in kernels.items():
        for one in fields(Kernel):
            value = np.asarray(getattr(kernel, one.name))
            known = names.setdefault((value.dtype.str, value.shape, value.tobytes()), f"{task}/{one.name}") if value.size > 1 else ""
            found[f"{task}/{one.name}"] = np.array(known) if known and known in found else value
    np.savez(out, **found)  # type: ignore[arg-type]
    return out.getvalue()


def read_bytes(data: bytes) -> dict[str, Kernel]:
    """Read kernels by task, as `to_bytes` writes them."""
    with np.load(io.BytesIO(data), allow_pickle=False) as found:
        plain = {name: found[name].item() if found[name].ndim == 0 else found[name] for name in found.files}
    plain = {name: plain[value] if isinstance(value, str) else value for name, value in plain.items()}
    tasks = dict.fromkeys(name.rpartition("/")[0] for name in plain)
    return {task: Kernel(**{one.name: plain[f"{task}/{one.name}"] for one in fields(Kernel)}) for task in tasks}
