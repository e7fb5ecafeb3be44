"""The ranking-aware adapter in torch: A-full on patch tokens, A-lite on pooled embeddings, the pair branch, the losses.

Source: Yu, Lin, Yang, Tsai, "Ranking-aware adapter for text-driven image ordering with CLIP" (ICLR 2025). Where we differ: prompt tokens are real
[T, D] parameters (the released scalars cannot learn: LayerNorm removes them), tokens are averaged and not summed, padding is masked, every
matrix is initialised, the pair branch runs in its factorised form. `Config.released(D)` keeps the released architecture as the reference.

Shape letters: B photos, P patch tokens, W their width, S text tokens, V their width, T prompt tokens, D adapter width, H heads, Q relational tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SINK_COPIES = 32  # the released code repeats its learnable scalar tokens so often


@dataclass(frozen=True, slots=True)
class Config:
    """Shape of an adapter; saved as the header of its checkpoint."""

    token_width: int  # W
    text_width: int  # V
    width: int = 256  # D
    heads: int = 8
    fusion_layers: int = 1
    post_layers: int = 1
    mlp_ratio: int = 4
    prompts: int = 16  # T
    prompt_kind: str = "vector"  # vector | sink | none | scalar (as released)
    pool: str = "mean"  # mean | sum (as released)
    relational: int = 16  # Q
    pair_layers: int = 3
    pair_head: str = "mlp"  # mlp | odd
    dropout: float = 0.1
    facts: int = 0  # pixel facts read as one more token
    pooled: int = 0  # width of the pooled embedding read as one more token, 0: none
    project: bool = True  # map tokens and text to D; not as released, where the towers give D
    masked: bool = True  # padding is no key; not as released

    @classmethod
    def released(cls, width: int) -> Config:
        """The architecture as the authors' code builds it (spec: 18,150,434 parameters at D = 512, 40,791,586 at 768)."""
        return cls(width, width, width, 8, 2, 2, 4, SINK_COPIES, "scalar", "sum", 16, 3, "mlp", 0.1, 0, 0, project=False, masked=False)


class MLP(nn.Sequential):
    def __init__(self, width: int, ratio: int) -> None:
        super().__init__(nn.Linear(width, ratio * width), nn.GELU(), nn.Linear(ratio * width, width))


class Attention(nn.Module):
    """Multi-head attention whose keys may have a batch of one, so that an instruction is projected once for all photos."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads = config.heads
        self.query, self.key, self.value, self.out = (nn.Linear(config.width, config.width) for _ in range(4))

    def forward(self, x: Tensor, keys: Tensor, bias: Tensor | None = None) -> Tensor:
        """x: [B, P, D]. keys: [B or 1, S, D]. bias: added to the logits, [B or 1, 1, 1, S]. Returns [B, P, D]."""
        q, k, v = (self._split(into(rows)) for into, rows in ((self.query, x), (self.key, keys), (self.value, keys)))  # [B, H, n, d]
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])  # [B, H, P, S]
        weights = (scores if bias is None else scores + bias).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.heads, x.shape[-1] // self.heads).transpose(1, 2)  # [B, n, D] -> [B, H, n, d]


class SelfBlock(nn.Module):
    """Pre-norm block: image tokens among themselves."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.attention = Attention(config)
        self.mlp = MLP(config.width, config.mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)  # [B, P, D]
        x = x + self.attention(y, y)
        return x + self.mlp(self.norm2(x))


class CrossBlock(nn.Module):
    """Pre-norm block: image tokens read the instruction."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.norm1, self.norm_text, self.norm2 = nn.LayerNorm(config.width), nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.attention = Attention(config)
        self.mlp = MLP(config.width, config.mlp_ratio)

    def forward(self, x: Tensor, text: Tensor, bias: Tensor | None) -> Tensor:
        x = x + self.attention(self.norm1(x), self.norm_text(text), bias)  # [B, P, D]
        return x + self.mlp(self.norm2(x))


class Fusion(nn.Module):
    """Image tokens [B, P, W] read text tokens [B, S, V]; returns [B, P, D]."""

    token_mean: Tensor
    token_std: Tensor
    fact_mean: Tensor
    fact_std: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width = config.width
        # of the training photos; buffers, so that they travel with the weights
        for name, size in (("token", config.token_width), ("fact", config.facts)) if config.project else ():
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))
        self.image_in = nn.Linear(config.token_width, width) if config.project else nn.Identity()
        self.text_in = nn.Linear(config.text_width, width) if config.project else nn.Identity()
        self.facts_in = nn.Linear(config.facts, width) if config.facts else None
        self.pooled_in = nn.Linear(config.pooled, width) if config.pooled else None
        shape = {"vector": (config.prompts, width), "sink": (1, width), "scalar": (1, config.prompts), "none": (0, width)}[config.prompt_kind]
        std = config.prompts**-0.5 if config.prompt_kind == "scalar" else 0.02
        self.prompts = nn.Parameter(torch.randn(shape) * std)
        self.selves = nn.ModuleList([SelfBlock(config) for _ in range(config.fusion_layers)])
        self.crosses = nn.ModuleList([CrossBlock(config) for _ in range(config.fusion_layers)])
        self.norm = nn.LayerNorm(width)
        self.out = nn.Parameter(torch.randn(width, width) * width**-0.5)  # released: left uninitialised

    def forward(self, tokens: Tensor, text: Tensor, mask: Tensor, facts: Tensor | None = None, pooled: Tensor | None = None) -> Tensor:
        """tokens: [B, P, W]. text: [B or 1, S, V]. mask: bool [B or 1, S], True where a text token is real. facts: [B, 7]. pooled: [B, E]."""
        x = self._image(tokens, facts, pooled)  # [B, P, D]
        prompts = self._prompts()  # [T, D]
        keys = torch.cat([prompts.expand(text.shape[0], -1, -1), self.text_in(text)], dim=1)  # [B, T + S, D]
        bias = self._bias(mask, prompts.shape[0])
        for alone, across in zip(self.selves, self.crosses, strict=True):
            x = across(alone(x), keys, bias)
        return self.norm(x) @ self.out

    def _image(self, tokens: Tensor, facts: Tensor | None, pooled: Tensor | None) -> Tensor:
        """Map patch tokens, pixel facts and pooled embedding to tokens of the adapter: [B, P + 0..2, D]."""
        parts = [self.image_in((tokens - self.token_mean) / self.token_std if self.config.project else tokens)]
        if self.facts_in is not None:
            assert facts is not None
            parts.append(self.facts_in(((facts - self.fact_mean) / self.fact_std).clamp(-4, 4))[:, None])
        if self.pooled_in is not None:
            assert pooled is not None
            parts.append(self.pooled_in(pooled * pooled.shape[-1] ** 0.5)[:, None])
        return torch.cat(parts, dim=1)

    def _prompts(self) -> Tensor:
        if self.config.prompt_kind == "scalar":
            return self.prompts.T.expand(-1, self.config.width)  # each scalar copied over the channels
        return self.prompts

    def _bias(self, mask: Tensor, prompts: int) -> Tensor | None:
        """What is added to the attention's logits, [B, 1, 1, T + S]."""
        if not self.config.masked:
            return None
        text = torch.zeros(mask.shape, dtype=self.out.dtype, device=mask.device).masked_fill(~mask, float("-inf"))
        sink = math.log(SINK_COPIES) if self.config.prompt_kind == "sink" else 0.0
        return torch.cat([text.new_full((mask.shape[0], prompts), sink), text], dim=1)[:, None, None]


class Regression(nn.Module):
    """Tokens [B, P, D] -> one number a photo, [B]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, self.pool = config.width, config.pool
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, 1)
        )

    def forward(self, z: Tensor) -> Tensor:
        z = self.norm(z)  # [B, P, D]
        pooled = z.sum(1) if self.pool == "sum" else z.mean(1)  # [B, D]
        out: Tensor = self.mlp(pooled)[:, 0]
        return out


class Pairs(nn.Module):
    """Ranking-aware attention over all ordered pairs: tokens [B, P, D] -> logits of "row above column", [B, B]. Only for training.

    The queries do not depend on the photos and the joint softmax's denominator is a sum over two photos, so with the log-sum-exp l_i and the
    attention pooling m_i of each photo, g_ij = sigmoid(l_i - l_j) gives O_ij = g_ij m_i - (1 - g_ij) m_j exactly. `literal` is the released form.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, self.heads, self.kind = config.width, config.heads, config.pair_head
        self.relational = nn.Parameter(torch.randn(config.relational, width) * width**-0.5)
        self.query, self.key, self.out = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)
        self.norm_query, self.norm_key = nn.LayerNorm(width), nn.LayerNorm(width)
        layers = [part for _ in range(config.pair_layers) for part in (nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU())]
        self.head = nn.Sequential(nn.LayerNorm(width), *layers, nn.Linear(width, 1)) if config.pair_head == "mlp" else OddHead(config)

    def forward(self, z: Tensor) -> Tensor:
        share, pooled, level = self.gates(z)
        if self.kind == "odd":
            return self.head(share, pooled, level)
        return self.head(self._differences(share, pooled))[..., 0]

    def gates(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns g [B, B, H, Q], m [B, H, Q, d], l [B, H, Q]."""
        q = self._split(self.norm_query(self.query(self.relational)))  # [H, Q, d]
        u = self._split(self.norm_key(self.key(z)))  # [B, H, P, d]
        scores = torch.einsum("hqd,bhpd->bhqp", q, u) / math.sqrt(q.shape[-1])  # [B, H, Q, P]
        level = scores.logsumexp(-1)  # [B, H, Q]
        pooled = scores.softmax(-1) @ u  # [B, H, Q, d]
        return torch.sigmoid(level[:, None] - level[None]), pooled, level

    def _differences(self, share: Tensor, pooled: Tensor) -> Tensor:
        """Sum over queries, then the output map: [B, B, D]. sum_q g_ijq m_iq - (1 - g_ijq) m_jq."""
        first = torch.einsum("ijhq,ihqd->ijhd", share, pooled)  # [B, B, H, d]
        second = torch.einsum("ijhq,jhqd->ijhd", 1 - share, pooled)
        joined = (first - second).flatten(2)  # [B, B, D]
        return F.linear(joined, self.out.weight, len(self.relational) * self.out.bias)

    def literal(self, z: Tensor) -> Tensor:
        """The same by copying the keys of both photos for every pair, as the released code does: memory grows with B^2 P D."""
        size, patches, width = z.shape
        u = self.norm_key(self.key(z))  # [B, P, D]
        first = u[:, None].expand(-1, size, -1, -1).reshape(size * size, patches, width)
        second = u[None].expand(size, -1, -1, -1).reshape(size * size, patches, width)
        both = self._split(torch.cat([first, second], dim=1))  # [B*B, H, 2P, d]
        q = self._split(self.norm_query(self.query(self.relational)))  # [H, Q, d]
        weights = (torch.einsum("hqd,nhpd->nhqp", q, both) / math.sqrt(q.shape[-1])).softmax(-1)  # [B*B, H, Q, 2P]
        seen = weights[..., :patches] @ both[:, :, :patches] - weights[..., patches:] @ both[:, :, patches:]  # [B*B, H, Q, d]
        rows = self.out(seen.transpose(1, 2).flatten(2)).sum(1)  # [B*B, D]
        return self.head(rows).view(size, size)

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.heads, x.shape[-1] // self.heads).transpose(-2, -3)  # [.., n, D] -> [.., H, n, d]


class OddHead(nn.Module):
    """a_ij = w . O_ij + v . (l_i - l_j): odd by construction, so that P(i above j) = 1 - P(j above i)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        each = config.width // config.heads
        self.content = nn.Parameter(torch.randn(config.heads, config.relational, each) * config.width**-0.5)
        self.level = nn.Parameter(torch.full((config.heads, config.relational), 1.0 / (config.heads * config.relational)))

    def forward(self, share: Tensor, pooled: Tensor, level: Tensor) -> Tensor:
        """share: [B, B, H, Q]. pooled: [B, H, Q, d]. level: [B, H, Q]. Returns [B, B]."""
        read = torch.einsum("bhqd,hqd->bhq", pooled, self.content)  # [B, H, Q]
        difference = share * read[:, None] - (1 - share) * read[None]  # [B, B, H, Q]
        return (difference + (level[:, None] - level[None]) * self.level).sum((-1, -2))


class AdapterFull(nn.Module):
    """Tokens and instruction -> score; the pair branch only while training."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.fusion = Fusion(config)
        self.post = nn.ModuleList(
            [nn.TransformerEncoderLayer(config.width, config.heads, config.width, config.dropout, batch_first=True) for _ in range(config.post_layers)]
        )
        self.regression = Regression(config)
        self.pairs = Pairs(config)
        self.apply(_initialise)

    def features(self, tokens: Tensor, text: Tensor, mask: Tensor, facts: Tensor | None = None, pooled: Tensor | None = None) -> Tensor:
        """Return text-conditioned tokens, [B, P, D]."""
        z: Tensor = self.fusion(tokens, text, mask, facts, pooled)
        for layer in self.post:
            z = layer(z)
        return z

    def forward(self, tokens: Tensor, text: Tensor, mask: Tensor, facts: Tensor | None = None, pooled: Tensor | None = None) -> Tensor:
        """Return scores, [B]."""
        score: Tensor = self.regression(self.features(tokens, text, mask, facts, pooled))
        return score

    def both(self, tokens: Tensor, text: Tensor, mask: Tensor, facts: Tensor | None = None, pooled: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return scores [B] and pair logits [B, B]."""
        z = self.features(tokens, text, mask, facts, pooled)
        return self.regression(z), self.pairs(z)


def _initialise(module: nn.Module) -> None:
    """Xavier for the regression head's and all other matrices; attention keeps torch's own, which is the same."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


# ---------------------------------------------------------------- A-lite


@dataclass(frozen=True, slots=True)
class LiteConfig:
    """Shape of an A-lite."""

    embedding: int  # width of the pooled embedding
    width: int = 256
    facts: int = 0


class AdapterLite(nn.Module):
    """Pooled embedding x and instruction embedding t -> score: h = [x, t, x * t], two layers, an odd pair head. About 0.4 M parameters."""

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        self.config = config
        self.enter = nn.Linear(3 * config.embedding + config.facts, config.width)
        self.inner = nn.Linear(config.width, config.width)
        self.norm = nn.LayerNorm(config.width)
        self.out = nn.Linear(config.width, 1)
        self.pair_in, self.pair_out = nn.Linear(config.width, config.width, bias=False), nn.Linear(config.width, 1, bias=False)

    def features(self, pooled: Tensor, text: Tensor, facts: Tensor | None = None) -> Tensor:
        """pooled, text: [B, E]. Returns [B, D]."""
        scale = self.config.embedding**0.5  # unit rows have entries near E^-1/2; LayerNorm comes only later
        parts = [scale * pooled, scale * text, scale**2 * pooled * text] + ([facts] if facts is not None and self.config.facts else [])
        return self.norm(self.inner(F.gelu(self.enter(torch.cat(parts, dim=-1)))))

    def forward(self, pooled: Tensor, text: Tensor, facts: Tensor | None = None) -> Tensor:
        """Return scores, [B]."""
        return self.out(self.features(pooled, text, facts))[:, 0]

    def both(self, pooled: Tensor, text: Tensor, facts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return scores [B] and pair logits [B, B], odd in (i, j)."""
        z = self.features(pooled, text, facts)
        score = self.out(z)[:, 0]
        difference = self.pair_in(z[:, None] - z[None])  # [B, B, D]
        return score, score[:, None] - score[None] + self.pair_out(difference.relu() - (-difference).relu())[..., 0]


# ---------------------------------------------------------------- losses


@dataclass(frozen=True, slots=True)
class LossConfig:
    """Weights and forms of the loss. Source: spec section 5; `released()` is the authors' form."""

    regression: float = 0.2
    rank: float = 1.0
    present: float = 0.0  # BCE on "is it there at all", off in the published command
    ties: str = "drop"  # drop | half | below (as released: a tie counts as "not above" both ways)
    diagonal: bool = False
    soft: float = 0.25  # pairs nearer than this (in standardised units) weigh less; 0: all weigh the same

    @classmethod
    def released(cls) -> LossConfig:
        return replace(cls(), ties="below", diagonal=True, soft=0.0)


def loss(score: Tensor, pair: Tensor | None, wanted: Tensor, config: LossConfig) -> Tensor:
    """Log-damped smooth L1 of the scores, and binary cross-entropy of all ordered pairs. score, wanted: [B]. pair: [B, B] or None."""
    total = config.regression * torch.log1p(F.smooth_l1_loss(score, wanted))
    if config.present:
        total = total + config.present * F.binary_cross_entropy_with_logits(score, (wanted != 0).to(score.dtype))
    if pair is not None and config.rank:
        total = total + config.rank * pair_loss(pair, wanted, config)
    return total


def pair_loss(pair: Tensor, wanted: Tensor, config: LossConfig) -> Tensor:
    """Cross-entropy over ordered pairs, weighted by how far apart they should be."""
    gap = wanted[:, None] - wanted[None]  # [B, B]
    target = (gap > 0).to(pair.dtype)
    weight = torch.ones_like(pair) if not config.soft else (gap.abs() / config.soft).clamp(max=1.0)
    if config.ties == "half":
        target, weight = torch.where(gap == 0, torch.full_like(target, 0.5), target), torch.where(gap == 0, torch.ones_like(weight), weight)
    elif config.ties == "drop":
        weight = torch.where(gap == 0, torch.zeros_like(weight), weight)
    if not config.diagonal:
        weight = weight * (1 - torch.eye(len(pair), dtype=pair.dtype, device=pair.device))
    each = F.binary_cross_entropy_with_logits(pair, target, reduction="none")
    return (weight * each).sum() / weight.sum().clamp(min=1e-6)


def bradley_terry(score: Tensor, winners: Tensor, losers: Tensor) -> Tensor:
    """Mean of -log P(winner above loser), P = sigmoid(score_w - score_l). winners, losers: int64 [K], positions in score [B].

    Source: Bradley and Terry 1952.
    """
    return F.softplus(score[losers] - score[winners]).mean()
