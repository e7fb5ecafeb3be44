"""Sentences about what differs between two photos, made from their captions by rules: no network, no model, the same on every machine.

    photos = [describe("a.jpg", ["Two dogs run on a beach."]), describe("b.jpg", ["A dog sits in a kitchen."])]
    for told in generate(photos, PairOptions(count=100)):
        print(photos[told.a].key, photos[told.b].key, told.sentence.text)

frames: captions -> what is in the photo. facts: two frames -> what differs. sentences: facts -> text, in three families; the third
("a photo with more dogs and no car") is an instruction as people give it for composed search, alone with `families=("instruction",)`.
pairs: which photos, which facts, filters and balance. Source: difference specification 2.3, ours.
"""

from rankclip.training.generator.facts import MEASURED, Fact, compare, measured
from rankclip.training.generator.frames import Frame, read_captions
from rankclip.training.generator.pairs import Described, PairOptions, Told, describe, facts_between, generate, tell
from rankclip.training.generator.sentences import FAMILIES, Sentence, render

__all__ = [
    "FAMILIES", "MEASURED", "Described", "Fact", "Frame", "PairOptions", "Sentence", "Told",
    "compare", "describe", "facts_between", "generate", "measured", "read_captions", "render", "tell",
]  # fmt: skip
