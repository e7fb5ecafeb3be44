"""Train rankclip-mini from the photo packs, stage by stage, with one command:

    python examples/train_mini/train.py --shared ../shared --out runs/mini

Stages: sentences, teacher, heads, unfreeze, text, tune, export, evaluate. Each keeps checkpoints in its own folder under --out and goes on where a
killed run stopped; a finished stage is skipped. `--stages heads,text` runs some of them. README.md beside this file tells times and figures.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import card as card_stage
import evaluate
import export as export_stage
import image as image_stage
import inference
import runs
import sentences as sentence_stage
import teacher as teacher_stage
import text as text_stage
import tune as tune_stage
from rankclip.allocator import keep_freed_memory
from rankclip.backbones import tokens
from rankclip.training.models.mini import TextConfig, TextTower, write_text_tower

STAGES = ("sentences", "teacher", "heads", "unfreeze", "text", "tune", "export", "evaluate")
WIDTH = 384


class Run:
    """One execution: its folder, its options, and what the stages hand on."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.shared, self.out, self.options = options.shared, options.out, options
        self.out.mkdir(parents=True, exist_ok=True)
        self.image = replace(image_stage.Config(), **options.set.get("image", {}))
        self.text = replace(text_stage.Config(), **options.set.get("text", {}))
        self.tune_config = replace(tune_stage.Config(), **options.set.get("tune", {}))
        keep_freed_memory()
        torch.set_num_threads(options.threads or os.cpu_count() or 1)

    # ------------------------------------------------------------ stages

    def sentences(self) -> None:
        path = self.out / "sentences.jsonl"
        if not path.exists():
            drop = json.loads(self.options.drop.read_text())["words"] if self.options.drop else ()
            sentence_stage.write(sentence_stage.collect(self.shared, self.options.wordnet, drop=drop), path)

    def teacher(self) -> None:
        folder = teacher_stage.join_teacher(self.out / "teacher")
        teacher_stage.embed_all(self.texts, self.out / "teacher.npy", folder, runs.device())

    def heads(self) -> None:
        corpus = self.corpus()
        tower, text_map = image_stage.train_heads(corpus, self.first_map(), self.class_rows(corpus), self.shared, self.out / "heads", self.image)
        np.save(self.out / "map.npy", text_map)
        check = image_stage.validation(corpus, self.shared, self.teacher_texts(text_map), self.image)
        self.note("heads", check(tower))

    def unfreeze(self) -> None:
        corpus = self.corpus()
        state = runs.load(self.out / "heads" / "done.pt")
        tower = image_stage.new_tower(self.shared, self.image)
        tower.load_state_dict(state["tower"])
        check = image_stage.validation(corpus, self.shared, self.teacher_texts(np.load(self.out / "map.npy")), self.image)
        tower = image_stage.train_trunk(corpus, tower, np.load(self.out / "map.npy"), self.out / "unfreeze", state, self.image, check)
        self.note("unfreeze", check(tower))

    def text_tower(self) -> None:
        rows = sentence_stage.read(self.out / "sentences.jsonl")
        targets = self.targets()
        distiller = teacher_stage.Teacher(teacher_stage.join_teacher(self.out / "teacher"))
        table = text_stage.first_table(distiller.word_vectors(), distiller.pieces_of, self.text.factor)
        text_stage.distil(rows, targets, table, self.out / "text", self.text)

    def tune(self) -> None:
        corpus, image_tower, text_tower = self.corpus(), self.image_tower(), self.distilled()
        which = corpus.split("train", *image_stage.TRAIN_PACKS)
        photos = tune_stage.photo_embeddings(corpus, image_tower, which, self.out / "tune", self.tune_config)
        gallery = corpus.split("val", *evaluate.GALLERY)
        views, examples = corpus.plain(gallery, self.image.size), [corpus.examples[i] for i in gallery]
        images = image_stage.embed_photos(image_tower, views)[0]
        scale = float(self.image_state()["scale"])
        rows = sentence_stage.read(self.out / "sentences.jsonl")
        check = lambda tower: evaluate.retrieval(images, examples, embedder(tower))  # noqa: E731
        self.note("before tune", check(text_tower))
        tower = tune_stage.tune(corpus, photos, which, text_tower, rows, self.targets(), scale, self.out / "tune", self.tune_config, check)
        self.note("tune", check(tower))

    def export(self) -> None:
        corpus, folder = self.corpus(), self.out / "export"
        folder.mkdir(exist_ok=True)
        image_tower, text_tower = self.image_tower(), self.tuned()
        rng = np.random.default_rng(0)
        sample = rng.choice(corpus.split("train", *image_stage.TRAIN_PACKS), export_stage.CALIBRATION_PHOTOS, replace=False)
        views = corpus.plain(list(sample), self.image.size)
        export_stage.export_image(image_tower, views, folder, export_stage.Config())
        inference.write(folder)
        export_stage.export_text(text_tower, folder, export_stage.Config())
        write_text_tower(text_tower, folder / export_stage.TRAINABLE, export_stage.LICENCE)
        session = export_stage.session(folder / export_stage.TEXT)
        neutral = [row.text for row in sentence_stage.read(self.out / "sentences.jsonl") if row.kind in ("word", "instruction")]
        texts = export_stage.run_text(session, [neutral[i] for i in rng.choice(len(neutral), 300, replace=False)])
        images = export_stage.run_image(export_stage.session(folder / export_stage.IMAGE), views)[0]
        scale = float(np.exp(self.scale()))
        export_stage.write_card(folder, size=self.image.size, patches=49, token_width=self.image.token_width, logit_scale=scale,
                                null=card_stage.null_calibration(images, texts), version=self.options.version)  # fmt: skip
        for path in sorted(folder.iterdir()):
            print(f"{path.name:22} {path.stat().st_size / 1e6:7.2f} MB", flush=True)

    def evaluate(self) -> None:
        corpus, folder, size = self.corpus(), self.out / "export", self.image.size
        image, text = export_stage.session(folder / export_stage.IMAGE), export_stage.session(folder / export_stage.TEXT)
        embed = lambda texts: export_stage.run_text(text, texts)  # noqa: E731
        gallery = corpus.split("val", *evaluate.GALLERY)
        views = corpus.plain(gallery, size)
        examples = [corpus.examples[i] for i in gallery]
        shipped = export_stage.run_image(image, views)[0]
        figures = card_stage.retrieval(shipped, examples, embed)
        full = export_stage.run_image(export_stage.session(folder / "image_fp32.onnx"), views)[0]
        lost = evaluate.retrieval(full, examples, embed)["t2i@10"] - figures[2].value
        figures.append(card_stage.Figure("R@10 lost by int8 (points)", lost))
        lines: list[str] = []
        for some in (
            lambda: figures,
            lambda: self.classes(corpus, image, embed),
            lambda: card_stage.parity(folder, views, [text for e in examples for text in e.texts][:1000]),
            lambda: card_stage.speed(folder, views),
            lambda: card_stage.ages(corpus, image, size),
        ):  # printed as they come: the last one trains a head
            found = [str(figure) for figure in some()]
            lines += found
            print("\n".join(found), flush=True)
        (self.out / "card.txt").write_text("\n".join(lines) + "\n")

    def classes(self, corpus: image_stage.Corpus, image, embed) -> list[card_stage.Figure]:
        """Top-1 through text on the three labelled packs."""
        found = []
        for pack, splits, article in (
            ("caltech101", ("train", "val"), sentence_stage.with_article),
            ("concepts", ("val",), str),
            ("tinyimagenet", ("val",), sentence_stage.with_article),
        ):
            which = [i for split in splits for i in corpus.split(split, pack)]
            names = list(dict.fromkeys(row["label_text"] for row in sentence_stage.rows(self.shared / "data" / f"{pack}.jsonl")))
            table = evaluate.class_table([article(name.split(" (")[0]) for name in names], embed)
            images = export_stage.run_image(image, corpus.plain(which, self.image.size))[0]
            found.append(card_stage.top1(f"{pack}, top-1 of {len(names)}", images, np.array([names.index(corpus.examples[i].label) for i in which]), table))
        return found

    # ------------------------------------------------------------ what stages share

    @property
    def texts(self) -> list[str]:
        return [row.text for row in sentence_stage.read(self.out / "sentences.jsonl")]

    def image_tower(self) -> image_stage.ImageTower:
        """The tuned image tower; while that stage still runs, its average so far; before it, the one with a frozen trunk."""
        tower, state = image_stage.new_tower(self.shared, self.image), self.image_state()
        tower.load_state_dict(state.get("averaged", state["tower"]))
        return tower.to(runs.device()).eval()

    def image_state(self) -> dict:
        return next(state for path in ("unfreeze/done.pt", "unfreeze/last.pt", "heads/done.pt") if (state := runs.load(self.out / path)))

    def distilled(self) -> TextTower:
        tower = TextTower(TextConfig(width=self.text.width, layers=self.text.layers, factor=self.text.factor, causal=self.text.causal))
        tower.load_state_dict(next(state for name in ("tower.pt", "last.pt") if (state := runs.load(self.out / "text" / name)))["tower"])
        return tower.eval()

    def tuned(self) -> TextTower:
        tower = self.distilled()
        if (state := runs.load(self.out / "tune" / "tower.pt")) is not None:
            tower.load_state_dict(state["tower"])
        return tower.eval()

    def scale(self) -> float:
        """The log of the learnt logit scale."""
        return float((runs.load(self.out / "tune" / "tower.pt") or self.image_state())["scale"])

    def corpus(self) -> image_stage.Corpus:
        return image_stage.load_corpus(self.shared, self.texts, np.load(self.out / "teacher.npy", mmap_mode="r"))

    def first_map(self) -> np.ndarray:
        path = self.out / "first_map.npy"
        if not path.exists():
            kinds = np.array([row.kind for row in sentence_stage.read(self.out / "sentences.jsonl")])
            np.save(path, text_stage.principal_map(np.load(self.out / "teacher.npy", mmap_mode="r"), kinds, WIDTH))
        return np.load(path)

    def targets(self) -> np.ndarray:
        """The teacher's embeddings in rankclip-mini's space, float16 [S, D]."""
        mapped = np.load(self.out / "teacher.npy", mmap_mode="r").astype(np.float32) @ np.load(self.out / "map.npy")
        return (mapped / np.linalg.norm(mapped, axis=1, keepdims=True)).astype(np.float16)

    def class_rows(self, corpus: image_stage.Corpus) -> list[list[int]]:
        """Rows of the sentences that name each of ImageNet's classes."""
        lines = (self.shared / "weights" / "imagenet_labels.txt").read_text().splitlines()[1:]
        found = []
        for line in lines:
            texts = [template.format(sentence_stage.with_article(name.strip())) for name in line.split(",") for template in sentence_stage.PHOTO_TEMPLATES[:3]]
            found.append([corpus.texts[text.lower()] for text in texts if text.lower() in corpus.texts])
        assert all(found), "a class has no sentence"
        return found

    def teacher_texts(self, text_map: np.ndarray):
        """The teacher and its map as a text tower, for measuring."""
        known = {text.lower(): i for i, text in enumerate(self.texts)}
        vectors = np.load(self.out / "teacher.npy", mmap_mode="r")
        fresh: list[teacher_stage.Teacher] = []

        def embed(texts: list[str]) -> np.ndarray:
            keys = [" ".join(text.split()).lower() for text in texts]
            out = np.empty((len(texts), vectors.shape[1]), np.float32)
            unknown = [i for i, key in enumerate(keys) if key not in known]
            for i, key in enumerate(keys):
                if key in known:
                    out[i] = vectors[known[key]]
            if unknown:
                if not fresh:
                    fresh.append(teacher_stage.Teacher(teacher_stage.join_teacher(self.out / "teacher")))
                out[unknown] = fresh[0].embed([texts[i] for i in unknown])
            out = out @ text_map
            return out / np.linalg.norm(out, axis=1, keepdims=True)

        return embed

    def note(self, stage: str, figures: dict[str, float]) -> None:
        runs.Log(self.out / "figures.jsonl").write(stage=stage, **figures)


def embedder(tower: TextTower):
    """A text tower as a function from texts to unit rows."""

    def embed(texts: list[str]) -> np.ndarray:
        ids = tokens.tokenize(texts)
        return text_stage.embed_ids(tower, ids, (ids == tokens.END).argmax(axis=1) + 1)

    return embed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/ and weights/")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"), help="WordNet's files (Debian: wordnet-base)")
    parser.add_argument("--stages", default=",".join(STAGES), help="which stages, by commas")
    parser.add_argument("--drop", type=Path, help="JSON with words whose sentences are left out (the twin run)")
    parser.add_argument("--version", default="1", help="version written into the card")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--set", type=json.loads, default={}, help='changed settings, e.g. {"image": {"epochs": 2}}')
    options = parser.parse_args()
    run = Run(options)
    methods = {"text": run.text_tower}
    for stage in options.stages.split(","):
        print(f"== {stage}", flush=True)
        methods.get(stage, getattr(run, stage, None))()


if __name__ == "__main__":
    main()
