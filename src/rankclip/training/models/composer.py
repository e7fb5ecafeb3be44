"""Composers as torch modules: a reference photo and an instruction -> the embedding of the photo that is looked for, in the stored space.

Three of them share one signature, so that they can be measured against each other: a small transformer whose learnable queries read patch
tokens and token states, the Combiner (Baldrati et al. 2022, reduced), and a one-step flow from the text's embedding (FlowCIR, 2026).
`ComposerLoss` is theirs, too. Shape letters: B batch, P patches, T tokens, W and V their widths, H the module's width, K learnable queries,
D embedding width.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KINDS = ("transformer", "combiner", "flow")
TOKEN_READERS = frozenset({"transformer"})  # the others read the two embeddings alone


@dataclass(frozen=True, slots=True)
class Shapes:
    """Widths of what a composer reads; a backbone without patch tokens has token = 0."""

    embedding: int  # D
    token: int  # W
    state: int  # V


@dataclass(frozen=True, slots=True)
class Config:
    kind: str = "transformer"
    width: int = 192  # H
    layers: int = 2
    heads: int = 4
    queries: int = 8  # K
    dropout: float = 0.2


def build(shapes: Shapes, config: Config) -> nn.Module:
    """Make a composer by its kind.

    >>> sum(p.numel() for p in build(Shapes(512, 0, 512), Config("combiner")).parameters())
    1051137
    """
    makers = {"transformer": ComposerTransformer, "combiner": SmallCombiner, "flow": FlowHead}
    return makers[config.kind](shapes, config)


class Residual(nn.Module):
    """What all composers end with: a learnt share of text against photo, plus a learnt correction, normalised."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, 1)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def forward(self, hidden: Tensor, change: Tensor, pooled: Tensor, text: Tensor) -> Tensor:
        """hidden: [B, H]; change, pooled, text: [B, D]. With no change and an open gate this is the plain sum."""
        share = torch.sigmoid(self.gate(hidden))  # [B, 1], in (0, 1)
        return F.normalize(change + share * text + (1 - share) * pooled, dim=-1)


# ---------------------------------------------------------------- the transformer


class ComposerTransformer(nn.Module):
    """Learnable queries read the photo's patch tokens and the instruction's token states, then talk to each other.

    The queries start from both embeddings, so that they know what to look for in the first layer. Reading by cross-attention keeps the cost at
    a few queries instead of all tokens: a tenth of a full transformer over the same tokens.
    """

    def __init__(self, shapes: Shapes, config: Config) -> None:
        super().__init__()
        width = config.width
        self.photo_tokens = nn.Sequential(nn.LayerNorm(shapes.token, elementwise_affine=False), nn.Linear(shapes.token, width)) if shapes.token else None
        self.text_states = nn.Linear(shapes.state, width)
        self.pooled, self.text = nn.Linear(shapes.embedding, width), nn.Linear(shapes.embedding, width)
        self.source = nn.Parameter(torch.randn(4, width) * 0.02)  # patch tokens, photo embedding, token states, text embedding
        self.queries = nn.Parameter(torch.randn(config.queries, width) * 0.02)
        self.place = nn.Parameter(torch.randn(77, width) * 0.02)
        self.layers = nn.ModuleList(Reading(width, config.heads, config.dropout) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.change = nn.Linear(config.queries * width, shapes.embedding)
        self.residual = Residual(config.queries * width)
        nn.init.normal_(self.change.weight, std=0.002)

    def forward(self, tokens: Tensor, pooled: Tensor, states: Tensor, real: Tensor, text: Tensor) -> Tensor:
        """tokens [B, P, W], pooled [B, D], states [B, T, V], real [B, T] (1 where a state is real), text [B, D]. Returns [B, D], unit rows."""
        scale = pooled.shape[-1] ** 0.5  # unit rows have small elements
        words = self.text_states(states) + self.source[2] + self.place[: states.shape[1]]  # [B, T, H]
        one, other = self.pooled(pooled * scale) + self.source[1], self.text(text * scale) + self.source[3]  # [B, H], [B, H]
        parts = [words, one[:, None], other[:, None]]
        seen = [real, torch.ones_like(real[:, :1]), torch.ones_like(real[:, :1])]
        if self.photo_tokens is not None:
            patches = self.photo_tokens(tokens) + self.source[0]  # [B, P, H]
            parts.append(patches)
            seen.append(torch.ones_like(tokens[:, :, 0]))
        memory = torch.cat(parts, dim=1)  # [B, M, H]
        mask = ((1.0 - torch.cat(seen, dim=1)) * -1e9)[:, None, None, :]  # [B, 1, 1, M]
        x = self.queries + (one + other)[:, None]  # [B, K, H]
        for layer in self.layers:
            x = layer(x, memory, mask)
        hidden = self.norm(x).flatten(1)  # [B, K * H]
        return cast(Tensor, self.residual(hidden, self.change(hidden), pooled, text))


class Reading(nn.Module):
    """One layer: queries attend to the memory, to each other, then a feed-forward part; all pre-normalised."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))
        self.across, self.among = Attention(width, heads), Attention(width, heads)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        x = x + self.drop(self.across(self.norms[0](x), self.norms[1](memory), mask))
        own = self.norms[2](x)
        x = x + self.drop(self.among(own, own, None))
        return x + self.drop(self.feed(self.norms[3](x)))


class Attention(nn.Module):
    """Scaled dot-product attention, [B, K, H] over [B, M, H]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key_value, self.out = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
        q = self._split(self.query(x))  # [B, heads, K, H/heads]
        k, v = (self._split(part) for part in self.key_value(memory).chunk(2, dim=-1))  # [B, heads, M, H/heads]
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return cast(Tensor, self.out(found.transpose(1, 2).flatten(2)))

    def _split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)


# ---------------------------------------------------------------- what it is measured against


class SmallCombiner(nn.Module):
    """The Combiner of Baldrati et al. 2022 with p = 256 and h = 512 instead of 4 D and 8 D, on unit embeddings; reads no tokens."""

    def __init__(self, shapes: Shapes, config: Config, side: int = 256, hidden: int = 512) -> None:
        super().__init__()
        width = shapes.embedding
        self.of_text, self.of_photo = nn.Linear(width, side), nn.Linear(width, side)
        self.up, self.change = nn.Linear(2 * side, hidden), nn.Linear(hidden, width)
        self.gate_up = nn.Linear(2 * side, hidden)
        self.residual = Residual(hidden)
        self.drop = nn.Dropout(config.dropout)
        nn.init.normal_(self.change.weight, std=0.002)

    def forward(self, tokens: Tensor, pooled: Tensor, states: Tensor, real: Tensor, text: Tensor) -> Tensor:
        """See `ComposerTransformer`."""
        scale = pooled.shape[-1] ** 0.5
        sides = (self.drop(F.relu(self.of_text(text * scale))), self.drop(F.relu(self.of_photo(pooled * scale))))
        both = torch.cat(sides, dim=-1)  # [B, 2p]
        change = self.change(self.drop(F.relu(self.up(both))))  # [B, D]
        return cast(Tensor, self.residual(self.drop(F.relu(self.gate_up(both))), change, pooled, text))


class FlowHead(nn.Module):
    """One step of a flow from the instruction's embedding to the target's, conditioned on the photo: a residual MLP of four blocks.

    Source: FlowCIR (2607.02284), section 3. Deviation: trained by the one-step end point with this recipe's contrastive loss, beside the
    velocity at random times (`velocity`).
    """

    def __init__(self, shapes: Shapes, config: Config, hidden: int = 512, blocks: int = 4) -> None:
        super().__init__()
        width = shapes.embedding
        self.enter = nn.Linear(2 * width + 1, hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(hidden, hidden))
            for _ in range(blocks)
        )
        self.leave = nn.Linear(hidden, width)
        nn.init.normal_(self.leave.weight, std=0.002)

    def velocity(self, at: Tensor, time: Tensor, pooled: Tensor) -> Tensor:
        """The direction to go from a point.    at, pooled: [B, D]; time: [B, 1] in 0 ... 1. Returns [B, D]."""
        scale = pooled.shape[-1] ** 0.5
        x = self.enter(torch.cat((at * scale, pooled * scale, time), dim=-1))  # [B, hidden]
        for block in self.blocks:
            x = x + block(x)
        return cast(Tensor, self.leave(x))

    def forward(self, tokens: Tensor, pooled: Tensor, states: Tensor, real: Tensor, text: Tensor) -> Tensor:
        """See `ComposerTransformer`."""
        return F.normalize(text + self.velocity(text, torch.zeros_like(text[:, :1]), pooled), dim=-1)


# ---------------------------------------------------------------- several as one, and half the size


class Mean(nn.Module):
    """Composers that were trained apart, their queries averaged: steadier than any of them."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, tokens: Tensor, pooled: Tensor, states: Tensor, real: Tensor, text: Tensor) -> Tensor:
        """See `ComposerTransformer`."""
        queries = torch.stack([member(tokens, pooled, states, real, text) for member in self.members])  # [members, B, D]
        return F.normalize(queries.sum(dim=0), dim=-1)


class HalfLinear(nn.Module):
    """A linear layer whose matrix is kept in half precision and widened where it is used: half the file, the same arithmetic."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", layer.weight.detach().half())  # [out, in]
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Tensor:
        weight = cast(Tensor, self.weight)
        return F.linear(x, weight.to(x.dtype), self.bias)


def halved(model: nn.Module) -> nn.Module:
    """A copy with every `nn.Linear` kept in half precision."""
    copied = copy.deepcopy(model)
    for parent in list(copied.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Linear:
                setattr(parent, name, HalfLinear(child))
    return copied


# ---------------------------------------------------------------- loss


@dataclass(frozen=True, slots=True)
class LossConfig:
    temperature: float = 0.05
    caption_weight: float = 0.5  # of the target's caption beside the target photo


class ComposerLoss(nn.Module):
    """Contrastive loss of the queries against target photos and target captions.

    Every other target of the batch is a negative, and so are the row's reference photo, its original caption and its mined negatives. A
    candidate that is right for a row (`same`) is taken out of that row's negatives.    Source: InstructCIR's second stage (InfoNCE at 0.05 with the
    original caption as hard negative), with the reference photo as a negative (MegaPairs' ablation) and photos as targets, which are ours.
    """

    def __init__(self, config: LossConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, query: Tensor, photos: Tensor, captions: Tensor, has: Tensor, same: Tensor, hard: Tensor, hard_real: Tensor) -> Tensor:
        """query [B, D]; photos, captions [B, D]: targets; has [B, 2]: 1 where a row has a target photo, a target caption; same [B, B]: 1 where
        column j's target is right for row i, too; hard [B, N, D]: negatives of each row; hard_real [B, N]: 1 where there is one."""
        own = torch.einsum("bd,bnd->bn", query, hard) / self.config.temperature + (1 - hard_real) * -1e4  # [B, N]
        total = query.new_zeros(())
        for kind, (targets, weight) in enumerate(((photos, 1.0), (captions, self.config.caption_weight))):
            if weight == 0:
                continue
            logits = query @ targets.T / self.config.temperature  # [B, B]
            eye = torch.eye(len(query), device=query.device, dtype=query.dtype)
            logits = logits + (1 - has[:, kind])[None] * -1e4 + same * (1 - eye) * -1e4
            losses = torch.logsumexp(torch.cat((logits, own), dim=1), dim=1) - logits.diagonal()  # [B]
            total = total + weight * (losses * has[:, kind]).sum() / has[:, kind].sum().clamp(min=1.0)
        return total
