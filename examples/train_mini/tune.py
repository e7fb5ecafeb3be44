"""Stage "tune": bring the distilled text tower and the tuned image tower together.

The image tower stays as it is (its embeddings of every training photo, one plain and some random views, are made once); the text tower follows with
a contrastive loss on the photos' sentences, while the distillation goes on with as many sentences of the whole collection, so that words no photo
shows keep their meaning. Time on two cores: half an hour, a third of it for the embeddings.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

import data as packs
import image as image_stage
import runs
import sentences
import text as text_stage
from image import Corpus, contrastive
from rankclip.backbones import tokens
from rankclip.training.models.mini import ImageTower, TextTower


@dataclass(frozen=True, slots=True)
class Config:
    seed: int = 0
    views: int = 1  # random views of each photo beside the plain one
    batch: int = 512
    steps: int = 400
    rate: float = 2e-4
    warmup: int = 50
    decay: float = 0.02
    distil: float = 1.0
    same: float = 0.96
    checkpoint_steps: int = 50


def photo_embeddings(corpus: Corpus, tower: ImageTower, which: list[int], folder: Path, config: Config) -> np.ndarray:
    """Embeddings of all views, float16 [views + 1, N, D]; computed once."""
    path = folder / "photos.npy"
    if path.exists():
        return np.load(path)
    folder.mkdir(parents=True, exist_ok=True)
    size = tower.config.size
    out = np.empty((config.views + 1, len(which), tower.config.embedding), np.float16)
    for start in range(0, len(which), 512):
        some = which[start : start + 512]
        out[0, start : start + len(some)] = image_stage.embed_photos(tower, corpus.plain(some, size))[0]
        for view in range(config.views):
            made = [packs.random_view(corpus.photo(i), size, np.random.default_rng([9, view, i]), packs.Augment(blur=0.0))[0] for i in some]
            out[view + 1, start : start + len(some)] = image_stage.embed_photos(tower, np.stack(made))[0]
    np.save(path, out)
    return out


def tune(corpus: Corpus, photos: np.ndarray, which: list[int], tower: TextTower, rows: list[sentences.Sentence], targets: np.ndarray, scale: float, folder: Path,
         config: Config, check=None) -> TextTower:  # fmt: skip
    """Train with resume; returns the tower."""
    folder.mkdir(parents=True, exist_ok=True)
    runs.seed_all(config.seed)
    device, log = runs.device(), runs.Log(folder / "log.jsonl")
    if (state := runs.load(folder / "tower.pt")) is not None:
        tower.load_state_dict(state["tower"])
        return tower
    tower = tower.to(device)
    log_scale = nn.Parameter(torch.tensor(scale, device=device))

    # ------------------------------------------------------------ data
    ids = tokens.tokenize([row.text for row in rows]).astype(np.int32)
    lengths = (ids == tokens.END).argmax(axis=1) + 1
    spoken = image_stage.text_rows(corpus)
    shares = np.array([packs.SHARES.get(corpus.examples[i].pack, 1.0) * bool(spoken[i]) for i in which])
    shares /= shares.sum()
    weights = np.array([row.weight * (row.split == "train") for row in rows])
    weights /= weights.sum()
    optimiser = torch.optim.AdamW(
        [{"params": list(tower.parameters())}, {"params": [log_scale], "weight_decay": 0.0}], lr=config.rate, weight_decay=config.decay
    )
    start = 0
    if (state := runs.load(folder / "last.pt")) is not None:
        tower.load_state_dict(state["tower"])
        optimiser.load_state_dict(state["optimiser"])
        log_scale.data.copy_(state["scale"])
        start = state["step"]
    log.write(event="start", step=start, config=asdict(config))

    # ------------------------------------------------------------ loop
    total = np.zeros(2)
    for step in range(start, config.steps):
        draw = np.random.default_rng([config.seed, step])
        drawn = draw.choice(len(which), config.batch, replace=False, p=shares)
        said = np.array([spoken[which[i]][draw.integers(len(spoken[which[i]]))] for i in drawn])
        other = draw.choice(len(rows), config.batch, p=weights)
        seen = torch.from_numpy(photos[draw.integers(len(photos), size=config.batch), drawn].astype(np.float32)).to(device)
        for group in optimiser.param_groups:
            group["lr"] = runs.one_cycle(step, config.steps, config.rate, warmup=config.warmup)
        texts, general = (embed(tower, ids, lengths, rows_, device) for rows_ in (said, other))
        match = contrastive(nn.functional.normalize(seen, dim=-1), texts, log_scale, config.same)
        keep = sum(distance(got, targets[rows_], device) for got, rows_ in ((texts, said), (general, other))) / 2
        loss = match + config.distil * keep
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
        optimiser.step()
        total += [match.item(), keep.item()]
        if (step + 1) % config.checkpoint_steps == 0:
            figures = check(tower) if check is not None else {}
            log.write(step=step + 1, match=total[0] / config.checkpoint_steps, keep=total[1] / config.checkpoint_steps, scale=log_scale.exp().item(), **figures)
            total[:] = 0
            runs.save(
                {"tower": tower.state_dict(), "optimiser": optimiser.state_dict(), "scale": log_scale.detach().cpu(), "step": step + 1}, folder / "last.pt"
            )
    runs.save({"tower": tower.state_dict(), "scale": log_scale.detach().cpu()}, folder / "tower.pt")
    return tower


def embed(tower: TextTower, ids: np.ndarray, lengths: np.ndarray, rows: np.ndarray, device: str, parts: int = 16) -> torch.Tensor:
    """Embed some sentences with gradients, [B, D]; sentences of like length go together, so that little is padding."""
    order = np.argsort(lengths[rows], kind="stable")
    groups = [rows[some] for some in np.array_split(order, parts)]
    found = [tower(torch.from_numpy(ids[some, : lengths[some].max()].astype(np.int64)).to(device))[0] for some in groups if len(some)]
    return torch.cat(found)[torch.from_numpy(np.argsort(order, kind="stable")).to(device)]


def distance(got: torch.Tensor, targets: np.ndarray, device: str) -> torch.Tensor:
    wanted = torch.from_numpy(targets.astype(np.float32)).to(device)
    return 1 - (got * wanted).sum(-1).mean() + text_stage.relational(got, wanted, 0.05)
