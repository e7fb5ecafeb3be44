"""Recipe: train a composer head on stored features, stage by stage, and write it as ONNX.

Data: photos with captions (stage 1) and triplets of reference, instruction and target photo or caption (stage 2), all as rows of tables; no photo
is opened. Stage 1 aligns photo and text: (photo, "describe this image") -> its caption. Stage 2 learns the change: target photo and caption
are positives; the reference itself, its caption and mined near misses are negatives. Time: 61,000 triplets, 10 s an epoch on one core by the
combiner; the transformer takes 20 s for 4,300 triplets of 50 patches on two. Metric: R@10 on held-out triplets, the reference left out.
Source: InstructCIR (2412.05756), sections 3.2 and 3.3. Deviations: a small head on frozen towers instead of a language model, photos as
targets beside captions, the reference as a negative (MegaPairs' ablation), mined negatives.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rankclip.errors import InputError
from rankclip.evaluation import composition as metrics
from rankclip.evaluation.composition import Values
from rankclip.evaluation.figure import Figure
from rankclip.training import runs
from rankclip.training.composer_data import BLOCK, HEADLINE, Data, Photos, Triplets, as_told, baselines, measured
from rankclip.training.models import composer as models
from rankclip.training.models.composer import ComposerLoss, LossConfig
from rankclip.types import Progress, Silent

DESCRIBE = (
    "describe this image", "describe this photo", "what does this picture show", "say what is in the photo", "a caption for this image",
    "describe the picture in one sentence", "what is this a photo of", "tell me what you see in this image",
)  # fmt: skip
NEUTRAL = (
    "the same",
    "the same photo",
    "no change",
    "keep everything as it is",
    "more like this",
    "similar photos",
    "leave it unchanged",
    "something like this",
)
POOL = 20  # neighbours from which hard negatives are drawn


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of a run; `--set NAME=VALUE` changes them."""

    kind: str = "combiner"  # best of the three in the same time on a CPU (docs/composition.md) | transformer (reads patch tokens and token states) | flow
    width: int = 192
    layers: int = 2
    heads: int = 4
    queries: int = 8
    dropout: float = 0.3
    align_epochs: int = 4  # stage 1
    epochs: int = 30  # stage 2
    batch: int = 256
    rate: float = 6e-4
    warmup: int = 50
    decay: float = 0.05
    temperature: float = 0.05  # of InstructCIR's loss
    caption_weight: float = 0.5  # of the target's caption beside the target photo
    own_photo: int = 3  # times that the reference itself counts as a hard negative; more keep it further away
    own_caption: bool = True  # what the reference shows, as a hard negative
    mined: int = 2  # near misses drawn for each row: like the photo, or like the text, but not right
    neutral: float = 0.05  # share of a batch that asks for no change
    keep_patches: float = 0.8  # share of the patch tokens shown at a time while training
    noise: float = 0.3  # added to the reference's embedding while training, in units of its mean element
    text_only: bool = False  # no photos: the reference is played by its caption's embedding with noise (after LinCIR)
    average: float = 0.99  # of the weights, per step
    patience: int = 10  # epochs without a better validation figure
    seed: int = 0

    def model(self) -> models.Config:
        return models.Config(self.kind, self.width, self.layers, self.heads, self.queries, self.dropout)

    def loss(self) -> LossConfig:
        return LossConfig(self.temperature, self.caption_weight)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A trained head and its figures.    graph: as ONNX.    values: per-query results of the head and of each baseline on the same validation triplets."""

    model: nn.Module
    graph: bytes
    report: dict[str, Any]
    values: dict[str, Values]
    parameters: int


# ---------------------------------------------------------------- hard negatives


def near_misses(data: Data) -> np.ndarray:
    """Photos that share much with a row's photo or its text, but are not right: int64 [n, 2 * POOL], the first half like the photo.

    A row's right photos and its reference are left out.
    """
    train, gallery = data.train, data.train_gallery
    vectors = data.photos.pooled[gallery]
    column = np.full(len(data.photos.pooled), -1)
    column[gallery] = np.arange(len(gallery))
    found = np.empty((len(train), 2 * POOL), np.int64)
    for start in range(0, len(train), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(train)))
        known = [column[[train.reference[row], *train.right[row]]] for row in rows.tolist()]
        for half, queries in enumerate((data.photos.pooled[train.reference[rows]], data.instructions.pooled[train.instruction[rows]])):
            scores = queries @ vectors.T  # [B, G]
            for place, own in enumerate(known):
                scores[place, own[own >= 0]] = -2.0
            count = min(POOL, len(gallery))
            best = np.argpartition(-scores, count - 1, axis=1)[:, :count]
            found[rows, half * POOL : (half + 1) * POOL] = gallery[np.resize(best.T, (POOL, len(rows))).T]
    return found


# ---------------------------------------------------------------- batches


Given = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # tokens, pooled, states, real, text


@dataclass(frozen=True, slots=True)
class Batch:
    """Everything one step needs: see `ComposerTransformer.forward` and `ComposerLoss.forward`."""

    given: Given
    photos: Tensor
    captions: Tensor
    has: Tensor
    same: Tensor
    hard: Tensor
    hard_real: Tensor


def without_tokens(data: Data) -> Data:
    """The same tables for a composer that reads embeddings alone: copying tokens would take most of a step's time."""
    texts = data.instructions
    return replace(data, photos=Photos(data.photos.pooled, None), instructions=replace(texts, states=texts.states[:, :1], real=texts.real[:, :1]))


def inputs(data: Data, photos: np.ndarray, texts: np.ndarray, device: torch.device) -> Given:
    """What the module reads, without augmentation.    photos, texts: rows, int64 [B]."""
    tokens = np.zeros((len(photos), 1, 1), np.float32) if data.photos.tokens is None else data.photos.tokens[photos].astype(np.float32)
    longest = max(1, int(data.instructions.real[texts].sum(axis=1).max()))
    states, real = data.instructions.states[texts, :longest].astype(np.float32), data.instructions.real[texts, :longest].astype(np.float32)
    parts = (tokens, data.photos.pooled[photos], states, real, data.instructions.pooled[texts])
    return tuple(torch.from_numpy(np.ascontiguousarray(part)).to(device) for part in parts)  # type: ignore[return-value]


def augmented(given: Given, config: Config, rng: np.random.Generator) -> Given:
    """Show some of the patches, and shake the photo's embedding."""
    tokens, pooled, states, real, text = given
    if tokens.shape[1] > 1 and config.keep_patches < 1:
        kept = np.sort(rng.permutation(tokens.shape[1])[: max(1, round(config.keep_patches * tokens.shape[1]))])
        tokens = tokens[:, torch.from_numpy(kept).to(tokens.device)]
    if config.noise:
        shake = torch.from_numpy(rng.standard_normal(tuple(pooled.shape), np.float32)).to(pooled.device)
        pooled = nn.functional.normalize(pooled + config.noise * pooled.shape[1] ** -0.5 * shake, dim=-1)
    return tokens, pooled, states, real, text


def align_batch(data: Data, rows: np.ndarray, config: Config, device: torch.device, rng: np.random.Generator) -> Batch:
    """Stage 1: (photo, "describe this image") -> its caption.    rows: of `described`."""
    photos, captions = data.described[rows].T
    texts = np.array([data.wordings[text] for text in rng.choice(DESCRIBE, len(rows)).tolist()])
    given = augmented(inputs(data, photos, texts, device), config, rng)
    goals = torch.from_numpy(data.captions[captions]).to(device)
    has = torch.tensor([[0.0, 1.0]], device=device).expand(len(rows), 2)
    same = torch.from_numpy((photos[:, None] == photos[None]).astype(np.float32)).to(device)
    none = goals.new_zeros((len(rows), 1, goals.shape[1]))
    return Batch(given, goals, goals, has, same, none, none[..., 0])


def change_batch(data: Data, rows: np.ndarray, misses: np.ndarray, config: Config, device: torch.device, rng: np.random.Generator) -> Batch:
    """Stage 2: rows of `train`; some are turned into "the same" -> the reference itself."""
    some = data.train.some(rows)
    target, instruction, label = drawn(some, rng), some.instruction.copy(), some.label.copy()
    still = rng.random(len(rows)) < config.neutral
    target[still], label[still] = some.reference[still], -1
    instruction[still] = [data.wordings[text] for text in rng.choice(NEUTRAL, int(still.sum())).tolist()]
    given = augmented(inputs(data, some.reference, instruction, device), config, rng)
    caption = np.where(still, -1, some.caption)
    if config.text_only:
        given = played(data, some, given, config, rng)
        target = np.full_like(target, -1)

    def rows_of(table: np.ndarray, index: np.ndarray) -> Tensor:
        return torch.from_numpy(table[np.maximum(index, 0)]).to(device)

    has = torch.from_numpy(np.stack([target >= 0, caption >= 0], axis=1).astype(np.float32)).to(device)
    same = ((label[:, None] == label[None]) & (label[:, None] >= 0)) | ((target[:, None] == target[None]) & (target[:, None] >= 0))
    same |= also_right(some.right, target, len(data.photos.pooled)) & ~still[:, None]
    hard, hard_real = hard_negatives(data, some, misses[rows], still, config, rng)
    return Batch(given, rows_of(data.photos.pooled, target), rows_of(data.captions, caption), has, torch.from_numpy(same.astype(np.float32)).to(device),
                 torch.from_numpy(hard).to(device), torch.from_numpy(hard_real).to(device))  # fmt: skip


def drawn(some: Triplets, rng: np.random.Generator) -> np.ndarray:
    """One of each row's right photos, another one each time: int64 [B], -1 where there is none."""
    shares = rng.random(len(some)).tolist()
    return np.array([right[int(share * len(right))] if right else -1 for right, share in zip(some.right, shares, strict=True)], np.int64)


def also_right(right: Sequence[Sequence[int]], target: np.ndarray, photos: int) -> np.ndarray:
    """Tell whose targets are right for a row, too: bool [B, B].    target: int64 [B], -1 for none."""
    table = np.zeros((len(right), photos + 1), bool)  # the last column stands for no photo
    for row, some in enumerate(right):
        table[row, list(some)] = True
    return table[:, target]


def hard_negatives(
    data: Data, some: Triplets, misses: np.ndarray, still: np.ndarray, config: Config, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Each row's own negatives, float32 [B, N, D], and which of them count, float32 [B, N]: the reference, its caption, near misses."""
    size = len(some)
    rows, real = [], []
    for _ in range(0 if config.text_only else config.own_photo):
        rows.append(data.photos.pooled[some.reference])
        real.append(~still)
    if config.own_caption and len(data.captions):
        rows.append(data.captions[np.maximum(some.original, 0)])
        real.append((some.original >= 0) & ~still)
    for _ in range(0 if config.text_only else config.mined):
        drawn = misses[np.arange(size), rng.integers(0, misses.shape[1], size)]
        rows.append(data.photos.pooled[drawn])
        real.append(~still)
    if not rows:
        return np.zeros((size, 1, data.photos.pooled.shape[1]), np.float32), np.zeros((size, 1), np.float32)
    return np.stack(rows, axis=1), np.stack(real, axis=1).astype(np.float32)


def played(data: Data, some: Triplets, given: Given, config: Config, rng: np.random.Generator) -> Given:
    """Text-only training: the reference's caption with noise stands in for the photo's embedding; patch tokens are blank.

    The noise has one random size a row, as in LinCIR (Gu et al. 2024), section 3.2; the shift from texts to photos is taken from the means.
    """
    if (some.original < 0).any():
        raise InputError("text_only needs what each reference shows, in words ('original' in the triplet file)")
    gap = data.photos.pooled[data.train_gallery].mean(axis=0) - data.captions.mean(axis=0)  # [D]
    size = rng.random((len(some), 1), np.float32)
    shake = rng.standard_normal((len(some), data.captions.shape[1]), np.float32) * data.captions.shape[1] ** -0.5
    pooled = torch.from_numpy((data.captions[some.original] + gap + size * shake).astype(np.float32)).to(given[1].device)
    return torch.zeros_like(given[0]), nn.functional.normalize(pooled, dim=-1), given[2], given[3], given[4]


# ---------------------------------------------------------------- training


def train(  # noqa: PLR0915, a recipe is read in the order in which it runs
    data: Data, folder: Path, config: Config, *, team: runs.Team | None = None, progress: Progress | None = None, base: dict[str, Any] | None = None
) -> Outcome:
    """Train with resume; returns the best weights by validation, exported. Log, checkpoints and figures go into `folder`.

    base: what `baselines(data)` gave, where it is known already.

    Raises InputError when nothing can be learnt or measured.
    """
    check(data, config)
    data = data if config.kind in models.TOKEN_READERS else without_tokens(data)
    folder.mkdir(parents=True, exist_ok=True)
    team, progress = team or runs.join_team("cpu"), progress or Silent()
    if len(data.train) < team.size:
        raise InputError(f"{len(data.train)} training triplets for {team.size} processes", hint="start fewer")
    log = runs.Log(folder / "log.jsonl", team)
    runs.seed_all(config.seed)

    # ------------------------------------------------------------ baselines first
    base = base or baselines(data)
    log.write(event="baselines", **{name: {"strength": strength, HEADLINE: float(values[HEADLINE].mean())} for name, (strength, values) in base.items()})
    progress.note("without training: " + ", ".join(f"{name} {values[HEADLINE].mean():.3f}" for name, (_, values) in base.items()))

    # ------------------------------------------------------------ model and optimiser
    model = models.build(data.shapes, config.model()).to(team.device)
    averaged = copy.deepcopy(model).eval()
    criterion = ComposerLoss(config.loss())
    optimiser = torch.optim.AdamW(runs.decay_groups(model, config.rate, config.decay))
    peaks = [group["lr"] for group in optimiser.param_groups]
    align_steps = max(1, len(data.described) // (config.batch * team.size)) if len(data.described) >= team.size else 0
    change_steps = max(1, len(data.train) // (config.batch * team.size))
    plan = [("align", align_steps)] * config.align_epochs * bool(align_steps) + [("change", change_steps)] * config.epochs
    first_change = config.align_epochs * align_steps
    steps = {"align": first_change, "change": config.epochs * change_steps}
    misses = near_misses(data) if len(data.train) else np.empty((0, 2 * POOL), np.int64)
    start, step, best, stale = 0, 0, -1.0, 0
    chosen = copy.deepcopy(averaged.state_dict())
    if (state := runs.load(folder / runs.LAST)) is not None:
        model.load_state_dict(state["model"])
        averaged.load_state_dict(state["averaged"])
        optimiser.load_state_dict(state["optimiser"])
        chosen, start, step, best, stale = state["chosen"], state["epoch"], state["step"], state["best"], state["stale"]
        torch.set_rng_state(state["random"])
    parameters = sum(p.numel() for p in model.parameters())
    log.write(event="start", epoch=start, plan=len(plan), parameters=parameters, config=asdict(config))
    progress.start(sum(count for _, count in plan) - step, "steps")

    # ------------------------------------------------------------ loop
    for epoch in range(start, len(plan)):
        stage, count = plan[epoch]
        if stale >= config.patience:
            break
        model.train()
        total = 0.0
        order = np.random.default_rng([config.seed, epoch]).permutation(len(data.described) if stage == "align" else len(data.train))
        for number in range(count):
            rng = np.random.default_rng([config.seed, 1 + step, team.rank])  # a resumed run draws what it would have drawn
            rows = order[number * team.size * config.batch :][: team.size * config.batch][team.rank :: team.size]  # this process's share
            batch = align_batch(data, rows, config, team.device, rng) if stage == "align" else change_batch(data, rows, misses, config, team.device, rng)
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * runs.warm_cosine(step - (stage == "change") * first_change, steps[stage], warmup=config.warmup)
            query = model(*batch.given)  # [B, D]
            loss = criterion(query, batch.photos, batch.captions, batch.has, batch.same, batch.hard, batch.hard_real)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            team.average_gradients(model.parameters())
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            average(averaged, model, min(config.average, (1 + step) / (10 + step)))
            total += float(loss.detach())
            step += 1
            progress.advance()
        values = head_values(averaged, data, team.device)
        reached = float(np.mean([values[f"R@{k}"].mean() for k in metrics.TRIPLET_AT]))  # one figure saturates where data are easy
        if stage == "change":
            stale = 0 if reached > best else stale + 1
            if reached > best:
                best, chosen = reached, copy.deepcopy(averaged.state_dict())
        log.write(epoch=epoch, stage=stage, loss=total / count, **{name: float(found.mean()) for name, found in values.items()})
        progress.note(f"{stage} {epoch + 1}: loss {total / count:.3f}, {HEADLINE} {values[HEADLINE].mean():.3f}, mean recall {reached:.3f}")
        if team.leads:
            modules = {"model": model.state_dict(), "averaged": averaged.state_dict(), "optimiser": optimiser.state_dict(), "chosen": chosen}
            runs.save(modules | {"epoch": epoch + 1, "step": step, "best": best, "stale": stale, "random": torch.get_rng_state()}, folder / runs.LAST)
        team.wait()
    progress.done()

    # ------------------------------------------------------------ figures and export
    averaged.load_state_dict(chosen)
    averaged.eval()
    compared = {name: found for name, (_, found) in base.items()} | {"head": head_values(averaged, data, team.device)}
    report = report_of(compared, {name: strength for name, (strength, _) in base.items()})
    log.write(event="done", **report)
    return Outcome(averaged.cpu(), export(averaged, data), report, compared, parameters)


def check(data: Data, config: Config) -> None:
    """Refuse what cannot be learnt or measured, before anything is trained."""
    if config.kind not in models.KINDS:
        raise InputError(f"unknown kind {config.kind!r}", hint=f"valid: {', '.join(models.KINDS)}")
    if len(data.train) < 2:
        raise InputError(f"{len(data.train)} training triplets: nothing can be learnt from so few")
    if not any(data.val.right):
        raise InputError("no validation triplet has a target photo: nothing would show what was learnt", hint="give some triplets with a target photo")


@torch.no_grad()
def average(averaged: nn.Module, model: nn.Module, keep: float) -> None:
    """Move the averaged weights towards the model's."""
    for mine, theirs in zip(averaged.parameters(), model.parameters(), strict=True):
        mine.lerp_(theirs, 1 - keep)


def head_values(model: nn.Module, data: Data, device: torch.device) -> Values:
    """Measure a composer's queries on the validation triplets; as in a search, it is not told what to leave out, which then counts beside its query."""
    vectors = data.photos.pooled[data.gallery]

    def scores(rows: np.ndarray) -> np.ndarray:
        return queries(model, data, data.val.some(rows), device) @ vectors.T

    return measured(data, data.val, data.gallery, scores)


@torch.no_grad()
def queries(model: nn.Module, data: Data, triplets: Triplets, device: torch.device) -> np.ndarray:
    """Compose each row: float32 [n, D]."""
    model.eval()
    told, parts = as_told(data, triplets.instruction), []
    for start in range(0, len(triplets), BLOCK):
        rows = slice(start, start + BLOCK)
        parts.append(model(*inputs(data, triplets.reference[rows], told[rows], device)).cpu().numpy())
    return np.concatenate(parts)


def report_of(values: dict[str, Values], strengths: dict[str, float]) -> dict[str, Any]:
    """Figures with intervals, and the paired difference to the best composer without training."""
    report: dict[str, Any] = {}
    for name, found in values.items():
        figures = {metric: figure_row(metrics.figure(found[metric])) for metric in ("R@1", "R@5", "R@10", "R@50", "reference first")}
        report[name] = figures | ({"strength": strengths[name]} if name in strengths else {})
    best = max((name for name in values if name != "head"), key=lambda name: values[name][HEADLINE].mean())
    report["best without training"] = best
    report["gain"] = figure_row(metrics.difference(values["head"][HEADLINE], values[best][HEADLINE]))
    report["queries"] = len(values["head"][HEADLINE])
    return report


def figure_row(one: Figure) -> dict[str, float]:
    return {"value": round(one.value, 4), "low": round(one.low, 4), "high": round(one.high, 4)}


# ---------------------------------------------------------------- export


def export(model: nn.Module, data: Data) -> bytes:
    """Write the head as ONNX, matrices in half precision, with sizes of batch, patches and tokens left open."""
    rows = np.zeros(2, np.int64)
    given = inputs(data, data.val.reference[rows], data.val.instruction[rows], torch.device("cpu"))
    names = ("tokens", "pooled", "states", "real", "text")
    axes = {"tokens": {0: "B", 1: "P"}, "pooled": {0: "B"}, "states": {0: "B", 1: "T"}, "real": {0: "B", 1: "T"}, "text": {0: "B"}, "query": {0: "B"}}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's remarks on sizes that are fixed here, such as the number of queries
        path = Path(folder) / "head.onnx"
        torch.onnx.export(models.halved(model).eval(), given, str(path), input_names=list(names), output_names=["query"], dynamic_axes=axes, opset_version=18,
                          dynamo=False, do_constant_folding=False)  # folding would widen the matrices again  # fmt: skip
        return path.read_bytes()
