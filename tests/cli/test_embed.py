"""`embed`: what is new, unchanged, moved, copied, failed; the summary line."""

import itertools
import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Run, noise_photo, square

from rankclip.collection.embedding import Embedding
from rankclip.engines.toy import ToyEngine
from rankclip.store.store import Store


def summary(err: str) -> str:
    return err.splitlines()[-1].partition("; ")[0]


def test_the_summary_counts_everything(run: Run, squares: Path) -> None:
    (squares / "bad.jpg").write_text("no")
    (squares / "notes.txt").write_text("no")
    square(squares / ".hidden.png", (1, 2, 3))
    shutil.copy(squares / "red.png", squares / "red_again.png")
    found = run("embed", "photos")
    assert (found.code, found.out) == (3, b"")
    line = next(line for line in found.err.splitlines() if "new" in line)
    assert line.startswith("rankclip: 5 new, 0 unchanged, 1 copies, 1 failed; left out: 1 hidden, 1 .txt; ")
    assert line.endswith("; toy, cpu, fp32") and "photos/s, decode " in line
    again = run("embed", "photos")
    assert (again.code, summary(again.err)) == (0, "rankclip: 0 new, 6 unchanged, 1 failed before")


def test_a_moved_photo_is_recognised_without_reading(run: Run, squares: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("embed", "photos")
    (squares / "sub").mkdir()
    for name in ("red", "blue"):
        (squares / f"{name}.png").rename(squares / f"sub/{name}_renamed.png")
    monkeypatch.setattr("rankclip.collection.embedding.DecodePool", None)  # whoever decodes now fails
    found = run("embed", "photos")
    assert (found.code, summary(found.err)) == (0, "rankclip: 0 new, 3 unchanged, 2 moved")
    assert summary(run("embed", "photos").err) == "rankclip: 0 new, 5 unchanged"


def test_the_same_bytes_with_a_new_time_are_not_embedded_again(run: Run, squares: Path) -> None:
    run("embed", "photos")
    os.utime(squares / "red.png", ns=(5, 5))
    assert summary(run("embed", "photos").err) == "rankclip: 0 new, 4 unchanged, 1 copies"


def test_a_changed_photo_is_embedded_again(run: Run, squares: Path) -> None:
    run("embed", "photos")
    square(squares / "red.png", (30, 60, 210), (50, 40))
    assert summary(run("embed", "photos").err) == "rankclip: 1 new, 4 unchanged"
    assert run("rank", "photos", "blue").lines[:2] == ["photos/blue.png", "photos/red.png"]


def test_decoding_the_forward_pass_and_writing_overlap(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first pass ends only when the next photos are decoded, and the first write only when the next pass has begun."""
    for number in range(8):
        noise_photo(tmp_path / f"photos/{number}.png", number)
    decoded, passes, seen = threading.Semaphore(0), threading.Semaphore(0), []
    sort_in, encode, add = Embedding._sort_in, ToyEngine.encode_images, Store.add

    def sorted_in(self: Embedding, *rest: Any) -> None:
        sort_in(self, *rest)
        decoded.release()

    def encoded(self: ToyEngine, pixels: Any) -> Any:
        passes.release()
        if not seen:
            seen.append(all(decoded.acquire(timeout=20) for _ in range(4)))
        return encode(self, pixels)

    def added(self: Store, *rest: Any) -> None:
        if len(seen) == 1:
            seen.append(all(passes.acquire(timeout=20) for _ in range(2)))
        add(self, *rest)

    monkeypatch.setattr(Embedding, "_sort_in", sorted_in)
    monkeypatch.setattr(ToyEngine, "encode_images", encoded)
    monkeypatch.setattr(Store, "add", added)
    assert run("embed", "photos", "--batch-size", "4").code == 0
    assert seen == [True, True]


def test_force_embeds_everything_again(run: Run, squares: Path) -> None:
    run("embed", "photos")
    found = run("embed", "photos", "--force")
    assert summary(found.err) == "rankclip: 0 new, 0 unchanged, 5 embedded again" and "photos/s, decode " in found.err


def test_force_replaces_what_is_stored(run: Run, squares: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(squares / "red.png", squares / "red_again.png")
    run("embed", "photos", "--no-tokens")
    old = ToyEngine.encode_images
    monkeypatch.setattr(ToyEngine, "encode_images", lambda self, pixels: old(self, pixels[..., ::-1]))  # another version would see other colours
    assert run("rank", "photos", "red").lines[0] == "photos/red.png"
    assert summary(run("embed", "photos").err) == "rankclip: 0 new, 6 unchanged"
    assert summary(run("embed", "photos", "--force").err) == "rankclip: 0 new, 0 unchanged, 5 embedded again, 1 copies"
    assert run("rank", "photos", "red").lines[0] == "photos/blue.png"
    space = json.loads(run("store", "info", "--json").text)["spaces"][0]
    assert (space["rows"], space["token_rows"]) == (5, 5), "no replaced row stays, and the tokens are there now"
    assert run("store", "verify").code == 0


def test_force_that_is_cut_short_goes_by_the_last_rows(run: Run, squares: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("embed", "photos")
    old = ToyEngine.encode_images
    monkeypatch.setattr(ToyEngine, "encode_images", lambda self, pixels: old(self, pixels[..., ::-1]))
    monkeypatch.setattr("rankclip.store.upkeep.drop_replaced", lambda store, space: None)  # as after a kill
    run("embed", "photos", "--force")
    assert json.loads(run("store", "info", "--json").text)["spaces"][0]["rows"] == 10
    assert run("rank", "photos", "red").lines[0] == "photos/blue.png"
    assert run("store", "compact").text == "5 rows erased\n"
    assert run("rank", "photos", "red").lines[0] == "photos/blue.png"


def test_retry_failed(run: Run, squares: Path) -> None:
    (squares / "bad.jpg").write_text("no")
    assert [run("embed", "photos").code, run("embed", "photos").code, run("embed", "photos", "--retry-failed").code] == [3, 0, 3]


def test_a_root_that_went_away_is_not_forgotten(run: Run, squares: Path, tmp_path: Path) -> None:
    noise_photo(tmp_path / "other/a.png", 1)
    run("embed", "photos", "other")
    squares.rename(tmp_path / "away")
    found = run("embed", "photos", "other")
    assert found.code == 3 and "photos: not there now; nothing about its photos is forgotten" in found.err
    assert run("embed", "photos").code == 4
    (tmp_path / "away").rename(squares)
    assert summary(run("embed", "photos").err) == "rankclip: 0 new, 5 unchanged"


def test_dry_run_writes_nothing(run: Run, squares: Path, tmp_path: Path) -> None:
    found = run("embed", "photos", "--dry-run")
    assert (found.code, (tmp_path / "store").exists()) == (0, False)
    assert "5 new" in found.err and "would need 0.0 MB" in found.err


def test_two_spaces_share_a_store(run: Run, squares: Path) -> None:
    run("embed", "photos")
    assert run("store", "info").text.count("toy (") == 1


def test_no_tokens(run: Run, squares: Path) -> None:
    run("embed", "photos", "--no-tokens")
    assert "5 embeddings, 0 with patch tokens" in run("store", "info").text


def test_a_photo_at_every_batch_position_keeps_its_own_vector(run: Run, tmp_path: Path) -> None:
    """A bad file between good ones must not shift vectors to other paths."""
    colours = {"red": (220, 30, 30), "green": (40, 160, 50), "blue": (30, 60, 210)}
    for i in range(30):
        name = list(colours)[i % 3]
        square(tmp_path / f"many/{i:02}_{name}.png", tuple(c + i % 7 for c in colours[name]), (40 + i, 30))
        if i % 4 == 0:
            (tmp_path / f"many/{i:02}_bad.png").write_text("no")
    assert run("embed", "many", "--batch-size", 4).code == 3
    for name in colours:
        assert all(name in line for line in run("rank", "many", f"{name} first", "--top", 10).lines)


def test_many_photos_of_one_size_are_recognised_too(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uncompressed pictures of one camera all have one size; their digests must not all go to a worker with each file."""
    monkeypatch.setattr("rankclip.collection.embedding.FEW", 3)
    for number in range(6):
        square(tmp_path / f"photos/{number}.bmp", (40 * number, 90, 60))
    assert summary(run("embed", "photos", "--batch-size", "2").err) == "rankclip: 6 new, 0 unchanged"
    for number in range(6):
        (tmp_path / f"photos/copy_{number}.bmp").write_bytes((tmp_path / f"photos/{number}.bmp").read_bytes())
    square(tmp_path / "photos/another.bmp", (1, 2, 3))
    assert summary(run("embed", "photos").err) == "rankclip: 1 new, 6 unchanged, 6 copies"


def test_a_dry_run_takes_no_time(run: Run, squares: Path) -> None:
    found = run("embed", "photos", "--dry-run")
    assert found.err.splitlines()[0] == "rankclip: 5 new, 0 unchanged"


def test_many_links_to_one_photo_are_looked_at_once(run: Run, squares: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(400):
        os.symlink(squares / "red.png", squares / f"link{number:03}.png")
    looks = []
    monkeypatch.setattr("rankclip.store.catalogue.os.path.lexists", lambda path: looks.append(path) or True)
    found = run("embed", "photos")
    assert summary(found.err) == "rankclip: 5 new, 0 unchanged, 400 copies"
    assert len(looks) < 20_000, "80,000 where each looks at all the others"


def test_who_forces_is_not_promised_to_go_on(run: Run, squares: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("embed", "photos")
    monkeypatch.setattr("rankclip.cli.console.time.monotonic", itertools.count(0, 3.0).__next__)
    found = run("embed", "photos", "--force", "--time-limit", 1)
    assert found.code == 0 and found.err.startswith("rankclip: stopped after 1 s (--time-limit), 5 of 5 photos are left: --force begins anew\n")
