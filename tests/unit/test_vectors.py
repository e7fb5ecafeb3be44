"""Raw rows: append, cut, map, checksums, quantisation."""

from pathlib import Path

import numpy as np
import pytest

from rankclip.errors import StoreDamaged
from rankclip.store.vectors import POOLED, TOKENS, Rows, columns, pooled_block, quantize, tokens_block
from rankclip.types import Space

SPACE = Space("toy", "0" * 64, "squash-32-bicubic/1", 16, 4, 8)


def block(count: int, first: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(first)
    return pooled_block(rng.normal(size=(count, 16)).astype(np.float32), np.arange(first, first + count))


def test_rows_come_back_as_they_went_in(tmp_path: Path) -> None:
    files = Rows(tmp_path, SPACE, POOLED)
    one, two = block(3), block(2, 3)
    sums = [files.append(one, 0), files.append(two, 3)]
    for name, a, b in zip(("pooled.i8", "pooled.scale", "pooled.f16", "rows.i64"), one, two, strict=True):
        assert np.array_equal(files.read(name, 5), np.concatenate([a, b]))
    assert files.intact(0, 3, sums[0]) == files.intact(3, 2, sums[1]) == [True] * 4


def test_bytes_past_the_count_are_overwritten(tmp_path: Path) -> None:
    files = Rows(tmp_path, SPACE, POOLED)
    files.append(block(3), 0)
    files.append(block(4, 100), 3)  # a batch whose transaction never came
    sums = files.append(block(2, 50), 3)
    assert files.read("rows.i64", 5).tolist() == [0, 1, 2, 50, 51]
    assert (tmp_path / "rows.i64").stat().st_size == 5 * 8
    assert all(files.intact(3, 2, sums))


def test_a_short_file_is_damage_not_garbage(tmp_path: Path) -> None:
    files = Rows(tmp_path, SPACE, POOLED)
    files.append(block(3), 0)
    with pytest.raises(StoreDamaged, match="cut short") as error:
        files.read("pooled.f16", 4)
    assert "rankclip store verify --repair" in error.value.hint
    (tmp_path / "pooled.f16").unlink()
    with pytest.raises(StoreDamaged, match="missing"):
        files.read("pooled.f16", 1)


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    files = Rows(tmp_path, SPACE, POOLED)
    sums = files.append(block(3), 0)
    data = bytearray((tmp_path / "pooled.i8").read_bytes())
    data[7] ^= 1
    (tmp_path / "pooled.i8").write_bytes(data)
    assert files.intact(0, 3, sums) == [False, True, True, True]


def test_quantisation_is_within_half_a_step() -> None:
    rows = np.random.default_rng(0).normal(size=(5, 4, 8)).astype(np.float32)
    small, scales = quantize(rows)
    assert small.dtype == np.int8 and small.shape == rows.shape
    assert (np.abs(rows - small * scales[:, None, None]) <= scales[:, None, None] * 0.5001).all()
    assert quantize(np.zeros((2, 3), np.float32))[0].tolist() == [[0, 0, 0], [0, 0, 0]]


def test_tokens_have_rows_of_their_own(tmp_path: Path) -> None:
    files = Rows(tmp_path, SPACE, TOKENS)
    values = np.random.default_rng(0).normal(size=(2, 4, 8)).astype(np.float32)
    files.append(tokens_block(values, np.array([7, 9])), 0)
    assert files.read("tokens.i64", 2).tolist() == [7, 9]
    assert [column.row_bytes for column in columns(SPACE, TOKENS)] == [32, 4, 8]
