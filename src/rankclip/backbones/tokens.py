"""Text -> CLIP token ids.

Promises the ids that open_clip's default tokenizer gives (byte-pair encoding of Sennrich et al. 2016 over bytes, lower
case, 49,408 entries), without importing it: that import costs seconds. Refuses nothing: any string has a tokenisation;
what does not fit into the context is cut, and `is_truncated` says so.
"""

from __future__ import annotations

import gzip
import html
import re
import unicodedata
from functools import cache, lru_cache
from importlib import resources

import numpy as np

CONTEXT = 77  # tokens, both end marks included: the length every CLIP text tower was trained with
N_BYTES = 256  # the first 256 ids are single bytes, the next 256 the same bytes at the end of a word
N_MERGES = 48_894  # ids 512 ... 49,405; the id of a merged token is 512 + rank of its merge
START = 2 * N_BYTES + N_MERGES  # 49,406
END = START + 1  # 49,407
VOCABULARY = END + 1  # 49,408

END_OF_WORD = "</w>"
_CONTRACTION = re.compile(r"'(?:s|t|re|ve|m|ll|d)", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_SPECIAL = {"<start_of_text>": START, "<end_of_text>": END}
_SPECIAL_MARK = re.compile("|".join(map(re.escape, _SPECIAL)))


def tokenize(texts: list[str], *, context: int = CONTEXT) -> np.ndarray:
    """Encode texts as padded rows of token ids.

    texts: Q strings.  Returns int64 [Q, context]: start mark, tokens, end mark, zeros. A text that is too long loses its
    tail; the end mark stays.    Source: Radford et al. 2021, section 2.4.

    >>> tokenize(["a cat"])[0, :4].tolist()
    [49406, 320, 2368, 49407]
    """
    rows = np.zeros((len(texts), context), dtype=np.int64)
    for row, text in zip(rows, texts, strict=True):
        ids = encode(text)[: context - 2]
        row[: len(ids) + 2] = [START, *ids, END]
    return rows


def is_truncated(text: str, *, context: int = CONTEXT) -> bool:
    """Tell whether `tokenize` cuts this text."""
    if len(text.encode("utf-8", "replace")) <= context - 2:  # a token is at least a byte: nothing to load for what is surely short
        return False
    return len(encode(text)) > context - 2


def encode(text: str) -> list[int]:
    """Encode one text as token ids, without end marks.

    >>> encode("Older faces first!")
    [7945, 7389, 957, 256]
    """
    ids: list[int] = []
    for word in _words(_clean(text)):
        ids.extend([_SPECIAL[word]] if word in _SPECIAL else _encode_word(word))
    return ids


def _clean(text: str) -> str:
    if not text.isascii() or _CONTROL.search(text):  # plain text needs no mending, and the import costs 30 ms
        import ftfy

        text = ftfy.fix_text(text)
    if "&" in text:
        text = html.unescape(html.unescape(text))
    return " ".join(text.split()).lower()


def _words(text: str) -> list[str]:
    """Split into end marks, contractions, runs of letters, single digits, runs of anything else."""
    words: list[str] = []
    position = 0
    while position < len(text):
        match = _SPECIAL_MARK.match(text, position) or _CONTRACTION.match(text, position)
        end = match.end() if match else _run_end(text, position)
        if not text[position].isspace():
            words.append(text[position:end])
        position = end
    return words


def _run_end(text: str, position: int) -> int:
    kind = _kind(text[position])
    end = position + 1
    if kind in "N ":
        return end
    while end < len(text) and _kind(text[end]) == kind:
        end += 1
    return end


def _kind(character: str) -> str:
    """Tell letters (L), numbers (N), space and the rest (P) apart, as the reference's regular expression does."""
    if character.isspace():
        return " "
    category = unicodedata.category(character)[0]
    return category if category in "LN" else "P"


@lru_cache(maxsize=16_384)
def _encode_word(word: str) -> tuple[int, ...]:
    ranks, symbols = _merges(), _byte_symbols()
    parts = [symbols[byte] for byte in word.encode()]
    parts[-1] += END_OF_WORD
    while len(parts) > 1:
        found = [(ranks.get(f"{a} {b}", N_MERGES), i) for i, (a, b) in enumerate(zip(parts, parts[1:], strict=False))]
        rank, _ = min(found)
        if rank == N_MERGES:
            break
        parts = _merge_all(parts, [i for r, i in found if r == rank])
    return tuple(_token_id(part) for part in parts)


def _merge_all(parts: list[str], starts: list[int]) -> list[str]:
    """Join the pairs that begin at `starts`, left to right; a part joins once."""
    joined: list[str] = []
    position = 0
    while position < len(parts):
        take = 2 if position in starts else 1
        joined.append("".join(parts[position : position + take]))
        position += take
    return joined


@cache
def _merges() -> dict[str, int]:
    """Map "left right" to its rank; the file is OpenAI CLIP's list (MIT, see NOTICE beside it)."""
    data = resources.files(__package__).joinpath("data/clip_bpe_merges.txt.gz").read_bytes()
    lines = gzip.decompress(data).decode().split("\n")
    assert len(lines) == N_MERGES, len(lines)
    return {line: rank for rank, line in enumerate(lines)}


@cache
def _merged_ids() -> dict[str, int]:
    return {line.replace(" ", "", 1): 2 * N_BYTES + rank for line, rank in _merges().items()}


def _token_id(part: str) -> int:
    if part in (ids := _single_ids()):
        return ids[part]
    return _merged_ids()[part]


@cache
def _single_ids() -> dict[str, int]:
    alphabet = _alphabet()
    ids = {character: i for i, (_, character) in enumerate(alphabet)}
    return ids | {character + END_OF_WORD: N_BYTES + i for i, (_, character) in enumerate(alphabet)}


@cache
def _byte_symbols() -> dict[int, str]:
    return dict(_alphabet())


@cache
def _alphabet() -> list[tuple[int, str]]:
    """Pair each byte with its printable stand-in, in id order: printable bytes stand for themselves and come first."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(N_BYTES) if byte not in set(printable)]
    return [(byte, chr(byte)) for byte in printable] + [(byte, chr(N_BYTES + i)) for i, byte in enumerate(others)]
