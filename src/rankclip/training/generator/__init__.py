"""Sentences about what differs between two photos, made from their captions by rules: no network, no model, the same on every machine.

    photos = [describe("a.jpg", ["Two dogs run on a beach."]), describe("b.jpg", ["A dog sits in a kitchen."])]
    for told in generate(photos, PairOptions(count=100)):
        print(photos[told.a].key, photos[told.b].key, told.sentence.text)

frames: captions -> what is in the photo. facts: two frames -> what differs. sentences: facts -> text, in three families; the third
("a photo with more dogs and no car") names the wanted photo instead of the difference. pairs: which photos, which facts, filters and balance.
edits: one change asked of one photo ("the same but in snow", "a cat instead of a dog"), for composed search. Source: difference specification 2.3, ours.
"""

from rankclip.training.generator.edits import Edit, EditOptions, edits, swaps
from rankclip.training.generator.facts import MEASURED, Fact, compare, measured
from rankclip.training.generator.frames import Frame, read_captions
from rankclip.training.generator.pairs import Described, PairOptions, Told, describe, facts_between, generate, tell
from rankclip.training.generator.sentences import FAMILIES, Sentence, render

__all__ = [
    "FAMILIES", "MEASURED", "Described", "Edit", "EditOptions", "Fact", "Frame", "PairOptions", "Sentence", "Told",
    "compare", "describe", "edits", "facts_between", "generate", "measured", "read_captions", "render", "swaps", "tell",
]  # fmt: skip
