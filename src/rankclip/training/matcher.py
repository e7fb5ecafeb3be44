"""Recipe: train the classifier that tells which instructions an adapter answers, by meaning.

Data: instructions with the task and end they ask for ("age+", "age-", ..., "" for none), as many near misses as right ones. A two-layer
perceptron reads three embeddings (the text, what comes first, what comes last) and the text's words; in some rows of a batch the words are blank,
so that words no template holds are read by their meaning. Time: half a minute. Metric: errors on instructions written by hand, words,
grammar and matcher together as `Adapter.match` has them, on the half that did not set the threshold.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from rankclip import scoring
from rankclip.heads.adapter import GRAMS, NONE, Matcher, Task, asked, matcher_input
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
    blank: float = 0.3  # share of rows whose words are blank


@dataclass(frozen=True, slots=True)
class Example:
    text: str
    answer: str  # "age+", "age-", ..., "" for none


def train(examples: Sequence[Example], embed: scoring.Embed, config: Config) -> Matcher:
    """Train on examples; the threshold is set later, by `best_threshold`."""
    runs.seed_all(config.seed)
    classes = (NONE, *sorted({one.answer for one in examples} - {NONE}))
    x = torch.from_numpy(matcher_input([parse(one.text) for one in examples], embed))  # [N, 3D + GRAMS]
    y = torch.tensor([classes.index(one.answer) for one in examples])  # [N]
    weights = 1.0 / torch.bincount(y, minlength=len(classes)).float().sqrt()[y]
    model = nn.Sequential(nn.Linear(x.shape[1], config.hidden), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(config.hidden, len(classes)))
    optimiser = torch.optim.AdamW(runs.decay_groups(model, config.rate, config.decay))
    generator = torch.Generator().manual_seed(config.seed)
    for step in range(config.steps):
        for group in optimiser.param_groups:
            group["lr"] = config.rate * runs.warm_cosine(step, config.steps, warmup=50)
        some = torch.multinomial(weights, config.batch, replacement=True, generator=generator)
        given = x[some]  # [B, 3D + GRAMS]
        given[:, :-GRAMS] += config.noise * ((x.shape[1] - GRAMS) / 3) ** -0.5 * torch.randn(len(some), x.shape[1] - GRAMS, generator=generator)
        given[:, -GRAMS:] *= (torch.rand(len(some), 1, generator=generator) >= config.blank).float()
        value = F.cross_entropy(model(given), y[some], label_smoothing=0.05)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(value)
        optimiser.step()
    first, last = model[0], model[3]
    assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
    inner, bias_inner, outer, bias_outer = (part.detach().numpy().copy() for part in (first.weight.T, first.bias, last.weight.T, last.bias))
    return Matcher(inner, bias_inner, outer, bias_outer, classes, 0.0)


@dataclass(frozen=True, slots=True)
class Judge:
    """Words, grammar and matcher together, as `Adapter.match` asks them. tasks: those that words and grammar may name."""

    matcher: Matcher
    tasks: Sequence[Task]
    embed: scoring.Embed

    def answer(self, text: str) -> tuple[str, float]:
        """The answer ("age+", "" for none) and how sure it is of the best class, whatever the threshold; words and grammar are sure."""
        instruction = parse(text)
        if (named := asked(self.tasks, instruction)) is not None:
            return (f"{named.task.name}{'+' if named.up else '-'}" if named.task else NONE), 1.0
        name, sign, sure = replace(self.matcher, threshold=0.0).read(instruction, self.embed)
        return f"{name}{'+' if sign > 0 else '-'}" if name else NONE, sure

    def answers(self, examples: Sequence[Example]) -> list[tuple[Example, str, float]]:
        return [(one, *self.answer(one.text)) for one in examples]


def errors(found: Sequence[tuple[Example, str, float]], threshold: float) -> list[tuple[Example, str, float]]:
    """Those that are answered wrongly: by another head, from the wrong end, where no answer is due, or not at all where one is."""
    return [(one, answer, sure) for one, answer, sure in found if (answer if sure >= threshold else NONE) != one.answer]


def best_threshold(found: Sequence[tuple[Example, str, float]]) -> float:
    """The threshold with the fewest errors, the highest of several."""
    return float(min(np.arange(0.98, 0.3, -0.02), key=lambda threshold: len(errors(found, float(threshold)))))


def to_bytes(matcher: Matcher) -> bytes:
    """Write `matcher.npz`, matrices in float16."""
    out = io.BytesIO()
    np.savez(out, inner=matcher.inner.astype(np.float16), bias_inner=matcher.bias_inner, outer=matcher.outer, bias_outer=matcher.bias_outer,
                        classes=np.array(matcher.classes), threshold=np.float32(matcher.threshold))  # fmt: skip
    return out.getvalue()
