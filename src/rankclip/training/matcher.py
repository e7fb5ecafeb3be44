"""Recipe: train the classifier that tells which instructions an adapter answers, by meaning.

Data: instructions with the task and end they ask for ("age+", "age-", ..., "" for none), as many near misses as right ones. A two-layer
perceptron reads three embeddings: the text, what comes first and what comes last. Time: half a minute. Metric: errors on instructions
written by hand, on the half that did not set the threshold.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from rankclip import scoring
from rankclip.heads.adapter import NONE, Matcher, matcher_input
from rankclip.instructions import parse
from rankclip.training import runs


@dataclass(frozen=True, slots=True)
class Config:
    seed: int = 0
    hidden: int = 128
    steps: int = 1_500
    batch: int = 256
    rate: float = 2e-3
    decay: float = 0.05
    dropout: float = 0.3
    noise: float = 0.3  # of the embeddings' own size: words that no template holds must still be near
    most_wrong: float = 0.02  # share of hand-written instructions that may be answered wrongly; sets the threshold


@dataclass(frozen=True, slots=True)
class Example:
    text: str
    answer: str  # "age+", "age-", ..., "" for none


def train(examples: Sequence[Example], embed: scoring.Embed, config: Config) -> Matcher:
    """Train on examples; the threshold is set later by `with_threshold`."""
    runs.seed_all(config.seed)
    classes = (NONE, *sorted({one.answer for one in examples} - {NONE}))
    x = torch.from_numpy(matcher_input([parse(one.text) for one in examples], embed))  # [N, 3D]
    y = torch.tensor([classes.index(one.answer) for one in examples])  # [N]
    weights = 1.0 / torch.bincount(y, minlength=len(classes)).float().sqrt()[y]
    model = nn.Sequential(nn.Linear(x.shape[1], config.hidden), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(config.hidden, len(classes)))
    optimiser = torch.optim.AdamW(runs.decay_groups(model, config.rate, config.decay))
    generator = torch.Generator().manual_seed(config.seed)
    for step in range(config.steps):
        for group in optimiser.param_groups:
            group["lr"] = config.rate * runs.warm_cosine(step, config.steps, warmup=50)
        some = torch.multinomial(weights, config.batch, replacement=True, generator=generator)
        noise = config.noise * (x.shape[1] / 3) ** -0.5 * torch.randn(len(some), x.shape[1], generator=generator)
        value = F.cross_entropy(model(x[some] + noise), y[some], label_smoothing=0.05)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(value)
        optimiser.step()
    first, last = model[0], model[3]
    assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
    inner, bias_inner, outer, bias_outer = (part.detach().numpy().copy() for part in (first.weight.T, first.bias, last.weight.T, last.bias))
    return Matcher(inner, bias_inner, outer, bias_outer, classes, 0.0)


def answers(matcher: Matcher, texts: Sequence[str], embed: scoring.Embed) -> list[tuple[str, float]]:
    """What the matcher makes of each text: the answer ("age+", "" for none) and how sure it is of the best class, whatever the threshold."""
    free = Matcher(matcher.inner, matcher.bias_inner, matcher.outer, matcher.bias_outer, matcher.classes, 0.0)
    found = [free.read(parse(text), embed) for text in texts]
    return [(f"{name}{'+' if sign > 0 else '-'}" if name else NONE, sure) for name, sign, sure in found]


def with_threshold(matcher: Matcher, examples: Sequence[Example], embed: scoring.Embed, config: Config) -> Matcher:
    """Take the least threshold at which few enough of the examples are answered by the wrong head; a silence where a head should answer is milder."""
    found = answers(matcher, [one.text for one in examples], embed)
    for threshold in np.arange(0.3, 0.99, 0.01):
        wrong = sum(answer not in (NONE, one.answer) and sure >= threshold for one, (answer, sure) in zip(examples, found, strict=True))
        if wrong <= config.most_wrong / 2 * len(examples):
            break
    return Matcher(matcher.inner, matcher.bias_inner, matcher.outer, matcher.bias_outer, matcher.classes, float(threshold))


def error_rate(matcher: Matcher, examples: Sequence[Example], embed: scoring.Embed) -> float:
    """Share of examples with a wrong answer: another head, the wrong end, an answer where none is due, or none where one is."""
    found = answers(matcher, [one.text for one in examples], embed)
    given = [answer if sure >= matcher.threshold else NONE for answer, sure in found]
    return float(np.mean([answer != one.answer for answer, one in zip(given, examples, strict=True)]))


def to_bytes(matcher: Matcher) -> bytes:
    """Write `matcher.npz`, matrices in float16."""
    out = io.BytesIO()
    np.savez_compressed(out, inner=matcher.inner.astype(np.float16), bias_inner=matcher.bias_inner, outer=matcher.outer, bias_outer=matcher.bias_outer,
                        classes=np.array(matcher.classes), threshold=np.float32(matcher.threshold))  # fmt: skip
    return out.getvalue()
