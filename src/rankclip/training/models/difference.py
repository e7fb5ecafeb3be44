"""Losses and modules of the difference recipe. Shape letters: B batch, D embedding width, T tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def info_nce(texts: Tensor, differences: Tensor, temperature: float) -> Tensor:
    """Symmetric InfoNCE between sentences and image differences.

    texts: float [B, D]. differences: float [B, D], unit embedding of the first photo minus that of the second. Both are normalised here.
    Source: Sam et al. 2025 as released: temperature 1, not the model's logit scale.
    """
    logits = F.normalize(texts, dim=-1) @ F.normalize(differences, dim=-1).T / temperature  # [B, B]
    diagonal = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, diagonal) + F.cross_entropy(logits.T, diagonal)) / 2


def mean_square(texts: Tensor, differences: Tensor) -> Tensor:
    """The alternative form: squared distance of the sentence to the difference, which is not normalised."""
    return (texts - differences).square().sum(dim=-1).mean()


class Map(nn.Module):
    """One matrix on text embeddings: [B, D] -> [B, D]."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(start.clone())
        self.register_buffer("start", start.clone())

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight

    def distance(self) -> Tensor:
        """How far the matrix has moved from where it began: what weight decay pulls on."""
        return (self.weight - self.start).square().sum()  # type: ignore[operator]


class LowRank(nn.Module):
    """A linear layer plus an update of low rank that begins at zero.    Source: Hu et al. 2022 (LoRA)."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, base.in_features) / base.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.down.T @ self.up.T


def free_only(tower: nn.Module, blocks: Iterable[nn.Module]) -> list[nn.Parameter]:
    """Freeze a tower but for its transformer blocks; returns what trains. Embeddings, final norm and projection stay as they are."""
    tower.requires_grad_(False)
    free = [parameter for block in blocks for parameter in block.parameters()]
    for parameter in free:
        parameter.requires_grad_(True)
    return free


def add_low_rank(tower: nn.Module, blocks: Iterable[nn.Module], rank: int) -> list[nn.Parameter]:
    """Put a low-rank update beside every linear layer of the blocks; returns what trains."""
    tower.requires_grad_(False)
    free: list[nn.Parameter] = []
    for block in blocks:
        for name, layer in list(block.named_modules()):
            if isinstance(layer, nn.Linear) and not isinstance(layer, nn.modules.linear.NonDynamicallyQuantizableLinear):
                owner_name, _, last = name.rpartition(".")
                update = LowRank(layer, rank)
                setattr(block.get_submodule(owner_name) if owner_name else block, last, update)
                free += [update.down, update.up]
    return free


def averaged(tuned: Mapping[str, Any], original: Mapping[str, Any], share: float) -> dict[str, Any]:
    """Weights between two states: share of the tuned one.    Source: Wortsman et al. 2022 (WiSE-FT)."""
    return {name: share * value + (1 - share) * original[name] if value.is_floating_point() else value for name, value in tuned.items()}
