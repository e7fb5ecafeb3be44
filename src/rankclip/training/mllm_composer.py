"""Recipe: tune a multimodal language model as composer, in two stages, and keep what was learnt as a LoRA.

Data: photos with captions (stage 1) and triplets of photo, instruction and target caption (stage 2), the photo's own caption as hard negative.
Stage 1 aligns photos and texts: a photo -> its caption. Stage 2 learns the change: photo and instruction -> the target's caption, and not the
original one, with some of stage 1 mixed in. Both use the same loss, cross-entropy over cosines at temperature 0.05 against all captions of the
batch. In stage 2 a query is held against the batch's photos alone, too, where some show what it asks for: by captions only, queries and photos are
free in every direction that no caption takes, and a query stays near photos like the one it came from. The language model learns through LoRA;
vision tower and projector stay as they are. Metric: recall on held-out triplets, over photos where they have targets.
Source: InstructCIR (2412.05756), section 3.2, and the loss of its released code; gradient caching: Gao et al. 2021 (2101.06983). Deviations: a
text that a batch names twice is one column, so that it is never its own negative; stage 2 keeps some of stage 1, and its photos are targets as
well; LoRA's size, rates and lengths, which are not published, are ours.

Shape letters: B photos of a step, M different texts of a step, N = B + M, D embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from rankclip.backbones import checkpoints
from rankclip.engines import mllm_engine
from rankclip.engines.mllm_engine import MllmEngine
from rankclip.errors import InputError, ModelError
from rankclip.evaluation import composition as metrics
from rankclip.evaluation.composition import Values
from rankclip.evaluation.triplets import Triplet
from rankclip.photos.decode import DecodeOptions, decode
from rankclip.training import runs
from rankclip.types import Progress, Silent

LANGUAGE = r"language_model\..*_proj"  # the layers that learn; the vision tower has some of the same name elsewhere
KEPT = 1_024  # decoded photos in memory
READERS = 4  # threads that decode
AT_ONCE = 64  # photos decoded together for validation


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of a run; `--set NAME=VALUE` changes them."""

    align_epochs: int = 1  # stage 1
    epochs: int = 3  # stage 2
    batch: int = 256  # photos of a step, over all processes; gradient caching makes its size independent of memory
    mix: float = 0.25  # of stage 1's rows beside a batch of stage 2, so that photos alone stay near their captions
    photos: float = 1.0  # weight of the photos among these that show what a triplet asks for, as targets beside the captions; 0: captions only
    part: int = 8  # prompts in memory at once
    rate: float = 1e-4
    warmup: int = 50  # steps
    decay: float = 0.0
    temperature: float = 0.05
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05
    checkpointing: bool = True  # of activations: a third more time for a fraction of the memory
    save_every: int = 50  # steps between checkpoints
    patience: int = 2  # epochs of stage 2 without a better validation figure
    merge: bool = False  # write the whole model with what it learnt, too
    seed: int = 0


LEAST = {"align_epochs": 0, "epochs": 0, "batch": 2, "mix": 0, "photos": 0, "part": 1, "warmup": 0, "decay": 0, "rank": 1, "alpha": 1, "dropout": 0,
         "save_every": 1, "patience": 1}  # fmt: skip


def check_settings(config: Config) -> None:
    """Refuse settings that cannot be meant, all of them at once. Raises InputError."""
    wrong = [f"{name} must be at least {least}" for name, least in LEAST.items() if not getattr(config, name) >= least]
    wrong += [f"{name} must be above 0" for name in ("rate", "temperature") if not getattr(config, name) > 0]
    wrong += ["dropout must be below 1"] if config.dropout >= 1 else []
    wrong += ["epochs or align_epochs must be above 0"] if config.epochs == config.align_epochs == 0 else []
    if wrong:
        raise InputError(f"--set: {', '.join(wrong)}", hint="docs/mllm.md says what each setting is")


@dataclass(frozen=True, slots=True)
class Row:
    """One example. instruction: empty in stage 1. original: what the photo itself shows, the hard negative, or empty."""

    photo: Path
    instruction: str
    caption: str
    original: str


@dataclass(frozen=True, slots=True)
class Data:
    """What a run learns from. align, change: the stages' examples. val: held-out triplets, paths below `root`."""

    align: tuple[Row, ...]
    change: tuple[Row, ...]
    val: tuple[Triplet, ...]
    root: Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """The files of the trained LoRA, its validation figures before and after, and how many parameters learnt."""

    files: dict[str, bytes]
    report: dict[str, Any]
    parameters: int


# ---------------------------------------------------------------- one step


@dataclass(frozen=True, slots=True)
class Step:
    """Photos with instructions, the different texts they are held against, and which of these is right for each: int64 [B].

    alone: bool [B], the photos without an instruction.
    """

    rows: tuple[Row, ...]
    texts: tuple[str, ...]
    own: np.ndarray
    alone: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Step:
        texts = tuple(dict.fromkeys([*(row.caption for row in rows), *(row.original for row in rows if row.original)]))
        own = np.array([texts.index(row.caption) for row in rows], np.int64)
        return cls(tuple(rows), texts, own, np.array([not row.instruction for row in rows]))


def contrast(embeddings: Tensor, own: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of each query over all texts of the step.    embeddings: [B + M, D], unit rows, queries first.    own: int64 [B]."""
    queries, texts = embeddings[: len(own)], embeddings[len(own) :]
    return F.cross_entropy(queries @ texts.T / temperature, own)


def contrast_photos(embeddings: Tensor, own: Tensor, alone: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of each query over the step's photos alone; right are all that show its caption, and a query that has none counts nothing.

    embeddings: [B + M, D], unit rows.    own: int64 [B].    alone: bool [B].    Returns the mean over all queries, 0 without photos or queries.
    """
    photos, queries = (embeddings[: len(own)][one] for one in (alone, ~alone))
    right = own[~alone][:, None] == own[alone]  # [Q, P]
    asked = right.any(dim=1)
    logits = queries[asked] @ photos.T / temperature
    return (logits.logsumexp(dim=1) - logits.masked_fill(~right[asked], -torch.inf).logsumexp(dim=1)).sum() / max(1, len(queries))


Part = dict[str, Any]
Forward = Callable[[Part], Tensor]


def cached_backward(parts: Sequence[Part], forward: Forward, loss_of: Callable[[Tensor], Tensor], seed: int, size: int = 1) -> Tensor:
    """Gradients of a loss over all parts together, with at most `size` prompts' activations in memory at a time; returns the loss.

    First every part is embedded without gradients, then the loss says what each embedding should change, then each part is run again for its own
    weights' share; the last parts, as many as fit together, are run only once. Dropout falls the same in both passes.
    Source: Gao et al. 2021, section 3.2.
    """

    def run(number: int) -> Tensor:
        torch.manual_seed(seed + number)
        return forward(parts[number])

    once = fitting(parts, size)
    with torch.no_grad():
        found = [run(number) for number in range(once)]
    kept = [run(number) for number in range(once, len(parts))]
    leaf = torch.cat([*found, *(one.detach() for one in kept)]).requires_grad_()
    loss = loss_of(leaf)
    loss.backward()
    assert leaf.grad is not None
    shares = leaf.grad.split([len(one) for one in (*found, *kept)])
    torch.autograd.backward(kept, list(shares[once:]))
    kept.clear()
    for number in range(once):
        run(number).backward(shares[number])
    return loss.detach()


def fitting(parts: Sequence[Part], size: int) -> int:
    """The first of the last parts that hold at most `size` prompts together; at least the last one does."""
    counts = np.array([len(part["input_ids"]) for part in parts])
    return min(len(parts) - 1, int((counts[::-1].cumsum()[::-1] > size).sum()))


def parts_of(engine: MllmEngine, step: Step, pixels: Callable[[Sequence[Path]], np.ndarray], size: int, team: runs.Team) -> tuple[list[Part], Tensor]:
    """This process' share of a step, in parts, and where its embeddings belong: int64 [n] of B + M."""
    count = len(step.rows)
    mine = np.arange(team.rank, count + len(step.texts), team.size)
    photos, texts = mine[mine < count], mine[mine >= count] - count
    parts = []
    for index in slices(photos, size):
        rows = [step.rows[i] for i in index.tolist()]
        prompts = [mllm_engine.QUERY.format(engine.clean(row.instruction)) if row.instruction else mllm_engine.PHOTO for row in rows]
        inputs = engine.tokenized([engine.chat(prompt, photo=True) for prompt in prompts], pixels([row.photo for row in rows]))
        parts.append(engine.seen(inputs))
    for index in slices(texts, size):
        prompts = [mllm_engine.CAPTION.format(engine.clean(step.texts[i])) for i in index.tolist()]
        parts.append(engine.tokenized([engine.chat(prompt, photo=False) for prompt in prompts], None))
    return parts, torch.from_numpy(np.concatenate([photos, texts + count]))


def backward(engine: MllmEngine, step: Step, pixels: Callable[[Sequence[Path]], np.ndarray], config: Config, team: runs.Team, seed: int) -> float:
    """Put the gradients of one step on the model; the same ones whatever the number of processes. Returns the loss."""
    parts, places = parts_of(engine, step, pixels, config.part, team)
    places, own, alone = (given.to(team.device) for given in (places, torch.from_numpy(step.own), torch.from_numpy(step.alone)))

    def loss_of(mine: Tensor) -> Tensor:
        whole = torch.zeros(len(step.rows) + len(step.texts), mine.shape[1], device=mine.device)  # [N, D]
        whole[places] = mine.detach()
        if team.size > 1:
            distributed.all_reduce(whole)  # each row comes from one process
        whole = whole.index_copy(0, places, mine)  # own rows with their gradients
        loss = contrast(whole, own, config.temperature) + config.photos * contrast_photos(whole, own, alone, config.temperature)
        return loss * team.size  # the mean over the processes then is the sum over all rows

    try:
        loss = cached_backward(parts, engine.states, loss_of, seed, config.part)
    except RuntimeError as error:
        if not mllm_engine.is_full(error):
            raise
        raise ModelError(f"{engine.backbone.name}: not enough memory on {engine.device} for {config.part} prompts at once",
                         hint=f"try --set part={max(1, config.part // 2)}; the batch stays as it is") from error  # fmt: skip
    return float(loss) / team.size


# ---------------------------------------------------------------- training


def train(
    engine: MllmEngine, data: Data, folder: Path, config: Config, *, team: runs.Team | None = None, progress: Progress | None = None
) -> Outcome:  # fmt: skip
    """Train with resume; returns the best LoRA by validation. Log and checkpoints go into `folder`.

    Raises InputError when nothing can be learnt or measured, ModelError for a model that has a LoRA already, or too little memory.
    """
    check(engine, data)
    folder.mkdir(parents=True, exist_ok=True)
    team, progress = team or runs.join_team("cpu"), progress or Silent()
    log = runs.Log(folder / "log.jsonl", team)
    runs.seed_all(config.seed)
    pixels = reader(engine)
    before = measured(engine, data, pixels)

    # ------------------------------------------------------------ LoRA and optimiser
    model = with_lora(engine, config)
    optimiser = torch.optim.AdamW(runs.decay_groups(model, config.rate, config.decay))
    peaks = [group["lr"] for group in optimiser.param_groups]
    plan = [*epochs_of("align", data.align, config.align_epochs, config), *epochs_of("change", data.change, config.epochs, config)]
    shows = captions_shown(data.align)
    first, best, stale = 0, -1.0, 0
    chosen = weights_of(model)
    if (state := runs.load(folder / runs.LAST)) is not None:
        peft.set_peft_model_state_dict(model, state["lora"])
        optimiser.load_state_dict(state["optimiser"])
        chosen, first, best, stale = state["chosen"], state["step"], state["best"], state["stale"]
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    log.write(event="start", step=first, plan=len(plan), parameters=parameters, before=means(before), config=asdict(config))
    progress.start(len(plan) - first, "steps")

    # ------------------------------------------------------------ loop
    for number in range(first, len(plan)):
        if not team.agree(stale < config.patience):  # processes may round validation differently; none may wait for one that has stopped
            break
        place = plan[number]
        for group, peak in zip(optimiser.param_groups, peaks, strict=True):
            group["lr"] = peak * runs.warm_cosine(place.number, place.count, warmup=config.warmup)
        model.train()
        rows = rows_at(data, shows, place, config, number)
        optimiser.zero_grad(set_to_none=True)
        loss = backward(engine, Step.of(rows), pixels, config, team, seed=(config.seed * 7919 + number) << 16)
        team.average_gradients(p for p in model.parameters() if p.requires_grad)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        log.write(step=number, stage=place.stage, loss=loss)
        progress.advance()
        if place.last:
            values = measured(engine, data, pixels)
            reached = headline(values)
            log.write(epoch=place.epoch, stage=place.stage, **means(values))
            progress.note(f"{place.stage} {place.epoch + 1}: loss {loss:.3f}, mean recall {reached:.3f}")
            stale = 0 if reached > best else stale + (place.stage == "change")
            if reached > best:
                best, chosen = reached, weights_of(model)
        if team.leads and (place.last or (number + 1) % config.save_every == 0):
            state = {"lora": weights_of(model), "optimiser": optimiser.state_dict(), "chosen": chosen}
            runs.save(state | {"step": number + 1, "best": best, "stale": stale}, folder / runs.LAST)
        team.wait()
    progress.done()

    # ------------------------------------------------------------ figures and files
    peft.set_peft_model_state_dict(model, chosen)
    report = report_of(before, measured(engine, data, pixels))
    log.write(event="done", **report)
    return Outcome(files_of(model, folder) if team.leads else {}, report, parameters)


@dataclass(frozen=True, slots=True)
class Place:
    """One step of the plan. rows: int64 [B] of the stage. number, count: within the stage. last: of its epoch."""

    stage: str
    epoch: int
    rows: np.ndarray
    number: int
    count: int
    last: bool


def epochs_of(stage: str, rows: Sequence[Row], epochs: int, config: Config) -> list[Place]:
    """The steps of a stage: each epoch in an order of its own, the rest that fills no batch left out (unless nothing else is there)."""
    size = min(config.batch, len(rows))
    each = len(rows) // size if size else 0
    found = []
    for epoch in range(epochs if each else 0):
        order = np.random.default_rng([config.seed, epoch, len(stage)]).permutation(len(rows))
        found += [Place(stage, epoch, order[i * size : (i + 1) * size], epoch * each + i, epochs * each, i == each - 1) for i in range(each)]
    return found


def rows_at(data: Data, shows: Mapping[str, Sequence[int]], place: Place, config: Config, number: int) -> list[Row]:
    """The examples of a step; in stage 2 some of stage 1 are among them, and every other of these shows what one of the triplets asks for.

    shows: caption -> rows of stage 1 that have it; a triplet whose caption no photo has gets any photo.
    """
    rows = [(data.align if place.stage == "align" else data.change)[i] for i in place.rows.tolist()]
    if place.stage == "align" or not data.align:
        return rows
    rng = np.random.default_rng([config.seed, number, 1])
    more = rng.integers(0, len(data.align), round(config.mix * len(rows)))
    for i, j in enumerate(rng.integers(0, len(rows), len(more[::2])).tolist()):
        if found := shows.get(rows[j].caption):
            more[2 * i] = found[int(rng.integers(0, len(found)))]
    return rows + [data.align[i] for i in more.tolist()]


def captions_shown(rows: Sequence[Row]) -> dict[str, list[int]]:
    """Caption -> the rows that have it."""
    found: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        found.setdefault(row.caption, []).append(i)
    return found


def check(engine: MllmEngine, data: Data) -> None:
    """Refuse what cannot be learnt or measured, before anything is trained."""
    if engine.backbone.extra["adapter"]:
        raise ModelError(f"{engine.backbone.name} is tuned already", hint=f"give what it was tuned from: --mllm {engine.backbone.extra['base']}")
    if len(data.change) < 2:
        raise InputError(f"{len(data.change)} training triplets with captions: nothing can be learnt from so few",
                         hint="stage 2 learns from what the target shows in words ('caption' in the triplet file)")  # fmt: skip
    if not data.val:
        raise InputError("no validation triplet: nothing would show what was learnt", hint='give some lines "split": "val"')


def with_lora(engine: MllmEngine, config: Config) -> Any:
    """Freeze the model and put LoRA into its language model's linear layers."""
    lora = peft.LoraConfig(r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=LANGUAGE)
    with mllm_engine.old_names():
        model = peft.get_peft_model(engine.model, lora)
    model.peft_config["default"].base_model_name_or_path = str(engine.backbone.extra["base"])
    if config.checkpointing:
        engine.model.activation_checkpointing_enable({"use_reentrant": False})
    return model


def reader(engine: MllmEngine) -> Callable[[Sequence[Path]], np.ndarray]:
    """Return a function paths -> uint8 [B, S, S, 3] that keeps what it decoded last."""
    options = DecodeOptions(engine.backbone.input)

    @lru_cache(KEPT)
    def one(path: Path) -> np.ndarray:
        pixels = decode(str(path), options).pixels
        assert pixels is not None, "no digest is known beforehand"
        return pixels

    def many(paths: Sequence[Path]) -> np.ndarray:
        with ThreadPoolExecutor(READERS) as threads:
            return np.stack(list(threads.map(one, paths)))

    return many


# ---------------------------------------------------------------- validation


def measured(engine: MllmEngine, data: Data, pixels: Callable[[Sequence[Path]], np.ndarray]) -> Values:
    """Per-query recall on the validation triplets: over their photos, or over their captions where none has a target photo."""
    engine.model.eval()
    queries = np.concatenate([
        engine.encode_queries(pixels([data.root / one.reference for one in some]), [one.instruction for one in some]) for some in slices(data.val, AT_ONCE)
    ])  # fmt: skip
    if any(one.targets for one in data.val):
        kept = [i for i, one in enumerate(data.val) if one.targets]
        names = sorted({name for one in data.val for name in (one.reference, *one.targets)})
        gallery = np.concatenate([engine.encode_images(pixels([data.root / name for name in some])).pooled for some in slices(names, AT_ONCE)])
        references = [names.index(data.val[i].reference) for i in kept]
        right = [[names.index(name) for name in data.val[i].targets if name != data.val[i].reference] for i in kept]
        return metrics.triplets([queries[kept] @ gallery.T], references, right)
    texts = sorted({text for one in data.val for text in (one.caption, one.original) if text})
    return metrics.triplets([queries @ engine.encode_texts(texts).T], [-1] * len(data.val), [[texts.index(one.caption)] for one in data.val])


def slices(items: Any, size: int) -> Iterator[Any]:
    """Cut a sequence or an array into parts of at most `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))


def means(values: Values) -> dict[str, float]:
    return {name: float(found.mean()) for name, found in values.items()}


def headline(values: Values) -> float:
    """One figure: the mean recall, since a single place saturates where data are easy."""
    return float(np.mean([values[f"R@{k}"].mean() for k in metrics.TRIPLET_AT]))


def report_of(before: Values, after: Values) -> dict[str, Any]:
    """Figures before and after with their intervals, and the gain at the first place."""
    names = [f"R@{k}" for k in metrics.TRIPLET_AT]
    report: dict[str, Any] = {part: {name: asdict(metrics.figure(values[name])) for name in names} for part, values in (("before", before), ("after", after))}
    return report | {"gain": asdict(metrics.difference(after["R@1"], before["R@1"])), "queries": len(after["R@1"])}


# ---------------------------------------------------------------- files


def weights_of(model: Any) -> dict[str, Tensor]:
    """A copy of the LoRA's weights, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in peft.get_peft_model_state_dict(model).items()}


def files_of(model: Any, folder: Path) -> dict[str, bytes]:
    """Write the LoRA as peft does into the run's folder; returns its two files."""
    lora = folder / "lora"
    model.save_pretrained(lora)
    names = (checkpoints.ADAPTER, checkpoints.ADAPTER_WEIGHTS)
    return {name: (lora / name).read_bytes() for name in names}


def merge(engine: MllmEngine, lora: Path, folder: Path) -> None:
    """Write the whole model with the LoRA added to its weights, as transformers saves it: usable without peft."""
    whole = mllm_engine.load_whole(engine.backbone, engine.dtype)
    with mllm_engine.old_names():
        peft.PeftModel.from_pretrained(whole.model, str(lora)).merge_and_unload()  # in place
    whole.save_pretrained(folder)
    engine.processor.save_pretrained(folder)
