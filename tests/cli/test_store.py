"""`store`: info, verify, repair, prune, compact, forget, export."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import Run

from rankclip.backbones.specs import find
from rankclip.store.rescue import _replace
from rankclip.store.store import Store
from rankclip.store.vectors import quantize


@pytest.fixture
def filled(run: Run, squares: Path, tmp_path: Path) -> Path:
    run("embed", "photos", "--batch-size", 4)
    return tmp_path / "store"


def column(store: Path, name: str) -> Path:
    return next(store.glob(f"spaces/*/{name}"))


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 255
    path.write_bytes(data)


@pytest.mark.parametrize("command", ["info", "verify", "prune", "compact"])
def test_without_a_store_one_line_and_no_error(run: Run, command: str) -> None:
    found = run("store", command)
    assert (found.code, found.out) == (0, b"") and found.err.startswith("rankclip: no store yet at ") and found.err.count("\n") == 1


def test_info(run: Run, filled: Path) -> None:
    assert "5 files in 1 folders, 5 different contents, 0 that could not be read" in run("store", "info").text
    facts = json.loads(run("store", "info", "--json").text)
    assert facts["schema"] == "rankclip.store/1" and facts["spaces"][0]["rows"] == 5 and facts["bytes"] > 0


def test_a_sound_store(run: Run, filled: Path) -> None:
    assert run("store", "verify").text == "sound: 6 batches\n"


@pytest.mark.parametrize("name", ["pooled.i8", "pooled.scale"])
def test_small_rows_are_rebuilt_from_the_master(run: Run, filled: Path, name: str) -> None:
    before = column(filled, name).read_bytes()
    flip(column(filled, name), 3)
    found = run("store", "verify")
    assert found.code == 5 and "rankclip store verify --repair" in found.err and name in found.err
    assert run("store", "verify", "--repair").text == "2 rows rebuilt, 0 dropped\n"
    assert column(filled, name).read_bytes() == before
    assert run("store", "verify").code == 0


@pytest.mark.parametrize("name", ["pooled.f16", "rows.i64", "tokens.i8"])
def test_other_rows_are_dropped_and_embedded_again(run: Run, filled: Path, name: str) -> None:
    before = run("rank", "photos", "red first", "--json").out
    flip(column(filled, name), 1)
    assert run("store", "verify").code == 5
    assert "2 dropped" in run("store", "verify", "--repair").text
    assert run("store", "verify").code == 0
    assert run("embed", "photos").code == 0
    assert run("rank", "photos", "red first", "--json").out == before


def test_a_truncated_column_is_named_by_rank_and_mended(run: Run, filled: Path) -> None:
    before = run("rank", "photos", "red first").out
    path = column(filled, "pooled.f16")
    path.write_bytes(path.read_bytes()[:-10])
    found = run("rank", "photos", "blue first")
    assert found.code == 5 and "cut short" in found.err and "rankclip store verify --repair" in found.err
    run("store", "verify", "--repair")
    assert run("rank", "photos", "red first").out == before


def test_a_damaged_catalogue_is_named(run: Run, filled: Path) -> None:
    path = filled / "catalogue.sqlite3"
    data = bytearray(path.read_bytes())
    data[:100] = b"\0" * 100
    path.write_bytes(data)
    found = run("rank", "photos", "red first")
    assert found.code == 5 and "catalogue.sqlite3" in found.err and found.out == b""


def test_a_newer_store_is_refused_untouched(run: Run, filled: Path) -> None:
    import sqlite3

    with sqlite3.connect(filled / "catalogue.sqlite3") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = (filled / "catalogue.sqlite3").read_bytes()
    for words in (["rank", "photos", "red"], ["embed", "photos"], ["store", "info"]):
        found = run(*words)
        assert (found.code, found.out) == (5, b"") and "format 99" in found.err and "update rankclip" in found.err
    assert (filled / "catalogue.sqlite3").read_bytes() == before


def test_an_older_store_is_brought_up_to_date(run: Run, filled: Path) -> None:
    """Format 1 knew nothing of inner stages: what it holds stays, and they are unknown until the photos are embedded again."""
    import sqlite3

    with sqlite3.connect(filled / "catalogue.sqlite3") as connection:
        connection.execute("DROP TABLE stage")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    found = run("rank", "photos", "red first", "--no-scan")
    assert (found.code, found.out) == (5, b"") and "older rankclip" in found.err and "rankclip embed" in found.err
    assert "0 new, 5 unchanged" in run("embed", "photos").err
    assert len(run("rank", "photos", "red first", "--no-scan").lines) == 5 and run("store", "verify").code == 0
    with Store.open(filled) as store:
        view = store.view(find("toy").space)
        assert view.read_stages(view.contents).shape == (5, 0)


def test_stages_go_with_their_photo_and_survive_a_damaged_catalogue(run: Run, filled: Path) -> None:
    space = find("toy").space
    with Store.open(filled, write=True) as store:
        contents = store.view(space).contents
        means = np.arange(5 * 3, dtype=np.float32).reshape(5, 3)
        store.catalogue.put_stages(store.view(space).number, contents, *quantize(means))
    _replace(filled)
    with Store.open(filled) as store:
        assert np.allclose(store.view(space).read_stages(contents), means, atol=0.06)
        gone = store.catalogue.files_in(str(filled.parent / "photos"))["red.png"].content
    run("store", "forget", "photos/red.png")
    with Store.open(filled) as store:
        found = store.view(space).read_stages(contents)
    assert np.array_equal(np.isnan(found).all(axis=1), contents == gone), "those of the forgotten photo alone are erased"


def test_prune_forgets_only_what_is_gone(run: Run, filled: Path, squares: Path) -> None:
    (squares / "red.png").unlink()
    assert run("store", "prune").text == "1 file forgotten\n"
    assert run("store", "compact").text == "1 rows erased\n"
    assert "4 embeddings" in run("store", "info").text
    assert run("store", "verify").code == 0
    assert len(run("rank", "photos", "green", "--no-scan").lines) == 4


def test_prune_leaves_a_missing_folder_alone(run: Run, filled: Path, squares: Path, tmp_path: Path) -> None:
    squares.rename(tmp_path / "unmounted")
    assert run("store", "prune").text == "0 files forgotten\n"


def test_forget_erases_the_features(run: Run, filled: Path) -> None:
    assert run("store", "forget", "photos/red.png").text == "1 file forgotten, their features erased\n"
    assert "4 files in 1 folders, 4 different contents" in run("store", "info").text
    assert run("store", "forget", "nowhere").code == 2
    assert run("store", "forget", "photos").text == "4 files forgotten, their features erased\n"


def test_export(run: Run, filled: Path, tmp_path: Path) -> None:
    assert "5 embeddings written" in run("store", "export", "out.npz").text
    data = np.load(tmp_path / "out.npz")
    assert data["embeddings"].shape == (5, 16) and data["embeddings"].dtype == np.float16
    assert sorted(path.decode().rsplit("/", 1)[1] for path in data["paths"]) == ["black.png", "blue.png", "green.png", "red.png", "white.png"]
    assert run("store", "export", "out.xyz").code == 2


def test_export_to_parquet(run: Run, filled: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    run("store", "export", "out.parquet")
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.num_rows == 5 and len(table["embedding"][0]) == 16


def test_a_store_beside_the_photos_travels_with_them(run: Run, squares: Path, tmp_path: Path) -> None:
    run("embed", "photos", "--store", "photos/.rankclip")
    squares.rename(tmp_path / "moved")
    found = run("embed", "moved", "--store", "moved/.rankclip")
    assert (found.code, found.err) == (0, "rankclip: 0 new, 5 unchanged; left out: 1 hidden\n")


@pytest.mark.parametrize("words", [("export", "out.npz"), ("forget", "photos")])
def test_what_needs_a_store_says_that_there_is_none(run: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    found = run("store", *words)
    assert (found.code, found.err.splitlines()[0]) == (4, f"rankclip: no store yet at {tmp_path / 'store'}")


def test_forget_says_what_there_is(run: Run, filled: Path, tmp_path: Path) -> None:
    assert run("store", "forget", "nowhere").err.splitlines() == [
        "rankclip: nothing in the store lies at nowhere",
        f"  it holds photos in {tmp_path / 'photos'}",
    ]


def test_an_export_is_whole_or_not_there(run: Run, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *arrays: object, **named: object) -> None:
        Path(path).write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("rankclip.store.upkeep.np.savez", full)
    found = run("store", "export", "out.npz")
    assert (found.code, found.err.splitlines()[0]) == (2, "rankclip: out.npz: cannot be written (no space left on device)")
    assert not list(tmp_path.glob("*out.npz"))


def test_a_store_that_cannot_be_looked_at_is_named(run: Run) -> None:
    found = run("store", "info", "--store", "x" * 300)
    assert (found.code, found.err.splitlines()[0]) == (5, f"rankclip: {'x' * 300}: cannot be read (file name too long)")
