"""What `finetune difference` does around the recipe: read captions and pairs, make sentences, train, measure, write the head pack."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rankclip import contrast, jsonl
from rankclip.collection import Collection, features
from rankclip.errors import InputError, NothingToDo
from rankclip.heads import packs
from rankclip.heads.difference import AXES, GRAPH, MATRIX, Axes, axes_file, normalised, packed, sided
from rankclip.heads.packs import HeadCard, Pack
from rankclip.heads.sides import read
from rankclip.instructions.lexicon import axes as lexicon_axes
from rankclip.instructions.lexicon import comparative
from rankclip.instructions.vocabulary import Contrast, digest, sights, vocabulary
from rankclip.instructions.vocabulary import contrast as contrast_of
from rankclip.scoring import Embed, phrase_embedding
from rankclip.settings import Settings, user_folder
from rankclip.training import difference, runs, sightings, writer
from rankclip.training.difference import PRESETS, Config, Data, Outcome, Sentences, accuracy
from rankclip.training.generator import MEASURED, Described, PairOptions, Told, describe, exif, generate
from rankclip.training.generator.frames import tokens as words_of
from rankclip.training.generator.pairs import propose
from rankclip.training.generator.sentences import choice
from rankclip.training.tuning import StopAtBatch
from rankclip.types import PixelFacts, Progress, Silent

HELD_OUT = 10  # one photo in so many is for validation, where the file does not say
RARE = frozenset({"count", "attribute", "grade", "action", "scene"})  # without presence and relation: what the target figure is measured on
SLOT_GROUPS = {"colour": "colour", "material": "things", "size": "size", "age": "age", "newness": "age", "light": "light", "time": "time", "place": "place",
               "room": "place", "season": "time", "weather": "weather", "state": "people"}  # fmt: skip
SHARED = 'several {} photos must show the same thing; a line says which it is for by "split": "train" or "val", else one photo in ten is for validation'
ENOUGH = 40  # validation sentences of a group before it may be said that plain texts are better
BOOTSTRAPS = 400


@dataclass(frozen=True, slots=True)
class Captioned:
    """A line of the captions file."""

    path: str
    captions: tuple[str, ...]
    val: bool
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GivenPair:
    """A line of the pairs file: the text tells how a differs from b."""

    a: str
    b: str
    text: str
    val: bool


@dataclass(frozen=True, slots=True)
class Library:
    """Photos with embeddings and captions, side by side."""

    paths: list[str]
    photos: np.ndarray  # float32 [N, D]
    described: list[Described]
    val: np.ndarray  # bool [N]
    captions: list[list[str]]


@dataclass(frozen=True, slots=True)
class Done:
    """What was done, in lines for people."""

    lines: list[str]
    pack: Pack | None


# ---------------------------------------------------------------- files


def read_captions_file(path: Path) -> list[Captioned]:
    """Read `path`, `captions` (or `caption`), and where they are there `split` and `values`. Paths are relative to the file."""
    rows = []
    for place, row in jsonl.read(path, hint="one object a line"):
        captions = row.get("captions", [row["caption"]] if "caption" in row else None)
        if not isinstance(row.get("path"), str) or not isinstance(captions, list) or not all(isinstance(one, str) for one in captions):
            raise InputError(f'{place}: needs "path" and "captions"', hint='{"path": "dog.jpg", "captions": ["a dog on a beach"]}')
        values = row.get("values", {})
        if not isinstance(values, dict) or not all(isinstance(value, int | float) for value in values.values()):
            raise InputError(f'{place}: "values" must name numbers', hint='{"path": "ann.jpg", "captions": ["a girl"], "values": {"age": 9}}')
        rows.append(Captioned(located(path, row["path"]), tuple(captions), is_val(row), {name: float(value) for name, value in values.items()}))
    return rows


def read_pairs_file(path: Path) -> list[GivenPair]:
    """Read `a`, `b`, `text`, and where they are there `reverse` and `split`."""
    rows = []
    for place, row in jsonl.read(path, hint="one object a line"):
        if not all(isinstance(row.get(name), str) and row[name].strip() for name in ("a", "b", "text")) or not isinstance(row.get("reverse", ""), str):
            raise InputError(f'{place}: needs "a", "b" and "text"', hint='{"a": "x.jpg", "b": "y.jpg", "text": "brighter, more people"}')
        a, b = located(path, row["a"]), located(path, row["b"])
        rows.append(GivenPair(a, b, row["text"], is_val(row)))
        if row.get("reverse"):
            rows.append(GivenPair(b, a, row["reverse"], is_val(row)))
    return rows


def located(file: Path, path: str) -> str:
    return os.path.normpath(os.path.join(os.path.abspath(file.parent), path))


def is_val(row: Mapping[str, Any]) -> bool:
    """Tell whether a row is for validation: as it says, else by a hash of its group or path."""
    if "split" in row:
        return bool(row["split"] != "train")
    return choice(str(row.get("group", row.get("path", row.get("a", "")))), HELD_OUT) == 0


# ---------------------------------------------------------------- the job


class DifferenceJob:
    """One run of `finetune difference`."""

    def __init__(self, settings: Settings, progress: Progress, cancel: threading.Event, *, name: str, run: Path | None, changes: dict[str, Any]) -> None:
        self.settings, self.progress, self.cancel, self.name, self.folder = settings, progress, cancel, name, run
        preset = PRESETS.get(str(changes.get("recipe", "map")), {})
        self.config = difference.checked(runs.configured(Config(), {**preset, **changes}, "--set"))
        packs.check_pack_name(name, "holidays")
        self.banned = frozenset(word.strip().lower() for word in self.config.left_out.split(",") if word.strip())

    def train(self, captions: Path | None, pairs: Path | None, *, output: Path | None = None, dry_run: bool = False) -> Done:
        """Train on captioned photos, given pairs, or both, and install the head (or write it to `output`).

        Under torchrun the leading process speaks and writes, the others give no lines.
        """
        rows = read_captions_file(captions) if captions else []
        given = read_pairs_file(pairs) if pairs else []
        if not rows and not given:
            raise InputError("nothing to learn from", hint="give --captions FILE or --pairs FILE")
        paths = list(dict.fromkeys([*(row.path for row in rows), *(path for one in given for path in (one.a, one.b))]))
        with runs.joined(self.settings.device) as team:
            collection = Collection(*paths, settings=self.settings, progress=self.progress if team.leads else Silent(), cancel=self.cancel)
            with team.leader_first():
                library = gather(collection, rows, paths, self.banned)
            train, val, kinds = self.sentences(library, given)
            said = [f"{len(library.paths):,} photos, {len(train):,} sentences to train, {len(val):,} to choose"]
            if dry_run:
                return Done(said if team.leads else [], None)
            for some, purpose in ((train, "to train on"), (val, "to choose by")):
                if not len(some):
                    raise NothingToDo(f"no sentence {purpose} can be made", hint=SHARED.format("training" if some is train else "validation"))
            outcome, centre, measure = self._run(collection, library, train, val, kinds, team)
            if not team.leads:
                return Done([], None)
        card, files = self._pack(collection, library, outcome, centre, measure)
        pack = packs.write(output or packs.user_packs() / self.name, card, files)
        return Done([*said, *told(card.figures)], pack)

    def write_sentences(self, captions: Path, address: str, model: str, *, count: int, token_limit: int) -> Path:
        """Let a language model write sentences about pairs of captioned photos; returns the file of pairs, which a later run goes on with."""
        rows = read_captions_file(captions)
        folder = self.folder or user_folder("data") / "runs" / self.name
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"written.{model.replace('/', '-')}.jsonl"
        questions = [one for val in (False, True) for one in questions_about([row for row in rows if row.val == val], count, val=val, seed=self.config.seed)]
        with runs.join_team(self.settings.device).leader_first():  # the others find every question answered
            self.progress.start(len(questions), "sentences")
            endpoint = writer.Endpoint(address, model)
            done = writer.write(endpoint, questions, path, token_limit=token_limit, cancel=self.cancel, progress=self.progress)
            self.progress.done()
            limit = "; stopped at the limit" if done.stopped else ""
            self.progress.note(f"rankclip: {done.kept:,} sentences written, {done.dropped:,} dropped, {done.tokens:,} tokens{limit}")
            held = {row.path for row in rows if row.val}
            usable = [{**row, "split": "val" if row["a"] in held else "train"} for row in writer.read(path) if "text" in row]
            if not usable:
                raise NothingToDo(f"{address}: none of the {done.dropped:,} answers is a usable sentence", hint="try another --writer-model")
            pairs = folder / "written_pairs.jsonl"
            pairs.write_text("".join(json.dumps(row) + "\n" for row in usable), encoding="utf-8")
            return pairs

    def sentences(self, library: Library, given: Sequence[GivenPair]) -> tuple[Sentences, Sentences, list[Told]]:
        """Make the sentences to train and to choose by; the latter without presence and relation, between photos that share a noun."""
        names = names_of(library.described)
        parts = []
        for side, seed in ((False, self.config.seed), (True, self.config.seed + 1)):
            index = np.flatnonzero(library.val == side)
            some = [library.described[i] for i in index]

            def cosine(one: int, other: int, index: np.ndarray = index) -> float:
                return float(library.photos[index[one]] @ library.photos[index[other]])

            count = self.config.rare // 3 if side else self.config.rare
            rare = PairOptions(count, self.config.each, seed + 10, kinds=RARE, banned=self.banned, verified=False)
            made = [] if side else list(generate(some, PairOptions(self.config.pairs, self.config.each, seed, banned=self.banned), cosine, names))
            made += [one for one in generate(some, rare, cosine) if not side or one.sentence.facts]
            parts.append([Told(int(index[one.a]), int(index[one.b]), one.sentence) for one in made])
        heads = [set(one.frame.entities) for one in library.described]
        held = [one for one in parts[1] if heads[one.a] & heads[one.b]]
        place = {path: i for i, path in enumerate(library.paths)}
        known = [(place[one.a], place[one.b], one) for one in given if one.a in place and one.b in place]
        known = [(a, b, one) for a, b, one in known if not self.banned & set(words_of(one.text))]
        train = [(one.a, one.b, one.sentence.text) for one in parts[0] if one.sentence.facts] + [(a, b, one.text) for a, b, one in known if not one.val]
        val = [(one.a, one.b, one.sentence.text) for one in held] or [(a, b, one.text) for a, b, one in known if one.val]
        return as_sentences(train), as_sentences(val), held

    def _run(
        self, collection: Collection, library: Library, train: Sentences, val: Sentences, kinds: list[Told], team: runs.Team
    ) -> tuple[Outcome, np.ndarray, Measure]:
        """Train; returns the outcome, the centre of the phrases, and what measures it."""
        embed = collection.text_engine.encode_texts  # not through the store: a hundred thousand phrases would stay there for nothing
        progress = self.progress if team.leads else Silent()
        whole = self.config.recipe != "map"
        phrases = train.texts if whole else sorted({phrase for text in train.texts for side in (read(text).first, read(text).second) for phrase in side})
        towers = self.config.recipe not in ("map", "whole")
        vectors = np.zeros((1, library.photos.shape[1]), np.float32) if towers else in_parts(embed, phrases, progress)
        centre = np.zeros(library.photos.shape[1], np.float32) if whole else vectors.mean(axis=0)
        rows = dict(zip(phrases, vectors, strict=False))

        def known(texts: list[str]) -> np.ndarray:
            missing = [text for text in dict.fromkeys(texts) if text not in rows]
            rows.update(zip(missing, in_parts(embed, missing, progress), strict=True) if missing else ())
            return np.stack([rows[text] for text in texts])

        def inputs(texts: list[str]) -> np.ndarray:
            return known(texts) if whole else sided(texts, known, centre)

        captions = [(i, text) for i, texts in enumerate(library.captions) if not library.val[i] for text in texts]
        folder = self.folder or user_folder("data") / "runs" / self.name
        with team.leader_first():
            runs.check_same_run(folder, difference.settings(self.config))
        outcome = difference.train(Data(library.photos, train, val, captions), self.config, folder, inputs=inputs, backbone=collection.backbone, team=team,
                                   progress=StopAtBatch(progress, self.cancel))  # fmt: skip
        return outcome, centre, Measure(library, val, kinds, known, centre)

    def _pack(self, collection: Collection, library: Library, outcome: Outcome, centre: np.ndarray, measure: Measure) -> tuple[HeadCard, dict[str, bytes]]:
        """Put card and files together: weights, axes of the vocabulary, calibration, figures."""
        files = {GRAPH: outcome.graph} if outcome.matrix is None else {MATRIX: packed(matrix=outcome.matrix.astype(np.float16), centre=centre)}
        config: dict[str, Any] = {"form": outcome.form, "context": collection.backbone.context, "recipe": difference.settings(self.config)}
        figures: dict[str, Any] = {"accuracy": outcome.accuracy, "untuned": outcome.untuned, "history": list(outcome.history)}
        if outcome.matrix is not None and outcome.form == "map":
            calibration = measure.calibration(outcome.matrix)
            figures |= {**measure.figures(outcome.matrix), "calibration_error": calibration.errors}
            config |= calibration.config
            axes = measure.axes(outcome.matrix, config["plain_groups"])
            some = library.photos[contrast.sampled(len(library.photos))]
            found = contrast.threshold(some, axes.vectors, axes.spread)
            config |= {"vocabulary": digest(vocabulary()), **({"threshold": round(found, 3)} if found is not None else {})}
            files[AXES] = axes_file(axes)
        card = HeadCard(
            self.name, "difference", collection.backbone.name, collection.backbone.space.fingerprint, config, licence=collection.backbone.licence,
            data=(f"{len(library.paths)} captioned photos",), figures=rounded(figures),
            limits="reads English sentences that compare two photos; says nothing about who a person is",
        )  # fmt: skip
        return card, files


def questions_about(rows: Sequence[Captioned], count: int, *, val: bool, seed: int) -> list[writer.Question]:
    """Choose pairs to ask about, by the generator's proposals; a tenth as many for validation."""
    described = [describe(row.path, row.captions) for row in rows]
    wanted = max(1, count // HELD_OUT) if val else count
    chosen = propose(described, PairOptions(count=wanted, seed=seed))
    return [writer.Question(rows[i].path, rows[j].path, rows[i].captions[0], rows[j].captions[0]) for i, j in chosen if rows[i].captions and rows[j].captions]


def gather(collection: Collection, rows: Sequence[Captioned], paths: Sequence[str], banned: frozenset[str]) -> Library:
    """Embed what is new and read the embeddings and pixel facts of the photos that could be read."""
    captions = {row.path: row for row in rows}
    with collection.opened() as (store, view, gallery):
        ready = np.flatnonzero(view.rows_of(gallery.contents) >= 0)
        contents = {os.path.abspath(path): content for path, content in zip(gallery.paths(ready), gallery.contents[ready].tolist(), strict=True)}
        found = [path for path in paths if path in contents]
        if not found:
            raise NothingToDo("none of the photos in the file could be read")
        table = features.read(store, view, np.array([contents[path] for path in found], np.int64))
    names = list(PixelFacts.__slots__)
    described, said = [], []
    for path, facts, photo in zip(found, table.facts, table.photos, strict=True):
        row = captions.get(path, Captioned(path, (), False))
        texts = [text for text in row.captions if not banned & set(words_of(text))]
        values = dict(zip(names, (float(value) for value in facts), strict=True)) | {"hour": exif.hour(photo)}
        one = describe(path, texts, values | row.values)
        if season := exif.season(photo):
            one.frame.scene["season"] = {season}  # the camera knows it better than a caption
        described.append(one)
        said.append(texts)
    return Library(found, table.pooled, described, np.array([captions[path].val if path in captions else False for path in found]), said)


def names_of(photos: Sequence[Described]) -> dict[str, tuple[str, str]]:
    """What higher and lower values are called: the pixel facts, and every measurement named after an axis of the lexicon ("age")."""
    names = dict(MEASURED)
    for name in sorted({name for photo in photos for name in photo.values} - set(MEASURED)):
        if name in lexicon_axes():
            pair = lexicon_axes()[name]
            head = contrast_of(pair).first.rpartition(" ")[2]
            names[name] = (f"{comparative(pair.positive)}|{head}" if head != "photo" else comparative(pair.positive), comparative(pair.negative))
    return names


def as_sentences(rows: Sequence[tuple[int, int, str]]) -> Sentences:
    return Sentences(np.array([a for a, _, _ in rows], np.int64), np.array([b for _, b, _ in rows], np.int64), [text for *_, text in rows])


def in_parts(embed: Embed, texts: Sequence[str], progress: Progress, size: int = 1024) -> np.ndarray:
    """Embed many texts, float32 [Q, D]; those of like length together, so that little is padded."""
    order = sorted(range(len(texts)), key=lambda i: (len(texts[i]), texts[i]))
    parts = []
    progress.start(len(order), "phrases")
    for start in range(0, len(order), size):
        parts.append(embed([texts[i] for i in order[start : start + size]]))
        progress.advance(len(parts[-1]))
    progress.done()
    rows = np.concatenate(parts)
    result = np.empty_like(rows)
    result[order] = rows
    return result


# ---------------------------------------------------------------- measuring


@dataclass(frozen=True, slots=True)
class Calibration:
    """Entries of the head's configuration, and how far claimed probabilities are from what holds on photos that were not fitted."""

    config: dict[str, Any]
    errors: dict[str, float]


@dataclass(frozen=True, slots=True)
class Measure:
    """Measures a matrix on validation sentences. embed: phrases -> float32 [_, D], known ones from memory."""

    library: Library
    val: Sentences
    told: list[Told]
    embed: Embed
    centre: np.ndarray

    def products(self, matrix: np.ndarray | None) -> np.ndarray:
        """cosine of each validation sentence's direction and its photos' difference, float32 [V]."""
        inputs = sided(self.val.texts, self.embed, self.centre)
        directions = normalised(inputs if matrix is None else inputs @ matrix)
        return (directions * normalised(self.val.differences(self.library.photos))).sum(axis=1)

    def figures(self, matrix: np.ndarray) -> dict[str, Any]:
        """Accuracy of one sentence, of the reversed pair, by kind, with intervals by bootstrap over photos; untuned beside."""
        ours, sides = self.products(matrix), self.products(None)
        whole = self.embed(self.val.texts)  # the untuned tower reads the sentence as it is
        wanted = self.val.differences(self.library.photos)
        back = self.embed([one.sentence.reversed().text for one in self.told]) if self.told else whole * 0
        kinds = np.array([one.sentence.facts[0].kind for one in self.told]) if self.told else np.array(["given"] * len(ours))
        return {
            "sentences": len(ours), "one_sentence": share(ours), "one_sentence_interval": self.interval(ours > 0), "reversed_pair": share(ours),
            "untuned_one_sentence": accuracy(whole, wanted), "untuned_reversed_pair": accuracy(whole - back, wanted), "sides_without_map": share(sides),
            "by_kind": {str(kind): share(ours[kinds == kind]) for kind in np.unique(kinds)},
        }  # fmt: skip

    def interval(self, right: np.ndarray) -> list[float]:
        """95 % interval by bootstrap over photos: pairs that share a photo are not independent."""
        rng = np.random.default_rng(0)
        values = []
        for _ in range(BOOTSTRAPS):
            counts = rng.multinomial(len(self.library.paths), np.full(len(self.library.paths), 1 / len(self.library.paths)))
            weights = counts[self.val.a] * counts[self.val.b]
            if weights.sum():
                values.append(float((weights * right).sum() / weights.sum()))
        return [float(np.quantile(values, q)) for q in (0.025, 0.975)] if values else []

    def calibration(self, matrix: np.ndarray) -> Calibration:
        """Slopes of the probability, fitted on half of the photos and checked on the other, and the groups where plain texts are better."""
        half = (self.val.a % 2 == 0) & (self.val.b % 2 == 0)
        other = (self.val.a % 2 == 1) & (self.val.b % 2 == 1)
        found: dict[str, Any] = {"plain_groups": tuple(self.plain_groups(matrix))}
        checks = {}
        for name, weights in (("slope", matrix), ("plain_slope", None)):
            z = self.standardised(weights)
            found[name] = round(contrast.fit_slope(z[half], np.ones(int(half.sum()), bool)), 4) if half.any() else 1.0
            flip = np.arange(len(z)) % 2 == 0  # half of the pairs in the other order, so that both answers occur
            p = np.array([contrast.probability(-value if turned else value, found[name]) for value, turned in zip(z, flip, strict=True)])
            checks[name] = contrast.calibration_error(p[other], ~flip[other]) if other.any() else float("nan")
        return Calibration(found, checks)

    def standardised(self, matrix: np.ndarray | None) -> np.ndarray:
        """z of each validation sentence: its product with the difference, in spreads of random pairs; float64 [V]."""
        inputs = sided(self.val.texts, self.embed, self.centre)
        axes = normalised(inputs if matrix is None else inputs @ matrix)  # [V, D]
        rng = np.random.default_rng(0)
        one, other = rng.integers(0, len(self.library.photos), (2, 400))
        spread = (axes @ (self.library.photos[one] - self.library.photos[other]).T).std(axis=1)  # [V]
        return np.asarray((axes * self.val.differences(self.library.photos)).sum(axis=1) / np.maximum(spread, 1e-6), np.float64)

    def plain_groups(self, matrix: np.ndarray) -> list[str]:
        """Groups of attributes in which the sides without the map do better on at least `ENOUGH` sentences."""
        ours, plain = self.products(matrix) > 0, self.products(None) > 0
        groups = np.array([SLOT_GROUPS.get(one.sentence.facts[0].slot, "count" if one.sentence.facts[0].kind == "count" else "") for one in self.told])
        large = [str(group) for group in np.unique(groups) if group and (groups == group).sum() >= ENOUGH]
        return [group for group in large if plain[groups == group].mean() > ours[groups == group].mean()]

    def axes(self, matrix: np.ndarray, plain: Sequence[str]) -> Axes:
        """The vocabulary's axes: read by the head, or from plain texts where validation prefers them; and what photos usually show of it."""

        def compare(texts: list[str]) -> np.ndarray:
            return normalised(sided(texts, self.embed, self.centre) @ matrix)

        def axis(one: Contrast) -> np.ndarray:
            return contrast.plain_axis(one.first, one.last, self.embed) if one.group in plain else contrast.compared_axis(one.first, one.last, compare)

        vectors = np.stack([axis(one) for one in vocabulary()])
        phrases = sights(vocabulary())
        known = contrast.sights(np.stack([phrase_embedding(phrase, self.embed) for phrase in phrases]), self.library.photos)
        trained = np.flatnonzero(~self.library.val)
        least = sightings.needed(known.seen(self.library.photos[trained]), phrases, [self.library.captions[i] for i in trained])
        return Axes(vectors, contrast.spreads(self.library.photos, vectors), known.vectors, known.usual, known.spread, least)


def share(products: np.ndarray) -> float:
    return float(((products > 0) + 0.5 * (products == 0)).mean()) if len(products) else float("nan")


def rounded(found: Any) -> Any:
    """Round every number of a nested record to four places."""
    if isinstance(found, dict):
        return {name: rounded(value) for name, value in found.items()}
    if isinstance(found, list | tuple):
        return [rounded(value) for value in found]
    return round(found, 4) if isinstance(found, float) else found


def told(figures: Mapping[str, Any]) -> list[str]:
    """Say the figures to a person."""
    lines = [f"sign accuracy of one sentence, validation: {figures['accuracy']:.1%} (without training: {figures['untuned']:.1%})"]
    if "untuned_one_sentence" in figures:
        low, high = figures["one_sentence_interval"]
        lines.append(f"95 % interval over photos: {low:.1%} to {high:.1%}; the untuned text tower on the same sentences: {figures['untuned_one_sentence']:.1%}")
        lines.append("by kind: " + ", ".join(f"{kind} {value:.1%}" for kind, value in figures["by_kind"].items()))
    return lines
