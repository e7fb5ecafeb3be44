"""Recipe: train the ranking-aware adapter on stored features and write it as a head pack.

Data: labelled photos in a store (`LabelFile`); no photo is opened again. Loss: 0.2 log-damped smooth L1 + pairwise cross-entropy, one
instruction a batch. Time: 2,000 faces, width 256, about 5 minutes on two cores. Metric: SRCC on photos that were kept apart by content.
Source: Yu et al., ICLR 2025. Deviations: see `training/models/adapter.py`; learning rate and schedule are ours, labels are standardised for
each instruction, counts are learnt as log2(1 + n), negatives only come from photos whose count is known to be zero.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import tempfile
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rankclip.errors import InputError
from rankclip.evaluation import ranking as metrics
from rankclip.heads.adapter import Task, mixed
from rankclip.heads.kernel import Regression
from rankclip.training import kernels, runs
from rankclip.training.baselines import baselines
from rankclip.training.models.adapter import AdapterFull, AdapterLite, LiteConfig, LossConfig, bradley_terry, loss
from rankclip.training.models.adapter import Config as ModelConfig
from rankclip.training.tasks import CAL, TRAIN, VAL, Data, TaskData
from rankclip.types import Progress, Silent


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of a run; `--set NAME=VALUE` changes them."""

    size: str = "full"  # full (patch tokens) | lite (pooled embedding)
    width: int = 256
    layers: int = 1  # fusion layers, and as many after them: 1 + 1 scores 10,000 photos in 10 s
    prompts: int = 16
    prompt_kind: str = "vector"
    pool: str = "mean"
    pair: bool = True  # the pair branch
    pooled: bool = True  # the pooled embedding as one more token
    facts: bool = True  # the stored pixel facts as one more token: a small input hides sharpness
    kernel: bool = True  # a kernel regression beside the network, mixed at the share that validation prefers
    batch: int = 64
    epochs: int = 30
    steps_an_epoch: int = 0  # 0: as many as go once over the labels
    rate: float = 5e-4
    warmup: int = 100
    decay: float = 0.05
    dropout: float = 0.1
    keep_patches: float = 0.8  # share of the patch tokens shown at a time while training
    noise: float = 0.1  # added to standardised features while training
    negatives: float = 0.2  # share of a counting batch that shows none of the class
    patience: int = 8  # epochs without a better validation SRCC
    validation: float = 0.15
    calibration: float = 0.15
    average: float = 0.99  # of the weights, per step
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run gives: the graph, the tasks with their calibration and figures, and the kernel regressions beside the network, by task."""

    graph: bytes
    tasks: list[Task]
    config: Config
    kernels: dict[str, Regression] = field(default_factory=dict)

    @property
    def report(self) -> dict[str, Any]:
        """The figures of each task."""
        return {task.name: task.figures for task in self.tasks}


# ---------------------------------------------------------------- model


def build_model(data: Data, config: Config) -> AdapterFull | AdapterLite:
    """Make the module and set its input statistics from the training rows."""
    features = data.features
    rows = np.unique(np.concatenate([one.rows[one.of(TRAIN)] if len(one.rows) else np.r_[one.winners, one.losers] for one in data.tasks]))
    facts = features.facts.shape[1] if config.facts and np.isfinite(features.facts[rows]).all() else 0
    if config.size == "lite":
        return AdapterLite(LiteConfig(features.pooled.shape[1], config.width, facts))
    if (features.token_rows[rows] < 0).any():
        raise InputError("the store holds no patch tokens of these photos", hint="run: rankclip embed --tokens --force PATH..., or use --size lite")
    space, text = features.view.space, next(iter(data.states.values()))[0]
    shape = ModelConfig(space.token_width, text.shape[1], config.width, 8, config.layers, config.layers, 4, config.prompts, config.prompt_kind, config.pool,
                        dropout=config.dropout, facts=facts, pooled=features.pooled.shape[1] if config.pooled else 0)  # fmt: skip
    model = AdapterFull(shape)
    tokens = torch.from_numpy(features.tokens(np.random.default_rng(0).permutation(rows)[:2_000]))  # [n, P, W]
    model.fusion.token_mean.copy_(tokens.mean((0, 1)))
    model.fusion.token_std.copy_(tokens.std((0, 1)) + 1e-4)
    if facts:
        model.fusion.fact_mean.copy_(torch.from_numpy(features.facts[rows].mean(axis=0)))
        model.fusion.fact_std.copy_(torch.from_numpy(features.facts[rows].std(axis=0) + 1e-4))
    return model


def inputs(
    data: Data, rows: np.ndarray, instruction: str, config: Config, device: torch.device, rng: np.random.Generator | None = None
) -> tuple[Tensor | None, ...]:
    """Gather what the module reads for some photos and one instruction; rng: with augmentation (training)."""
    features = data.features
    facts = torch.from_numpy(np.nan_to_num(features.facts[rows])).to(device)  # [B, 7]
    pooled = torch.from_numpy(features.pooled[rows]).to(device)  # [B, E]
    if rng is not None and config.noise:
        pooled = pooled + config.noise * pooled.shape[1] ** -0.5 * torch.from_numpy(rng.standard_normal(pooled.shape, np.float32)).to(device)
    if config.size == "lite":
        text = torch.from_numpy(data.texts[instruction])[None].expand(len(rows), -1).to(device)  # [B, E]
        return pooled, text, facts
    tokens = features.tokens(rows)  # [B, P, W]
    if rng is not None and config.keep_patches < 1:
        tokens = tokens[:, np.sort(rng.permutation(tokens.shape[1])[: max(1, round(config.keep_patches * tokens.shape[1]))])]
    states, mask = (torch.from_numpy(part)[None].to(device) for part in data.states[instruction])  # [1, S, V], [1, S]
    return torch.from_numpy(tokens).to(device), states, mask, facts, pooled


# ---------------------------------------------------------------- training


def train(
    data: Data, folder: Path, config: Config, *, loss_config: LossConfig | None = None, team: runs.Team | None = None, progress: Progress | None = None
) -> Outcome:
    """Train with resume; returns the best weights by validation, exported. The run's log, checkpoints and figures go into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    team, progress, loss_config = team or runs.join_team("cpu"), progress or Silent(), loss_config or LossConfig()
    log = runs.Log(folder / "log.jsonl", team)
    runs.seed_all(config.seed)

    # ------------------------------------------------------------ baselines first
    base = {one.task.name: baselines(data, one) for one in data.tasks if len(one.rows)}
    log.write(event="baselines", **base)

    # ------------------------------------------------------------ model and optimiser
    model = build_model(data, config).to(team.device)
    averaged = copy.deepcopy(model).eval()
    optimiser = torch.optim.AdamW(runs.decay_groups(model, config.rate, config.decay), amsgrad=True)
    peaks = [group["lr"] for group in optimiser.param_groups]
    epoch_steps = config.steps_an_epoch or max(10, sum(len(one.of(TRAIN)) for one in data.tasks) // (config.batch * team.size))
    steps, start, best, stale = config.epochs * epoch_steps, 0, -np.inf, 0
    chosen = copy.deepcopy(averaged.state_dict())
    if (state := runs.load(folder / runs.LAST)) is not None:
        model.load_state_dict(state["model"])
        averaged.load_state_dict(state["averaged"])
        optimiser.load_state_dict(state["optimiser"])
        chosen, start, best, stale = state["chosen"], state["epoch"], state["best"], state["stale"]
        torch.set_rng_state(state["random"])
    log.write(
        event="start",
        epoch=start,
        epochs=config.epochs,
        steps_an_epoch=epoch_steps,
        parameters=sum(p.numel() for p in model.parameters()),
        config=asdict(config),
    )
    progress.start(steps - start * epoch_steps, "train")

    # ------------------------------------------------------------ loop
    for epoch in range(start, config.epochs):
        if stale >= config.patience:
            break
        model.train()
        total = 0.0
        for step in range(epoch * epoch_steps, (epoch + 1) * epoch_steps):
            rng = np.random.default_rng([config.seed, step, team.rank])  # a resumed run draws what it would have drawn
            one = data.tasks[pick_task(data.tasks, rng)]
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * runs.warm_cosine(step, steps, warmup=config.warmup)
            value = batch_loss(model, data, one, config, loss_config, team.device, rng)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(value)
            team.average_gradients(model.parameters())
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            average(averaged, model, min(config.average, (1 + step) / (10 + step)))
            total += float(value.detach())
            progress.advance()
        reached = {one.task.name: validate(averaged, data, one, config, team.device) for one in data.tasks}
        mean = float(np.nanmean(list(reached.values())))
        stale = 0 if mean > best else stale + 1
        if mean > best:
            best, chosen = mean, copy.deepcopy(averaged.state_dict())
        log.write(epoch=epoch, loss=total / epoch_steps, mean=mean, **reached)
        progress.note(f"validation SRCC {mean:.3f}, best {best:.3f}")
        if team.leads:
            modules = {"model": model.state_dict(), "averaged": averaged.state_dict(), "optimiser": optimiser.state_dict(), "chosen": chosen}
            runs.save(modules | {"epoch": epoch + 1, "best": best, "stale": stale, "random": torch.get_rng_state()}, folder / runs.LAST)
        team.wait()
    progress.done()

    # ------------------------------------------------------------ calibration, figures, export
    averaged.load_state_dict(chosen)
    averaged.eval()
    done = finish(averaged, data, base, config, team.device)
    log.write(event="done", **{one.task.name: one.task.figures for one in done})
    beside = {one.task.name: one.kernel for one in done if one.kernel is not None}
    return Outcome(export(averaged.cpu(), data, config), [one.task for one in done], config, beside)


def pick_task(tasks: list[TaskData], rng: np.random.Generator) -> int:
    """Draw a task; large ones more often, but only by the square root of their size."""
    sizes = np.sqrt([len(one.of(TRAIN)) + len(one.winners) for one in tasks])
    return int(rng.choice(len(tasks), p=sizes / sizes.sum()))


def batch_loss(model: nn.Module, data: Data, one: TaskData, config: Config, loss_config: LossConfig, device: torch.device, rng: np.random.Generator) -> Tensor:
    """Loss of one batch: one instruction, photos drawn so that every range of values is as likely."""
    if len(one.winners):
        some = rng.choice(np.flatnonzero(one.split == TRAIN), config.batch // 2)
        rows, place = np.unique(np.r_[one.winners[some], one.losers[some]], return_inverse=True)
        score = model(*inputs(data, rows, one.task.instruction, config, device, rng))
        winners, losers = torch.from_numpy(place[: len(some)]), torch.from_numpy(place[len(some) :])
        return bradley_terry(score, winners.to(device), losers.to(device))
    some = draw(one, config, rng)
    wanted = torch.from_numpy(one.task.standardised(one.values[some])).to(device)  # [B]
    given = inputs(data, one.rows[some], one.task.instruction, config, device, rng)
    if not config.pair:
        return loss(model(*given), None, wanted, loss_config)
    score, pair = model.both(*given)  # type: ignore[operator]
    return loss(score, pair, wanted, loss_config)


def draw(one: TaskData, config: Config, rng: np.random.Generator) -> np.ndarray:
    """Positions of a batch: flat over ten ranges of values; in counting, the share `negatives` of it are photos without any."""
    train = one.of(TRAIN)
    none = one.values[train] == 0
    if not (one.task.log2 and config.negatives and none.any() and not none.all()):
        return flat(one, train, config.batch, rng)
    zeros = round(config.negatives * config.batch)
    return np.r_[flat(one, train[none], zeros, rng), flat(one, train[~none], config.batch - zeros, rng)]


def flat(one: TaskData, among: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw positions without repetition so that every range of values is as likely, int64 [at most count]."""
    values = one.task.standardised(one.values[among])
    bins = np.digitize(values, np.linspace(values.min(), values.max() + 1e-6, 11)) - 1
    weights = 1.0 / np.bincount(bins, minlength=10)[bins]
    chosen: np.ndarray = rng.choice(among, min(count, len(among)), replace=False, p=weights / weights.sum())
    return chosen


@torch.no_grad()
def average(into: nn.Module, model: nn.Module, share: float) -> None:
    """Exponential moving average of the weights."""
    for a, b in zip(into.parameters(), model.parameters(), strict=True):
        a.lerp_(b, 1 - share)


@torch.inference_mode()
def predict(model: nn.Module, data: Data, rows: np.ndarray, instruction: str, config: Config, device: torch.device) -> np.ndarray:
    """Scores of some rows, float32 [n], standardised."""
    parts = [model(*inputs(data, rows[i : i + 128], instruction, config, device)).float().cpu().numpy() for i in range(0, len(rows), 128)]
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def validate(model: nn.Module, data: Data, one: TaskData, config: Config, device: torch.device) -> float:
    """Validation SRCC, or for duels twice the share that comes out right minus one (the same scale)."""
    model.eval()
    valid = one.of(VAL)
    if len(one.winners):
        won, lost = (predict(model, data, side[valid], one.task.instruction, config, device) for side in (one.winners, one.losers))
        return float(2 * np.mean(won > lost) - 1)
    return metrics.srcc(one.values[valid], predict(model, data, one.rows[valid], one.task.instruction, config, device))


# ---------------------------------------------------------------- after training


def finish(model: nn.Module, data: Data, base: dict[str, Any], config: Config, device: torch.device) -> list[Completed]:
    """Complete each task: kernel regression, intervals, figures on validation."""
    done = []
    for one in data.tasks:
        if len(one.winners):
            figures = {"pair accuracy": (validate(model, data, one, config, device) + 1) / 2}
            done.append(Completed(dataclasses.replace(one.task, figures=figures), None))
        else:
            scores = predict(model, data, one.rows, one.task.instruction, config, device)
            done.append(completed(one, data, scores, base[one.task.name], config))
    return done


@dataclass(frozen=True, slots=True)
class Completed:
    """A trained task with its intervals and figures, and the kernel regression beside the network; duels have none."""

    task: Task
    kernel: Regression | None


@dataclass(frozen=True, slots=True)
class Fitted:
    """A task's kernel regression without the photos that calibrate, and with them: intervals are those of the first, answers those of the second."""

    apart: Regression
    whole: Regression
    alone: bool = False  # whatever the network would add


def with_calibration(one: TaskData) -> TaskData:
    """The task with the photos that calibrate among those to learn from."""
    return dataclasses.replace(one, split=np.where(one.split == CAL, TRAIN, one.split))


def completed(one: TaskData, data: Data, scores: np.ndarray, base: dict[str, dict[str, float]], config: Config, fitted: Fitted | None = None) -> Completed:
    """Put a kernel regression beside the network (unless `config.kernel` is off), then calibrate and measure.

    scores: float32 [n], the network's, for all rows of the task. Source of the mix: stacking (Wolpert 1992) with one weight.
    """
    if not config.kernel:
        task = calibrated(one, scores)
        return Completed(dataclasses.replace(task, figures=measured(one, task, scores, base)), None)
    pooled, beside = data.features.pooled[one.rows], data.features.measured[one.rows]
    if fitted is None:
        fitted = Fitted(kernels.fit(one, pooled, beside, seed=config.seed), kernels.fit(with_calibration(one), pooled, beside, seed=config.seed))
    apart, whole = (kernel.scores(pooled, beside) for kernel in (fitted.apart, fitted.whole))
    task = dataclasses.replace(one.task, share=0.0 if fitted.alone else kernels.share_of_network(one, scores, whole))
    task = calibrated(dataclasses.replace(one, task=task), mixed(scores, apart, task.share))
    valid = one.of(VAL)
    alone = {name: metrics.srcc(one.values[valid], part[valid]) for name, part in (("network", scores), ("kernel regression", whole))}
    figures = measured(one, task, mixed(scores, whole, task.share), base) | {"SRCC alone": alone, "share of the network": task.share}
    return Completed(dataclasses.replace(task, figures=figures), fitted.whole)


def measured(one: TaskData, task: Task, scores: np.ndarray, base: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Figures of one task on validation, its baselines beside them. scores: float32 [n], for all rows of the task."""
    valid = one.of(VAL)
    y, p, bounds = one.values[valid], task.values(scores[valid]), task.intervals(scores[valid])
    chosen = {name: metrics.METRICS[name] for name in ("SRCC", "PLCC", "MAE")}
    found: dict[str, Any] = {name: asdict(metrics.with_interval(metric, y, p, rounds=300)) for name, metric in chosen.items()}
    strongest = max(base, key=lambda name: np.nan_to_num(base[name]["SRCC"], nan=-1))
    return found | {
        "coverage": metrics.coverage(y, bounds[:, 0], bounds[:, 1]),
        "photos": len(valid),
        "trained on": len(one.of(TRAIN)),
        "baselines": base,
        "best baseline": strongest,
        "beats it": bool(found["SRCC"]["value"] > base[strongest]["SRCC"]),
    }


def calibrated(one: TaskData, scores: np.ndarray) -> Task:
    """Put 80 % half widths into the task: quantiles of |error| over calibration photos, in up to five ranges of the prediction.

    Source: split conformal prediction (Papadopoulos et al. 2002), by range of the prediction (Mondrian).
    """
    rows = one.of(CAL) if len(one.of(CAL)) >= 10 else np.r_[one.of(CAL), one.of(VAL)]
    at = scores[rows] * one.task.spread + one.task.median
    truth = one.task.standardised(one.values[rows]) * one.task.spread + one.task.median
    order = np.argsort(at, kind="stable")
    knots, widths = [], []
    for part in np.array_split(order, max(1, min(5, len(rows) // 40))):
        error = np.sort(np.abs(at[part] - truth[part]))
        knots.append(float(at[part].mean()))
        widths.append(float(error[min(len(error) - 1, int(np.ceil(0.8 * (len(error) + 1))) - 1)]))
    return dataclasses.replace(one.task, knots=tuple(knots), widths=tuple(widths))


class Scorer(nn.Module):
    """What is exported: one instruction (batch of one) for all photos; unused inputs are left out of the graph."""

    def __init__(self, model: AdapterFull | AdapterLite) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, text: Tensor, mask: Tensor, facts: Tensor, pooled: Tensor) -> Tensor:
        if isinstance(self.model, AdapterLite):
            return self.model(pooled, text[:, 0].expand(pooled.shape[0], -1), facts)
        return self.model(tokens, text, mask, facts, pooled)


class LinearScorer(nn.Module):
    """A baseline as a head: pooled . weights + bias."""

    def __init__(self, weights: np.ndarray, bias: float) -> None:
        super().__init__()
        self.weights, self.bias = nn.Parameter(torch.from_numpy(weights)), nn.Parameter(torch.tensor(float(bias)))

    def forward(self, tokens: Tensor, text: Tensor, mask: Tensor, facts: Tensor, pooled: Tensor) -> Tensor:
        return pooled @ self.weights + self.bias


def export(model: nn.Module, data: Data, config: Config) -> bytes:
    """Write the scoring path as ONNX, with some photos as examples of the shapes."""
    one = data.tasks[0]
    rows = (one.rows if len(one.rows) else one.winners)[:5]
    full = config.size == "full"
    tokens = data.features.tokens(rows) if full else np.zeros((len(rows), 1, 1), np.float32)
    states, mask = data.states[one.task.instruction] if full else (data.texts[one.task.instruction][None], np.ones(1, bool))
    return export_graph(model, tokens, states, mask, np.nan_to_num(data.features.facts[rows]), data.features.pooled[rows])


def export_graph(model: nn.Module, tokens: np.ndarray, states: np.ndarray, mask: np.ndarray, facts: np.ndarray, pooled: np.ndarray) -> bytes:
    """Trace with examples: tokens [B, P, W], states [S, V], mask [S], facts [B, 7], pooled [B, E]. Returns the ONNX file."""
    given = tuple(torch.from_numpy(part) for part in (tokens, states[None], mask[None], facts, pooled))
    scorer = model if isinstance(model, LinearScorer) else Scorer(model)  # type: ignore[arg-type]
    axes = {"tokens": {0: "B", 1: "P"}, "text": {1: "S"}, "mask": {1: "S"}, "facts": {0: "B"}, "pooled": {0: "B"}, "score": {0: "B"}}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's remarks on sizes that are fixed here, such as the number of prompt tokens
        path = Path(folder) / "head.onnx"
        torch.onnx.export(scorer.eval(), given, path, input_names=list(axes)[:5], output_names=["score"], dynamic_axes=axes, opset_version=18, dynamo=False)
        return path.read_bytes()


def write_report(outcome: Outcome, folder: Path) -> Path:
    path = folder / "report.json"
    path.write_text(json.dumps({"figures": outcome.report, "config": asdict(outcome.config)}, indent=1) + "\n", encoding="utf-8")
    return path
