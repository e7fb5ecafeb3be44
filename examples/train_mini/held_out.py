"""Words that no training sentence holds must still mean something: the list of the twin run, and its test.

    python examples/train_mini/held_out.py --sentences OUT/sentences.jsonl --wordnet /usr/share/wordnet     # writes held_out.json, which is committed
    python examples/train_mini/train.py --drop examples/train_mini/held_out.json ... --out TWIN              # the twin run
    python examples/train_mini/held_out.py --tower TWIN/text/tower.pt                                        # tests it

A pair is a noun and its synonym or hypernym (WordNet). It is right when the two are nearer to each other than the noun is to another pair's partner: the
share is taken over all other partners. Every sentence with the noun, captions, names, glosses and generated ones alike, is left out of the training.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

import sentences
import text
from rankclip.backbones import tokens
from rankclip.training.models.mini import TextConfig, TextTower

LIST = Path(__file__).with_name("held_out.json")
PAIRS = 200
SEEN = 3  # captions that hold the noun, at least: words that people use
ROUNDS = 1_000  # of the bootstrap


def partners(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield each one-word noun with a synonym of its most common meaning or, without one, with the first word of its hypernym."""
    senses = dict(sentences._sense_order(folder / "index.noun"))
    synsets = {}
    for line in (folder / "data.noun").read_text().splitlines():
        if not line.startswith(" "):
            fields = line.split(" | ", 1)[0].split()
            count = int(fields[3], 16)
            names = [name.replace("_", " ") for name in fields[4 : 4 + 2 * count : 2]]
            above = re.search(r" @ (\d{8}) n", line)
            synsets[fields[0]] = names, above.group(1) if above else ""
    for noun, order in senses.items():
        if noun.isalpha() and order[0] in synsets:
            names, above = synsets[order[0]]
            same = [name for name in names if name.lower() != noun]
            other = (same or synsets.get(above, ([], ""))[0] or [""])[0].lower()
            if other and not re.search(rf"\b{noun}", other) and not noun.startswith(other):
                yield noun, other


def choose(rows: list[sentences.Sentence], wordnet: Path, seed: int = 0) -> list[tuple[str, str]]:
    """Draw the pairs; no partner holds a held-out noun, and no two pairs share a partner."""
    times = Counter(word for row in rows if row.kind == "caption" for word in set(re.findall(r"[a-z]+", row.text.lower())))
    found = [pair for pair in partners(wordnet) if times[pair[0]] >= SEEN and all(times[word] for word in pair[1].split())]
    random.Random(seed).shuffle(found)
    pairs: dict[str, str] = {}
    for noun, other in found:
        taken = {word for one in pairs.items() for phrase in one for word in phrase.split()}
        if len(pairs) < PAIRS and not taken & {noun, *other.split()}:
            pairs[noun] = other
    return sorted(pairs.items())


def share_right(tower: TextTower, pairs: list[tuple[str, str]]) -> np.ndarray:
    """For each pair, the share of other partners that are farther from the noun: float64 [N]."""
    ids = [tokens.tokenize([f"a photo of {sentences.with_article(one[side])}" for one in pairs]).astype(np.int32) for side in (0, 1)]
    nouns, others = (text.embed_ids(tower, some, (some == tokens.END).argmax(axis=1) + 1) for some in ids)  # [N, D] twice
    cosines = nouns @ others.T  # [N, N]
    return (cosines < np.diag(cosines)[:, None]).sum(axis=1) / (len(pairs) - 1)


def measure(path: Path, pairs: list[tuple[str, str]]) -> None:
    state = torch.load(path, map_location="cpu", weights_only=True)
    config = {name: state["config"][name] for name in ("width", "layers", "factor", "causal")}
    tower = TextTower(TextConfig(**config))
    tower.load_state_dict(state["tower"])
    right = share_right(tower.eval(), pairs)
    draws = np.random.default_rng(0).integers(0, len(right), (ROUNDS, len(right)))
    low, high = np.percentile(right[draws].mean(axis=1), (2.5, 97.5))
    print(f"{len(right)} pairs: nearer than another word {100 * right.mean():.1f} % [{100 * low:.1f}, {100 * high:.1f}]; "
          f"nearer than nine others in ten, {100 * (right >= 0.9).mean():.1f} % of pairs")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=Path, help="sentences.jsonl of a run: draw the list anew")
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    parser.add_argument("--tower", type=Path, help="text/tower.pt of the twin run: test it")
    options = parser.parse_args()
    if options.sentences:
        pairs = choose(sentences.read(options.sentences), options.wordnet)
        LIST.write_text(json.dumps({"words": [noun for noun, _ in pairs], "pairs": pairs}, indent=1) + "\n")
        print(f"{len(pairs)} pairs are in {LIST}")
    if options.tower:
        measure(options.tower, [(noun, other) for noun, other in json.loads(LIST.read_text())["pairs"]])


if __name__ == "__main__":
    main()
