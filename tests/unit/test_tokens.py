"""Our tokenizer gives open_clip's ids."""

import random

import numpy as np
import pytest

from rankclip.backbones.tokens import CONTEXT, END, START, VOCABULARY, encode, is_truncated, tokenize

TEXTS = [
    "a cat", "Older faces first!", "it's 2 dogs' über-naïve 日本語 ½ x² … &amp; don't 🦄 tab\tx  y", "", "   ", "<end_of_text> hi", "i'LL we'd", "a_b __ c",
    "l'été", "it’s", "ﬁne", "café", "don't STOP", "&lt;b&gt;", "x" * 400, "one " * 100, "日本語の写真", "schöne Grüße", "100% 3.14 -7", "e\u0301te\u0301", "tab\x07bell",
]  # fmt: skip


def test_the_shape_and_the_marks() -> None:
    rows = tokenize(["a cat", ""])
    assert rows.shape == (2, CONTEXT) and rows.dtype == np.int64
    assert rows[0, :4].tolist() == [START, 320, 2368, END]
    assert rows[1, :3].tolist() == [START, END, 0]
    assert VOCABULARY == 49408


def test_a_long_text_keeps_its_end_mark() -> None:
    assert tokenize(["word " * 200])[0, -1] == END
    assert is_truncated("word " * 200) and not is_truncated("a short one")


def test_equal_to_open_clip() -> None:
    open_clip = pytest.importorskip("open_clip", reason="needs open_clip")
    reference = open_clip.tokenizer.SimpleTokenizer()
    rng = random.Random(0)
    letters = [*"abcdefghij '!?.,0123456789", "'s", "é", "ß", "я", "中", "🙂", "\n", "-"]
    texts = TEXTS + ["".join(rng.choice(letters) for _ in range(rng.randrange(1, 40))) for _ in range(2_000)]
    ours, theirs = tokenize(texts), reference(texts).numpy()
    different = [text for text, a, b in zip(texts, ours, theirs, strict=True) if not np.array_equal(a, b)]
    assert len(texts) > 2_000 and different == []


def test_every_merge_has_an_id() -> None:
    assert encode("photograph") == encode("PHOTOGRAPH")
    assert max(encode("zebra crossing \u2603")) < START
