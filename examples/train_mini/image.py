"""Stages "heads" and "unfreeze": the image tower of rankclip-mini.

heads     the trunk is frozen; its feature maps are computed once; trained are the MLP on the mean, the token projection, attention pooling, the
          gain of the class-knowledge residual, auxiliary readings of the tokens, and a linear map from the teacher's 768-d space to 384-d.
unfreeze  the last blocks of the trunk and the final convolution follow, with fresh random views each epoch, BatchNorm statistics frozen, an
          exponential average of the weights, and the old class posterior as a soft teacher so that class knowledge survives.

Loss: symmetric contrastive (Radford et al. 2021) against the teacher's embedding of one true sentence a photo, pairs with (nearly) equal sentences masked,
plus small losses on the tokens: age, counts, opinion scores, memorability, strength of a synthetic degradation, brightness, vividness.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import data as packs
import evaluate
import runs
from rankclip.training.models.mini import AttentionPool, ImageConfig, ImageTower

TRAIN_PACKS = ("flickr8k", "flickr8k_more", "coco_captions", "captions2", "ade_rooms", "concepts", "tinyimagenet", "fashion", "utkface", "faces",
               "counting", "quality", "memorability", "photos_exif")  # fmt: skip
VALUES = ("age", "count", "quality", "memorability", "degradation", "brightness", "vividness")


@dataclass(frozen=True, slots=True)
class Config:
    seed: int = 0
    size: int = 224
    token_width: int = 192
    batch: int = 256
    heads_epochs: int = 24
    heads_rate: float = 1.5e-3
    map_rate: float = 2e-4
    epochs: int = 9
    rate: float = 2e-4  # trunk
    rate_heads: float = 5e-4  # everything above it
    decay: float = 0.05
    warmup: int = 60
    since: int = 11  # first block that is trained, of 21 (lite2): stages 4, 5, 6
    average: float = 0.995
    keep: float = 0.2  # weight of the old class posterior
    values: float = 0.4  # weight of the auxiliary losses
    gain: float = 0.4  # of the class-knowledge residual: learnt freely it ends near 0.25, which forgets classes that no label names
    same: float = 0.96  # sentences with a higher cosine are not negatives of each other
    smallest_crop: float = 0.5


class Readings(nn.Module):
    """Auxiliary values read from the tokens; used in training only."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pool = AttentionPool(width, 128)
        nn.init.normal_(self.pool.out.weight, std=width**-0.5)
        self.out = nn.Sequential(nn.GELU(), nn.Linear(128, len(VALUES)))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.pool(tokens))  # [B, values]


@dataclass(slots=True)
class Corpus:
    """Everything a stage trains on, in memory."""

    examples: list[packs.Example]
    photos: dict[str, np.ndarray]
    texts: dict[str, int]  # sentence -> row of the teacher's embeddings
    teacher: np.ndarray  # float16 [S, 768]

    def split(self, name: str, *only: str) -> list[int]:
        return [i for i, e in enumerate(self.examples) if e.split == name and (not only or e.pack in only)]

    def photo(self, index: int) -> np.ndarray:
        return self.photos[f"{self.examples[index].pack}/{self.examples[index].path}"]

    def plain(self, which: list[int], size: int, mode: str = "squash") -> np.ndarray:
        return np.stack([packs.plain_view(self.photo(i), size, aspect=self.examples[i].aspect, mode=mode) for i in which])  # uint8 [N, S, S, 3]


def load_corpus(shared: Path, texts: list[str], teacher: np.ndarray, *, extra: tuple[str, ...] = ("caltech101",)) -> Corpus:
    examples: list[packs.Example] = []
    photos: dict[str, np.ndarray] = {}
    for pack in (*TRAIN_PACKS, *extra):
        examples += packs.load_rows(shared / "data", pack)
        photos |= {f"{pack}/{path}": photo for path, photo in packs.load_photos(shared / "data", pack).items()}
    return Corpus(examples, photos, {" ".join(text.split()).lower(): i for i, text in enumerate(texts)}, teacher)


def text_rows(corpus: Corpus) -> list[list[int]]:
    """For each example the rows of its sentences."""
    found = [[corpus.texts[key] for text in e.texts if (key := " ".join(text.split()).lower()) in corpus.texts] for e in corpus.examples]
    lost = sum(len(e.texts) - len(f) for e, f in zip(corpus.examples, found, strict=True) if e.pack != "caltech101")
    print(f"{sum(map(len, found))} sentences of photos, {lost} without a teacher embedding", flush=True)
    return found


def new_tower(shared: Path, config: Config) -> ImageTower:
    tower = ImageTower(ImageConfig(size=config.size, token_width=config.token_width))
    weights = load_file(shared / "weights" / f"{tower.config.trunk}.safetensors")
    missing = tower.trunk.load_state_dict({name: value.float() for name, value in weights.items()}, strict=False)
    assert not missing.unexpected_keys and all("num_batches" in key for key in missing.missing_keys), missing
    return tower


# ---------------------------------------------------------------- loss


def contrastive(images: Tensor, texts: Tensor, scale: Tensor, same: float) -> Tensor:
    """Symmetric InfoNCE; pairs whose sentences are nearly equal are masked. images, texts: [B, D], unit rows."""
    logits = scale.exp().clamp(max=100) * images @ texts.T  # [B, B]
    with torch.no_grad():
        twins = (texts @ texts.T > same) & ~torch.eye(len(texts), dtype=torch.bool, device=texts.device)
    logits = logits.masked_fill(twins, -1e4)
    target = torch.arange(len(images), device=images.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def value_loss(predicted: Tensor, wanted: Tensor) -> Tensor:
    """Smooth L1 over the values that are known (the rest is NaN), in units of a tenth. [B, values]."""
    known = ~wanted.isnan()
    return F.smooth_l1_loss(10 * predicted[known], 10 * wanted[known]) if known.any() else predicted.sum() * 0


def wanted_values(corpus: Corpus, which: np.ndarray, views: np.ndarray, strengths: np.ndarray) -> np.ndarray:
    """float32 [B, values], NaN where unknown. A degraded view has no opinion score."""
    out = np.full((len(which), len(VALUES)), np.nan, np.float32)
    for row, i in enumerate(which):
        for name, value in corpus.examples[i].values.items():
            if name != "quality" or strengths[row] == 0:
                out[row, VALUES.index(name)] = value
    out[:, VALUES.index("degradation")] = strengths
    for row, view in enumerate(views):
        pixels = view[::4, ::4].astype(np.float32) / 255
        out[row, VALUES.index("brightness")] = pixels.mean()
        out[row, VALUES.index("vividness")] = (pixels.max(axis=-1) - pixels.min(axis=-1)).mean()
    return out


# ---------------------------------------------------------------- stage "heads"


@torch.inference_mode()
def feature_maps(tower: ImageTower, views: np.ndarray, batch: int = 64) -> Tensor:
    """Run the trunk, float16 [N, 1280, H, W]."""
    device = next(tower.parameters()).device
    parts = []
    for i in range(0, len(views), batch):
        x = torch.from_numpy(views[i : i + batch].copy()).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
        parts.append(tower.trunk(x.contiguous(memory_format=torch.channels_last)).half().cpu())
    return torch.cat(parts)


def two_views(corpus: Corpus, tower: ImageTower, train: np.ndarray, config: Config, chunk: int = 1024) -> tuple[Tensor, Tensor]:
    """Feature maps and known values of every photo's plain view, then of a random view each: [2 N, 1280, H, W], [2 N, values]."""
    augment = packs.Augment(config.smallest_crop)
    grids: list[Tensor] = []
    wanted: list[np.ndarray] = []
    for shaken in (False, True):
        for start in range(0, len(train), chunk):
            some = train[start : start + chunk]
            views, strengths = corpus.plain(list(some), config.size), np.zeros(len(some))
            if shaken:
                made = [packs.random_view(corpus.photo(i), config.size, np.random.default_rng([config.seed, int(i)]), augment) for i in some]
                views, strengths = np.stack([view for view, _ in made]), np.array([strength for _, strength in made])
            grids.append(feature_maps(tower, views))
            wanted.append(wanted_values(corpus, some, views, strengths))
    return torch.cat(grids), torch.from_numpy(np.concatenate(wanted))


def principal_tokens(tower: ImageTower, grids: Tensor) -> None:
    """Start the token projection from the principal directions of the rooted feature map, unit variance on average."""
    sample = torch.sqrt(grids[:: max(1, len(grids) // 1500)].float() + 1e-4).flatten(2).transpose(1, 2).reshape(-1, grids.shape[1])  # [M, 1280]
    sample = sample[:: max(1, len(sample) // 40_000)]
    mean = sample.mean(0)
    _, _, right = torch.linalg.svd(sample - mean, full_matrices=False)
    directions = right[: tower.config.token_width]
    spread = ((sample - mean) @ directions.T).std()
    with torch.no_grad():
        tower.tokens.weight.copy_(directions / spread)
        tower.tokens.bias.copy_(-(directions @ mean) / spread)


def train_heads(
    corpus: Corpus, first_map: np.ndarray, class_rows: list[list[int]], shared: Path, folder: Path, config: Config
) -> tuple[ImageTower, np.ndarray]:
    """Train everything above the frozen trunk; returns the tower and the text map, float32 [768, D]."""
    folder.mkdir(parents=True, exist_ok=True)
    runs.seed_all(config.seed)
    device, log = runs.device(), runs.Log(folder / "log.jsonl")
    tower = new_tower(shared, config).to(device).eval()
    text_map = nn.Parameter(torch.from_numpy(first_map).to(device))
    scale = nn.Parameter(torch.tensor(3.0, device=device))
    readings = Readings(config.token_width).to(device)
    if (state := runs.load(folder / "done.pt")) is not None:
        tower.load_state_dict(state["tower"])
        return tower, state["map"].numpy()

    # ------------------------------------------------------------ features, once: one plain and one random view a photo
    train = np.array(corpus.split("train", *TRAIN_PACKS))
    which = np.concatenate([train, train])
    grids, wanted = two_views(corpus, tower, train, config)
    log.write(event="features", photos=len(train), gigabytes=grids.numel() * 2 / 1e9)
    principal_tokens(tower, grids)

    # ------------------------------------------------------------ text side: class table and sentences of photos
    rows = text_rows(corpus)
    teacher = torch.from_numpy(np.asarray(corpus.teacher, dtype=np.float16))
    shares = np.array([packs.SHARES.get(corpus.examples[i].pack, 1.0) for i in which]) * np.array([bool(rows[i]) for i in which])
    shares /= shares.sum()

    above = [p for n, p in tower.named_parameters() if not n.startswith("trunk") and n != "class_texts"]
    optimiser = torch.optim.AdamW([{"params": [*above, *readings.parameters()], "lr": config.heads_rate}, {"params": [scale], "lr": 1e-2, "weight_decay": 0.0},
                                   {"params": [text_map], "lr": config.map_rate, "weight_decay": 0.0}], weight_decay=config.decay)  # fmt: skip
    peaks = [group["lr"] for group in optimiser.param_groups]
    batch = 2 * config.batch
    steps = config.heads_epochs * len(train) // batch
    rng = np.random.default_rng(config.seed)
    tower.head.train()

    # ------------------------------------------------------------ loop
    for step in range(steps):
        for group, peak in zip(optimiser.param_groups, peaks, strict=True):
            group["lr"] = runs.one_cycle(step, steps, peak, warmup=config.warmup)
        drawn = rng.choice(len(which), batch, replace=False, p=shares)
        sentence = [rows[which[i]][rng.integers(len(rows[which[i]]))] for i in drawn]
        texts = F.normalize(teacher[sentence].float().to(device) @ text_map, dim=-1)  # [B, D]
        if step % 20 == 0:
            set_class_table(tower, teacher, class_rows, text_map)
        images, tokens = tower.read(grids[drawn].float().to(device))
        loss = contrastive(images, texts, scale, config.same) + config.values * value_loss(readings(tokens), wanted[drawn].to(device))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if (step + 1) % 50 == 0 or step + 1 == steps:
            log.write(step=step + 1, steps=steps, loss=loss.item(), gain=tower.class_gain.item(), scale=scale.exp().item())
    set_class_table(tower, teacher, class_rows, text_map)
    tower.eval()
    runs.save(
        {"tower": tower.state_dict(), "map": text_map.detach().cpu(), "scale": scale.detach().cpu(), "readings": readings.state_dict()}, folder / "done.pt"
    )
    return tower, text_map.detach().cpu().numpy()


@torch.no_grad()
def set_class_table(tower: ImageTower, teacher: Tensor, class_rows: list[list[int]], text_map: Tensor) -> None:
    """Put the class names' embeddings (mean over synonyms and templates) into the tower."""
    device = text_map.device
    table = torch.stack([F.normalize(teacher[rows].float().to(device) @ text_map, dim=-1).mean(0) for rows in class_rows])
    tower.class_texts.copy_(F.normalize(table, dim=-1))


# ---------------------------------------------------------------- stage "unfreeze"


def train_trunk(
    corpus: Corpus, tower: ImageTower, text_map: np.ndarray, folder: Path, heads: dict, config: Config, check=None, *, minutes: float = 170
) -> ImageTower:
    """Tune the last blocks with the heads; returns the averaged tower. `check(tower)` gives figures to log after each epoch."""
    folder.mkdir(parents=True, exist_ok=True)
    runs.seed_all(config.seed + 1)
    device, log = runs.device(), runs.Log(folder / "log.jsonl")
    if (state := runs.load(folder / "done.pt")) is not None:
        tower.load_state_dict(state["tower"])
        return tower.eval()
    tower = tower.to(device).eval()  # eval: BatchNorm keeps ImageNet's statistics; dropout of the head is switched on below
    readings = Readings(config.token_width).to(device)
    readings.load_state_dict(heads["readings"])
    scale = nn.Parameter(heads["scale"].to(device))

    # ------------------------------------------------------------ data
    train = np.array(corpus.split("train", *TRAIN_PACKS))
    rows = text_rows(corpus)
    shares = np.array([packs.SHARES.get(corpus.examples[i].pack, 1.0) for i in train])
    texts_all = np.asarray(corpus.teacher, np.float32) @ text_map  # [S, D]
    texts_all /= np.linalg.norm(texts_all, axis=1, keepdims=True)
    before = old_posteriors(corpus, tower, list(train), folder, config)  # float16 [N, 1000]
    position = {int(i): row for row, i in enumerate(train)}

    # ------------------------------------------------------------ optimiser
    trained = [p for block in tower.trunk.flat()[config.since :] for p in block.parameters()] + [
        *tower.trunk.conv_head.parameters(),
        *tower.trunk.bn2.parameters(),
    ]
    above = [p for n, p in tower.named_parameters() if not n.startswith("trunk") and not n.startswith("class_")] + list(readings.parameters())
    classifier = list(tower.trunk.classifier.parameters())
    for p in tower.parameters():
        p.requires_grad_(False)
    for p in (*trained, *above, *classifier):
        p.requires_grad_(True)
    tower.class_gain.requires_grad_(False).fill_(config.gain)
    optimiser = torch.optim.AdamW([{"params": trained, "lr": config.rate}, {"params": above, "lr": config.rate_heads}, {"params": classifier, "lr": config.rate / 2},
                                   {"params": [scale], "lr": 1e-3, "weight_decay": 0.0}], weight_decay=config.decay)  # fmt: skip
    peaks = [config.rate, config.rate_heads, config.rate / 2, 1e-3]
    averaged = copy.deepcopy(tower)
    per_epoch = int(shares.sum() // config.batch)
    steps, start = config.epochs * per_epoch, 0
    if (state := runs.load(folder / "last.pt")) is not None:
        for module, name in ((tower, "tower"), (averaged, "averaged"), (readings, "readings"), (optimiser, "optimiser")):
            module.load_state_dict(state[name])
        scale.data.copy_(state["scale"])
        start = state["epoch"]
    log.write(event="start", epoch=start, steps_an_epoch=per_epoch, photos=len(train), config=asdict(config))

    # ------------------------------------------------------------ loop
    for epoch in range(start, config.epochs):
        draw = np.random.default_rng([config.seed, 77, epoch])
        order = train[draw.choice(len(train), per_epoch * config.batch, p=shares / shares.sum(), replace=per_epoch * config.batch > len(train))]
        runs.give_back_memory()  # else the loader's process is born with the freed activations, and holds them while this one overwrites its own
        views = packs.Views(corpus.examples, corpus.photos, order, config.size, config.seed * 1000 + epoch, packs.Augment(config.smallest_crop))
        losses = np.zeros(3)
        for number, (pixels, strengths, which) in enumerate(DataLoader(views, config.batch, num_workers=1, prefetch_factor=2)):
            step = epoch * per_epoch + number
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = runs.one_cycle(step, steps, peak, warmup=config.warmup)
            wanted = torch.from_numpy(wanted_values(corpus, which.numpy(), pixels.numpy(), strengths.numpy())).to(device)
            spoken = torch.tensor([bool(rows[i]) for i in which.tolist()], device=device)
            sentence = [rows[i][draw.integers(len(rows[i]))] if rows[i] else 0 for i in which.tolist()]
            texts = torch.from_numpy(texts_all[sentence]).to(device)  # [B, D]
            x = pixels.to(device).permute(0, 3, 1, 2).float().div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)
            tower.head.train()
            with torch.no_grad():
                stem = torch.cat([tower.trunk.stem(part, config.since) for part in x.split(32)])
            grid = tower.trunk.tail(stem, config.since)  # [B, 1280, 7, 7]
            images, tokens = tower.read(grid)
            posterior = tower.trunk.classifier(grid.mean((2, 3))).log_softmax(-1)
            old = torch.from_numpy(before[[position[i] for i in which.tolist()]].astype(np.float32)).to(device)
            parts = (contrastive(images[spoken], texts[spoken], scale, config.same), value_loss(readings(tokens), wanted),
                     F.kl_div(posterior, old, reduction="batchmean"))  # fmt: skip
            loss = parts[0] + config.values * parts[1] + config.keep * parts[2]
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            losses += [part.item() for part in parts]
            average(averaged, tower, min(config.average, (1 + step) / (10 + step)))
            if number % 20 == 19:
                log.write(epoch=epoch, step=number + 1, loss=loss.item(), gain=tower.class_gain.item(), scale=scale.exp().item())
        averaged.eval()
        figures = check(averaged) if check is not None else {}
        log.write(epoch=epoch, contrastive=losses[0] / per_epoch, values=losses[1] / per_epoch, kept=losses[2] / per_epoch, **figures)
        runs.save({"tower": tower.state_dict(), "averaged": averaged.state_dict(), "readings": readings.state_dict(), "optimiser": optimiser.state_dict(),
                   "scale": scale.detach().cpu(), "epoch": epoch + 1}, folder / "last.pt")  # fmt: skip
        if (runs.time.monotonic() - log.began) / 60 > minutes:
            break
    runs.save({"tower": averaged.state_dict(), "scale": scale.detach().cpu()}, folder / "done.pt")
    return averaged


@torch.no_grad()
def average(averaged: nn.Module, live: nn.Module, keep: float) -> None:
    for slow, fast in zip(averaged.parameters(), live.parameters(), strict=True):
        slow.lerp_(fast, 1 - keep)


@torch.inference_mode()
def old_posteriors(corpus: Corpus, tower: ImageTower, which: list[int], folder: Path, config: Config) -> np.ndarray:
    """The untouched trunk's class posterior on the plain views, float16 [N, 1000]; computed once."""
    path = folder / "posteriors.npy"
    if path.exists():
        return np.load(path)
    device = next(tower.parameters()).device
    parts = []
    for i in range(0, len(which), 64):
        x = torch.from_numpy(corpus.plain(which[i : i + 64], config.size)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
        parts.append(tower.trunk.classifier(tower.trunk(x.contiguous(memory_format=torch.channels_last)).mean((2, 3))).softmax(-1).half().cpu().numpy())
    np.save(path, np.concatenate(parts))
    return np.concatenate(parts)


@torch.inference_mode()
def embed_photos(tower: ImageTower, views: np.ndarray, batch: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Embed uint8 views: float32 [N, D] and tokens, float16 [N, P, W]."""
    device = next(tower.parameters()).device
    pooled, tokens = [], []
    for i in range(0, len(views), batch):
        a, b = tower(torch.from_numpy(views[i : i + batch]).to(device))
        pooled.append(a.float().cpu().numpy())
        tokens.append(b.half().cpu().numpy())
    return np.concatenate(pooled), np.concatenate(tokens)


def validation(corpus: Corpus, shared: Path, embed_texts: evaluate.EmbedTexts, config: Config, *, caltech: bool = False):
    """Return a function tower -> figures on the validation splits."""
    wanted = {
        "gallery": corpus.split("val", *evaluate.GALLERY),
        "concepts": corpus.split("val", "concepts"),
        "tinyimagenet": corpus.split("val", "tinyimagenet"),
    }
    if caltech:
        wanted["caltech101"] = corpus.split("train", "caltech101") + corpus.split("val", "caltech101")
    views = {name: corpus.plain(which, config.size) for name, which in wanted.items()}

    def check(tower: ImageTower) -> dict[str, float]:
        images = {name: embed_photos(tower, some)[0] for name, some in views.items()}
        examples = {name: [corpus.examples[i] for i in which] for name, which in wanted.items()}
        return retrieval_and_classes(images, examples, shared, embed_texts)

    return check


def retrieval_and_classes(images, examples, shared: Path, embed_texts) -> dict[str, float]:
    return evaluate.retrieval(images["gallery"], examples["gallery"], embed_texts) | evaluate.zero_shot(images, examples, shared / "data", embed_texts)
