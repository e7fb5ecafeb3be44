"""Stage "text": distil the teacher into rankclip-mini's text tower.

Data: every sentence of `sentences.py` with its teacher embedding, mapped to 384-d by the map of stage "heads" (or the principal directions of
the sentences). Loss: cosine to the target, plus the row-wise divergence between the batch's similarity matrices (Park et al. 2019,
relational distillation, in softmax form at temperature 0.05). The token table starts from the teacher's own static word vectors, so that a word
of which no sentence speaks still begins near its meaning. Time on two cores: 50 minutes. Metric: cosine on held-out captions and glosses.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

import runs
import sentences
from rankclip.backbones import tokens
from rankclip.training.models.mini import TextConfig, TextTower


@dataclass(frozen=True, slots=True)
class Config:
    seed: int = 0
    epochs: float = 3.0  # passes over all sentences, drawn by weight
    batch: int = 512
    pool: int = 32  # batches drawn at once and sorted by length: padding costs a third otherwise
    rate: float = 1.5e-3
    warmup: int = 400
    decay: float = 0.02
    relational: float = 1.0
    temperature: float = 0.05
    held_out: int = 2_000  # glosses and words kept for validation
    checkpoint_steps: int = 500
    causal: bool = False
    layers: int = 6
    width: int = 256
    factor: int = 128


def principal_map(teacher: np.ndarray, kinds: np.ndarray, width: int) -> np.ndarray:
    """First right singular vectors of the teacher's embeddings, captions and words in equal shares: float32 [768, D]."""
    rng = np.random.default_rng(0)
    groups = [np.flatnonzero(np.isin(kinds, names)) for names in (("caption",), ("word", "label", "gloss", "piece", "instruction", "scene", "change"))]
    rows = np.concatenate([rng.choice(group, min(20_000, len(group)), replace=False) for group in groups])
    _, _, right = np.linalg.svd(teacher[np.sort(rows)].astype(np.float32), full_matrices=False)
    return np.ascontiguousarray(right[:width].T)


def first_table(static: np.ndarray, pieces_of, factor: int) -> np.ndarray:
    """Start the token table from the teacher's static word vectors: float32 [49408, factor]."""
    symbols = {i: s for s, i in tokens._merged_ids().items()} | {i: s for s, i in tokens._single_ids().items()}
    bytes_of = {symbol: byte for byte, symbol in tokens._byte_symbols().items()}
    table = np.zeros((tokens.VOCABULARY, static.shape[1]), np.float32)
    for number, symbol in symbols.items():
        raw = bytes(bytes_of[c] for c in symbol.removesuffix(tokens.END_OF_WORD))
        ids = pieces_of(raw.decode("utf-8", "replace"))
        if ids:
            table[number] = static[ids].mean(axis=0)
    table -= table[table.any(axis=1)].mean(axis=0)
    _, _, right = np.linalg.svd(table[np.random.default_rng(0).permutation(len(table))[:20_000]], full_matrices=False)
    small = table @ right[:factor].T
    return (small / small.std() * 0.05).astype(np.float32)


def distil(rows: list[sentences.Sentence], targets: np.ndarray, table: np.ndarray, folder: Path, config: Config, *, minutes: float = 170) -> TextTower:
    """Train, with resume; returns the tower."""
    folder.mkdir(parents=True, exist_ok=True)
    runs.seed_all(config.seed)
    device = runs.device()
    log = runs.Log(folder / "log.jsonl")

    # ------------------------------------------------------------ data
    ids = tokens.tokenize([row.text for row in rows]).astype(np.int32)  # [S, 77]
    lengths = (ids == tokens.END).argmax(axis=1) + 1  # [S]
    rng = np.random.default_rng(config.seed)
    train = np.array([row.split == "train" for row in rows])
    extra = rng.permutation(np.flatnonzero(train & np.isin([row.kind for row in rows], ("word", "gloss"))))[: config.held_out]
    train[extra] = False
    valid = {"captions": np.flatnonzero([row.split == "val" and row.kind == "caption" for row in rows])[:2_000], "words": extra}
    weights = np.array([row.weight for row in rows]) * train
    weights /= weights.sum()
    steps = int(config.epochs * train.sum() / config.batch)

    # ------------------------------------------------------------ model and optimiser
    tower = TextTower(TextConfig(width=config.width, layers=config.layers, factor=config.factor, causal=config.causal)).to(device)
    with torch.no_grad():
        tower.table.weight.copy_(torch.from_numpy(table))
    matrices = [p for n, p in tower.named_parameters() if p.ndim > 1 and "table" not in n]
    rest = [p for n, p in tower.named_parameters() if p.ndim <= 1 or "table" in n]
    optimiser = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": config.decay}, {"params": rest, "weight_decay": 0.0}], lr=config.rate, betas=(0.9, 0.98)
    )
    start = 0
    if (state := runs.load(folder / "last.pt")) is not None:
        tower.load_state_dict(state["tower"])
        optimiser.load_state_dict(state["optimiser"])
        start = state["step"]
    log.write(event="start", step=start, steps=steps, sentences=int(train.sum()), config=asdict(config))

    # ------------------------------------------------------------ loop
    total, queue = 0.0, []
    for step in range(start, steps):
        if not queue:
            draw = np.random.default_rng([config.seed, step])  # a resumed run draws what it would have drawn
            pool = draw.choice(len(rows), config.batch * config.pool, p=weights)
            pool = pool[np.argsort(lengths[pool], kind="stable")].reshape(config.pool, config.batch)
            queue = list(pool[draw.permutation(config.pool)])[: config.pool - step % config.pool]
        batch = queue.pop()
        x = torch.from_numpy(ids[batch, : lengths[batch].max()].astype(np.int64)).to(device)  # [B, T]
        wanted = torch.from_numpy(targets[batch].astype(np.float32)).to(device)  # [B, D]
        for group in optimiser.param_groups:
            group["lr"] = runs.one_cycle(step, steps, config.rate, warmup=config.warmup)
        with torch.autocast(device, torch.bfloat16):  # a quarter to a half faster here, unlike for the image tower
            got = tower(x)[0].float()  # [B, D]
        loss = 1 - (got * wanted).sum(-1).mean() + config.relational * relational(got, wanted, config.temperature)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
        optimiser.step()
        total += loss.item()
        if (step + 1) % config.checkpoint_steps == 0 or step + 1 == steps:
            figures = {name: cosine(tower, ids[which], lengths[which], targets[which]) for name, which in valid.items()}
            log.write(step=step + 1, loss=total / config.checkpoint_steps, **figures)
            total = 0.0
            runs.save({"tower": tower.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1, "config": asdict(config)}, folder / "last.pt")
            if log.began and (runs.time.monotonic() - log.began) / 60 > minutes:
                break
    runs.save({"tower": tower.state_dict(), "config": asdict(config)}, folder / "tower.pt")
    return tower


def relational(got: torch.Tensor, wanted: torch.Tensor, temperature: float) -> torch.Tensor:
    """KL divergence between the rows of both similarity matrices. got, wanted: [B, D], unit rows."""
    hide = torch.eye(len(got), device=got.device) * 1e4
    student = F.log_softmax((got @ got.T) / temperature - hide, dim=-1)  # [B, B]
    teacher = F.softmax((wanted @ wanted.T) / temperature - hide, dim=-1)
    return F.kl_div(student, teacher, reduction="batchmean")


@torch.inference_mode()
def cosine(tower: TextTower, ids: np.ndarray, lengths: np.ndarray, targets: np.ndarray) -> float:
    return float((embed_ids(tower, ids, lengths) * targets.astype(np.float32)).sum(-1).mean())


@torch.inference_mode()
def embed_ids(tower: TextTower, ids: np.ndarray, lengths: np.ndarray, batch: int = 512) -> np.ndarray:
    """Embed token rows, float32 [S, D], in batches of like length."""
    out = np.empty((len(ids), tower.config.embedding), np.float32)
    order = np.argsort(lengths, kind="stable")
    for i in range(0, len(ids), batch):
        some = order[i : i + batch]
        x = torch.from_numpy(ids[some, : lengths[some].max()].astype(np.int64)).to(tower.position.device)
        out[some] = tower(x)[0].float().cpu().numpy()
    return out
