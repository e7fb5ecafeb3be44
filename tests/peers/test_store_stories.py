"""Stories 1 to 24 of other tools' users: work lost, stores locked, moved, damaged, stale. Each must not happen here."""

import dataclasses
import errno
import json
import os
import shutil
import signal
import stat
import subprocess
from pathlib import Path

import numpy as np
import psutil
import pytest
from tests.conftest import Run, noise_photo, rankclip_command, square, subprocess_environment
from tests.peers.conftest import PHOTOS
from tests.peers.processes import BATCH, embedding, finished, wait_for
from tests.torture.rights import bound_rankclip
from tests.torture.test_disk import failing_columns

import rankclip.collection.embedding as embedding_module
from rankclip.backbones import specs
from rankclip.collection import collection
from rankclip.engines.toy import ToyEngine
from rankclip.store.catalogue import NAME
from rankclip.store.store import Store
from rankclip.types import InputSpec

RANK = ("rank", "photos", "from dark to bright", "--json", "--no-scan")


def rows(run: Run) -> int:
    spaces = json.loads(run("store", "info", "--json").text)["spaces"]
    return int(spaces[0]["rows"]) if spaces else 0


def test_row_1_a_killed_run_keeps_all_but_the_last_batch(run: Run, photos: Path, tmp_path: Path) -> None:
    with embedding(tmp_path / "log", batches=4) as process:
        process.kill()
        process.wait()
        done = len((tmp_path / "log").read_bytes())
    kept = rows(run)
    assert kept >= done - BATCH > 0
    assert f"{PHOTOS - kept} new, {kept} unchanged" in run("embed", "photos").err


def test_row_2_a_job_that_hits_its_limit_goes_on_where_it_stopped(run: Run, photos: Path, tmp_path: Path) -> None:
    with embedding(tmp_path / "log") as process:
        process.terminate()
        assert process.wait(timeout=10) == 128 + signal.SIGTERM
    again = run("embed", "photos")
    reused = int(again.err.split(" unchanged")[0].split()[-1])
    assert 0 < reused < PHOTOS and f"{PHOTOS - reused} new" in again.err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("late", ["memory", "output"])
def test_row_3_vectors_survive_the_failure_of_a_later_step(run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch, late: str) -> None:
    if late == "output":
        found = run("rank", "photos", "red", "--output", "/dev/full")
        assert found.code == 2 and "/dev/full: cannot be written (no space left on device)" in found.err
        assert stat.S_ISCHR(os.stat("/dev/full").st_mode), "a device is no file to be replaced"
        assert rows(run) == PHOTOS
        return
    real, calls = ToyEngine.encode_images, []

    def encode(self: ToyEngine, pixels: np.ndarray) -> object:
        calls.append(1)
        if len(calls) == 4:
            raise MemoryError
        return real(self, pixels)

    with monkeypatch.context() as patch:
        patch.setattr(ToyEngine, "encode_images", encode)
        found = run("embed", "photos", "--batch-size", BATCH)
    assert found.code == 6 and "not enough memory" in found.err
    assert rows(run) == 3 * BATCH // 2 and run("store", "verify").code == 0


def test_row_4_progress_is_durable_while_it_is_made(run: Run, photos: Path, tmp_path: Path) -> None:
    with embedding(tmp_path / "log", batches=2, slow=1.0) as process:
        first = rows(run)
        wait_for(lambda: rows(run) > first or process.poll() is not None)
        assert process.poll() is None and 0 < first < rows(run), "another process sees the rows come"


def test_row_5_after_ctrl_c_every_stored_file_verifies(run: Run, photos: Path, tmp_path: Path) -> None:
    with embedding(tmp_path / "log") as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 128 + signal.SIGINT
    assert run("store", "verify").code == 0
    with Store.open(tmp_path / "store") as store:
        view = store.view(specs.find("toy").space)
        assert 0 < view.rows == len(view.master) == len(view.small) == len(view.tokens)


def test_row_6_the_lock_of_a_dead_process_is_no_lock(run: Run, photos: Path, tmp_path: Path) -> None:
    with embedding(tmp_path / "log", batches=2, slow=1.0) as process:
        assert run("embed", "photos").code == 5
        process.kill()
        process.wait()
        assert run("embed", "photos").code == 0


def test_row_7_a_second_writer_is_told_and_readers_work(run: Run, photos: Path, tmp_path: Path) -> None:
    with embedding(tmp_path / "log", batches=2, slow=3.0) as process:
        second = finished("embed", "photos")
        assert second.returncode == 5 and f"process {process.pid} is writing" in second.stderr.decode() and b"Traceback" not in second.stderr
        reader = finished(*RANK)
        assert reader.returncode == 0 and reader.stdout.count(b"\n") >= BATCH
        assert process.poll() is None


def test_row_8_no_store_handle_reaches_a_worker(run: Run, photos: Path, tmp_path: Path) -> None:
    with embedding(tmp_path / "log", batches=2, slow=1.0) as process:
        parent = psutil.Process(process.pid)
        assert any(str(tmp_path / "store") in file.path for file in parent.open_files()), "the measure sees handles"
        workers = parent.children(recursive=True)
        assert workers and not [file.path for worker in workers for file in worker.open_files() if str(tmp_path / "store") in file.path]


def test_row_9_rank_works_on_a_read_only_store_and_read_only_photos(run: Run, photos: Path, tmp_path: Path) -> None:
    run("embed", "photos")
    places = [path for top in (photos, tmp_path / "store") for path in (top, *top.rglob("*"))]
    for path in places:
        path.chmod(0o555 if path.is_dir() else 0o444)
    found = bound_rankclip("rank", "photos", "never asked before", cwd=tmp_path)
    for path in places:
        path.chmod(0o755)
    assert found.returncode == 0 and found.stdout.count(b"\n") == PHOTOS, found.stderr


def test_row_10_a_damaged_store_is_named_with_the_way_back(run: Run, photos: Path, tmp_path: Path) -> None:
    run("embed", "photos", "--store", "store")
    before = {path: path.read_bytes() for path in photos.iterdir()}
    catalogue = tmp_path / "store" / NAME
    catalogue.write_bytes(b"\xa5" * catalogue.stat().st_size)
    found = run("rank", "photos", "red")
    assert found.code == 5 and str(catalogue) in found.err and "rankclip store verify --repair" in found.err and found.out == b""
    assert run("store", "verify", "--repair").code == 0 and run("embed", "photos").code == 0
    assert {path: path.read_bytes() for path in photos.iterdir()} == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_row_11_a_failing_disk_leaves_the_old_store_valid(run: Run, photos: Path, number: int) -> None:
    run("embed", "photos")
    wanted = run(*RANK).out
    noise_photo(photos / "zz.png", 99)
    with failing_columns(number, 2):
        assert run("embed", "photos").code == 5
    assert run("store", "verify").code == 0 and run(*RANK).out == wanted


def test_row_12_a_store_beside_the_photos_moves_with_them(run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("embed", "photos", "--store", "photos/.rankclip")
    (tmp_path / "disk").mkdir()
    photos.rename(tmp_path / "disk/pictures")
    forbid_work(monkeypatch)
    found = run("embed", "disk/pictures", "--store", "disk/pictures/.rankclip")
    assert found.code == 0 and f"0 new, {PHOTOS} unchanged" in found.err


def forbid_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """No photo may be decoded, no engine may be made."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("this needs no work")

    monkeypatch.setattr(embedding_module.DecodePool, "__init__", never)
    monkeypatch.setattr(ToyEngine, "__init__", never)


def test_row_13_store_folder_and_index_only_are_options(run: Run, photos: Path, tmp_path: Path) -> None:
    assert run("embed", "photos", "--store", "here").code == 0
    assert (tmp_path / "here" / NAME).exists() and not (tmp_path / "store").exists()
    assert len(run("rank", "photos", "red", "--store", "here").lines) == PHOTOS
    assert len(run("rank", "photos/01.png", "photos/02.png", "red", "--store", "here").lines) == 2


def vector(tmp_path: Path, path: Path) -> bytes:
    with Store.open(tmp_path / "store") as store:
        view, known = store.view(specs.find("toy").space), store.catalogue.files_in(str(path.parent))
        return bytes(view.master[view.row_of[known[path.name].content]].tobytes())


def test_row_14_a_moved_photo_keeps_its_vector_without_work(run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("embed", "photos")
    before = vector(tmp_path, photos / "07.png")
    (photos / "deep").mkdir()
    (photos / "07.png").rename(photos / "deep/renamed.png")
    forbid_work(monkeypatch)
    found = run("embed", "photos")
    assert found.code == 0 and "0 new" in found.err and "1 moved" in found.err
    assert vector(tmp_path, photos / "deep/renamed.png") == before


@pytest.mark.parametrize("how", ["missing", "empty"])
def test_row_15_a_disk_that_was_away_costs_nothing_when_it_is_back(run: Run, photos: Path, tmp_path: Path, how: str) -> None:
    run("embed", "photos")
    photos.rename(tmp_path / "away")
    if how == "empty":
        photos.mkdir()
    found = run("embed", "photos")
    assert found.code == 4 and rows(run) == PHOTOS
    if how == "empty":
        photos.rmdir()
    (tmp_path / "away").rename(photos)
    assert f"0 new, {PHOTOS} unchanged" in run("embed", "photos").err


def test_row_16_masses_that_vanish_are_kept_until_prune(run: Run, photos: Path, tmp_path: Path) -> None:
    run("embed", "photos")
    (tmp_path / "away").mkdir()
    for path in sorted(photos.iterdir())[2:]:
        path.rename(tmp_path / "away" / path.name)
    found = run("embed", "photos")
    assert found.code == 0 and f"{PHOTOS - 2} known photos are not there now; nothing about them is forgotten" in found.err
    assert json.loads(run("store", "info", "--json").text)["files"] == PHOTOS
    assert run("store", "prune").text == f"{PHOTOS - 2} files forgotten\n"


def test_row_17_nothing_is_ever_written_below_the_photos(run: Run, photos: Path) -> None:
    def state() -> dict[str, tuple[int, int, bytes]]:
        places = [photos, *photos.rglob("*")]
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_mode, path.read_bytes() if path.is_file() else b"") for path in places}

    (photos / "bad.jpg").write_text("no")
    (photos / "01.png").chmod(0o400)
    before = state()
    for words in (["embed", "photos"], ["rank", "photos", "red"], ["embed", "photos", "--force", "--retry-failed"], ["store", "verify", "--repair"],
                  ["store", "prune"], ["store", "forget", "photos/02.png"], ["store", "compact"], ["store", "forget", "photos"]):  # fmt: skip
        assert run(*words).code in (0, 3), words
        assert state() == before, words


def test_row_18_a_deleted_photo_is_not_printed(run: Run, photos: Path) -> None:
    run("embed", "photos")
    (photos / "05.png").unlink()
    assert "photos/05.png" not in run("rank", "photos", "red").lines and len(run("rank", "photos", "red").lines) == PHOTOS - 1


def test_row_20_a_full_run_takes_edited_photos_and_counts_all(run: Run, photos: Path, tmp_path: Path) -> None:
    """An edit that keeps size and time is seen by --force only."""
    run("embed", "photos")
    one, other = (square(tmp_path / f"{name}.bmp", colour).read_bytes() for name, colour in (("one", (220, 30, 30)), ("other", (30, 60, 210))))
    edited = photos / "edited.bmp"
    edited.write_bytes(one)
    run("embed", "photos")
    when = edited.stat().st_mtime_ns
    edited.write_bytes(other)
    os.utime(edited, ns=(when, when))
    (photos / "bad.jpg").write_text("no")
    assert f"0 new, {PHOTOS + 1} unchanged" in run("embed", "photos").err
    assert f"1 new, 0 unchanged, {PHOTOS} embedded again, 1 failed" in run("embed", "photos", "--force").err
    assert run("rank", "photos", "blue").lines[0] == "photos/edited.bmp"


def test_row_21_another_preprocessing_or_weights_is_another_space(run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("embed", "photos")
    old = specs.TOY.space
    for changed in (dataclasses.replace(specs.TOY, input=InputSpec(32, "crop")), dataclasses.replace(specs.TOY, weights="1" * 64)):
        assert changed.space.fingerprint != old.fingerprint
        with monkeypatch.context() as patch:
            patch.setattr(collection, "find", lambda name, changed=changed: changed)
            assert f"{PHOTOS} new, 0 unchanged" in run("embed", "photos").err, "old vectors are not taken for new ones"
    assert f"0 new, {PHOTOS} unchanged" in run("embed", "photos").err, "and are still there"


def test_row_22_a_query_by_another_model_names_both(run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("embed", "photos")
    other = dataclasses.replace(specs.TOY, name="other-model", weights="1" * 64)
    monkeypatch.setattr(collection, "find", lambda name: other)
    found = run("rank", "photos", "red", "--no-scan")
    assert (found.code, found.out) == (6, b"") and "toy" in found.err and "other-model" in found.err


def test_row_23_model_names_are_trimmed_and_unknown_ones_meet_a_list(run: Run, photos: Path) -> None:
    assert run("embed", "photos", "--model", " toy ").code == 0
    found = run("embed", "photos", "--model", "ViT B 32")
    assert found.code == 6 and "'ViT B 32'" in found.err and "toy, rankclip-mini" in found.err


def test_row_24_the_store_records_what_a_later_query_needs(run: Run, photos: Path, tmp_path: Path) -> None:
    wanted = run("rank", "photos", "from dark to bright", "--json").out
    with Store.open(tmp_path / "store") as store:
        (space,) = store.catalogue.spaces()
    assert specs.find(space.backbone).space == space, "name, weights and preprocessing lead back to the model"
    shutil.copytree(tmp_path / "store", tmp_path / "copy")
    environment = {**subprocess_environment(), "RANKCLIP_STORE": str(tmp_path / "copy")}
    found = subprocess.run(rankclip_command(*RANK), capture_output=True, env=environment, timeout=60)
    assert found.stdout == wanted
