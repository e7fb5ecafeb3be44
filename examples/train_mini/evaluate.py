"""Figures of the model card on the validation splits: retrieval, classification through text, and what the tokens hold.

`embed_texts` is any function from texts to unit rows, so that the teacher, its map and the shipped text tower are measured by the same code.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from data import Example
from sentences import PHOTO_TEMPLATES, rows, with_article

GALLERY = ("flickr8k", "flickr8k_more", "coco_captions")  # their val photos: the reference gallery
N_CLASS_TEMPLATES = 3
EmbedTexts = Callable[[list[str]], np.ndarray]


def recall(scores: np.ndarray, right: list[set[int]], at: tuple[int, ...] = (1, 5, 10)) -> dict[int, float]:
    """Share of rows (queries) with a right column among the first k, in percent. scores: [Q, N]."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, : max(at)]
    return {k: 100 * float(np.mean([bool(right[q] & set(order[q, :k].tolist())) for q in range(len(right))])) for k in at}


def retrieval(images: np.ndarray, examples: list[Example], embed_texts: EmbedTexts) -> dict[str, float]:
    """Text to image and image to text on a captioned gallery; every caption is a query of its own. images: [N, D]."""
    captions = [(i, text) for i, example in enumerate(examples) for text in example.texts]
    texts = embed_texts([text for _, text in captions])  # [C, D]
    owner = np.array([i for i, _ in captions])
    scores = texts @ images.T  # [C, N]
    t2i = recall(scores, [{int(i)} for i in owner])
    i2t = recall(scores.T, [set(np.flatnonzero(owner == i).tolist()) for i in range(len(examples))])
    return {f"t2i@{k}": v for k, v in t2i.items()} | {f"i2t@{k}": v for k, v in i2t.items()}


def class_table(names: list[str], embed_texts: EmbedTexts) -> np.ndarray:
    """Mean of three templates for each name (given with its article where it needs one), float32 [C, D]."""
    texts = [template.format(name) for name in names for template in PHOTO_TEMPLATES[:N_CLASS_TEMPLATES]]
    table = embed_texts(texts).reshape(len(names), N_CLASS_TEMPLATES, -1).mean(axis=1)
    return table / np.linalg.norm(table, axis=-1, keepdims=True)


def top1(images: np.ndarray, labels: np.ndarray, table: np.ndarray) -> float:
    return 100 * float(np.mean((images @ table.T).argmax(axis=1) == labels))


def caltech_names(data: Path) -> dict[str, str]:
    """Folder name -> what a person would call it."""
    return {row["label"]: with_article(row["label_text"].split(" (")[0]) for row in rows(data / "caltech101.jsonl")}


def zero_shot(images: dict[str, np.ndarray], examples: dict[str, list[Example]], data: Path, embed_texts: EmbedTexts) -> dict[str, float]:
    """Top-1 through text: caltech101 (all photos, none trained on), concepts val among all label texts, tinyimagenet val."""
    figures = {}
    if "caltech101" in images:
        names = list(dict.fromkeys(row["label_text"] for row in rows(data / "caltech101.jsonl")))
        table = class_table([with_article(name.split(" (")[0]) for name in names], embed_texts)
        figures["caltech101"] = top1(images["caltech101"], np.array([names.index(e.label) for e in examples["caltech101"]]), table)
    for pack, article in (("concepts", lambda name: name), ("tinyimagenet", with_article)):
        names = list(dict.fromkeys(row["label_text"] for row in rows(data / f"{pack}.jsonl")))
        table = class_table([article(name) for name in names], embed_texts)
        figures[pack] = top1(images[pack], np.array([names.index(e.label) for e in examples[pack]]), table)
    return figures


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation with average ranks."""
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)


def ridge(train: np.ndarray, y: np.ndarray, test: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """Predict with ridge regression on standardised features; the strength is multiplied by the number of rows."""
    mean, std = train.mean(axis=0), train.std(axis=0) + 1e-6
    x, centre = (train - mean) / std, y.mean()
    weights = np.linalg.solve(x.T @ x + strength * len(x) * np.eye(x.shape[1]), x.T @ (y - centre))
    return ((test - mean) / std) @ weights + centre
