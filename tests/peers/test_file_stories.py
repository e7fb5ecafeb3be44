"""Stories 25 to 50 of other tools' users: bad files, hostile files, odd folders. Each must not happen here."""

import io
import json
import re
import struct
import subprocess
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import ROOT, Run, noise_photo, rankclip_command, square, subprocess_environment
from tests.peers.conftest import PHOTOS
from tests.peers.processes import finished
from tests.torture.footprint import MIB, Peak
from tests.torture.rights import bound_rankclip
from tests.torture.test_cron import footprints
from tests.torture.test_formats import cut_jpeg, features
from tests.torture.test_isolation import plain_memory
from tests.unit.test_decode import picture

import rankclip.collection.embedding as embedding_module
from rankclip import registry
from rankclip.collection.features import read as read_features
from rankclip.photos.decode import DecodeOptions
from rankclip.photos.pool import DecodePool
from rankclip.photos.worker import WorkerOptions
from rankclip.settings import Settings
from rankclip.store.store import Store
from rankclip.types import InputSpec

RED = (220, 30, 30)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files with a fault in their name (spin.png) do that to their decoder."""

    class Planted(DecodePool):
        def __init__(self, options: WorkerOptions, workers: int) -> None:
            super().__init__(options, workers, module="tests.torture.planted")

    plain_memory(monkeypatch)
    monkeypatch.setattr(embedding_module, "DecodePool", Planted)


def complaints(err: str) -> list[str]:
    """The lines that name a file."""
    return [line for line in err.splitlines() if line.startswith("rankclip: photos")]


def test_row_25_an_empty_or_bad_picture_is_one_line(run: Run, photos: Path) -> None:
    (photos / "empty.jpg").touch()
    (photos / "text.png").write_text("hello")
    found = run("embed", "photos")
    assert found.code == 3 and f"{PHOTOS} new" in found.err
    assert complaints(found.err) == ["rankclip: photos/empty.jpg: the file is empty",
                                     "rankclip: photos/text.png: not a picture that rankclip knows (told by its content, whatever its name)"]  # fmt: skip


def test_row_26_a_failure_is_remembered_until_the_file_changes(run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (photos / "bad.jpg").write_text("no")
    assert run("embed", "photos").code == 3
    with monkeypatch.context() as patch:
        patch.setattr(embedding_module, "DecodePool", None)  # whoever tries again falls over
        found = run("embed", "photos")
    assert found.code == 0 and "1 failed before" in found.err and complaints(found.err) == []
    noise_photo(photos / "good.png", 99).rename(photos / "bad.jpg")
    assert "1 new" in run("embed", "photos").err


def test_row_27_a_truncated_jpeg_ends_at_once_and_is_left_out(run: Run, photos: Path) -> None:
    cut_jpeg(photos)
    began = time.monotonic()
    found = run("embed", "photos")
    assert time.monotonic() - began < 15 and found.code == 3 and "photos/cut.jpg: JPEG: the file is cut short (--allow-truncated" in found.err
    assert "photos/cut.jpg" not in run("rank", "photos", "red").lines
    assert run("embed", "photos", "--retry-failed", "--allow-truncated").code == 0
    assert "photos/cut.jpg" in run("rank", "photos", "red").lines


@pytest.mark.parametrize("more", [(), ("--no-scan",)])
def test_row_28_json_says_which_photos_are_cut_short(run: Run, photos: Path, more: tuple[str, ...]) -> None:
    cut_jpeg(photos)
    run("embed", "photos", "--allow-truncated")
    records = {record["path"]: record for record in map(json.loads, run("rank", "photos", "red", "--json", *more).lines)}
    assert len(records) == PHOTOS + 2
    assert [path for path, record in records.items() if "truncated" in record] == ["photos/cut.jpg"] and records["photos/cut.jpg"]["truncated"] is True


def test_row_29_a_corrupt_set_is_in_the_suite(run: Run, tmp_path: Path) -> None:
    """Every format, cut and with bytes changed at many places: read or named, never a crash. The 666 files of `tests/torture/test_files.py` go further."""
    rng, made = np.random.default_rng(0), 0
    (tmp_path / "photos").mkdir()
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "AVIF", "JPEG2000", "PPM", "TGA", "ICO", "QOI"):
        buffer = io.BytesIO()
        picture().save(buffer, kind)
        for place in range(12):
            data = bytearray(buffer.getvalue())
            if place % 2:
                del data[int(len(data) * place / 13) :]
            for at in rng.integers(0, len(data), 0 if place % 2 else place + 1):
                data[at] ^= 0xFF
            (tmp_path / f"photos/{kind}{place:02}.{kind.lower()[:4].replace('jpeg', 'jpg')}").write_bytes(data)
            made += 1
    found = run("embed", "photos", "--any-extension")
    summary = next(line for line in found.err.splitlines() if " unchanged" in line)
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (new|copies|failed|not a photo)", summary)}
    assert made == 144 == sum(counts.values()) and counts["failed"] == len(complaints(found.err)) > 40
    assert "crashed" not in found.err and found.code == 3


def test_row_30_every_error_of_a_file_names_it(run: Run, photos: Path) -> None:
    names = [f"bad{number:02}.jpg" for number in range(9)]
    for name in names:
        (photos / name).write_text(name)
    found = run("embed", "photos", "--batch-size", 4)
    assert [line.split(": ")[1] for line in complaints(found.err)] == [f"photos/{name}" for name in names]


def test_row_31_a_bad_file_shifts_no_vector_to_another_path(run: Run, tmp_path: Path) -> None:
    colours = {"red": RED, "green": (40, 160, 50), "blue": (30, 60, 210)}
    for number in range(12):
        name = list(colours)[number % 3]
        square(tmp_path / f"photos/{number:02}_{name}.png", colours[name], (40 + number, 30))
    for place in range(5):
        bad = tmp_path / f"photos/{place:02}_bad.png"
        bad.write_bytes(b"no")
        store = ("--store", f"store{place}")
        assert run("embed", "photos", "--batch-size", 4, *store).code == 3
        for name in colours:
            assert all(name in path for path in run("rank", "photos", name, "--no-scan", "--top", 4, *store).lines), (place, name)
        bad.unlink()


def test_row_32_one_endless_photo_does_not_stop_the_run(run: Run, photos: Path, planted: None) -> None:
    noise_photo(photos / "05_sleep.png", 99)
    began = time.monotonic()
    found = run("embed", "photos", "--time-limit-photo", 1)
    assert f"{PHOTOS} new" in found.err and "photos/05_sleep.png: decoding took longer than 1 s" in found.err and time.monotonic() - began < 15


def test_row_33_an_endless_loop_inside_a_decoder_is_ended(run: Run, photos: Path, planted: None) -> None:
    noise_photo(photos / "05_spin.png", 99)
    found = run("embed", "photos", "--time-limit-photo", 1)
    assert f"{PHOTOS} new" in found.err and "photos/05_spin.png: decoding took longer than 1 s" in found.err


def test_row_34_a_bad_photo_delays_others_by_its_limit_at_most(run: Run, photos: Path, planted: None) -> None:
    began = time.monotonic()
    run("embed", "photos", "--store", "quick")
    quick = time.monotonic() - began
    noise_photo(photos / "00_spin.png", 99)
    began = time.monotonic()
    assert run("embed", "photos", "--time-limit-photo", 2).code == 3
    assert time.monotonic() - began < 2 * quick + 2 + 3, "the limit, and a new process in the place of the old"


def bits_png(path: Path, side: int) -> None:
    """A bomb: one bit a pixel on the disk, squeezed to nothing; four bytes a pixel as RGB."""
    body = zlib.compress((b"\0" + b"\xa5" * (side // 8)) * side, 6)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b""))


@pytest.mark.parametrize(("more", "reason"), [((), "20000 x 20000 is 400 megapixels, more than 256 (--max-megapixels raises the limit)"),
                                              (("--max-megapixels", "500", "--memory-limit-photo", "500"), "needs more memory than is allowed (--memory-limit-photo")])  # fmt: skip
def test_row_35_a_bomb_stays_under_the_memory_cap(run: Run, photos: Path, more: tuple[str, ...], reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain_memory(monkeypatch)
    bits_png(photos / "bomb.png", 20_000)
    assert (photos / "bomb.png").stat().st_size < 200_000
    process = subprocess.Popen(rankclip_command("embed", "photos", *more), env=subprocess_environment(), stderr=subprocess.PIPE)
    with Peak(process, every=0.01) as peak:
        error = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 3 and f"{PHOTOS} new" in error and "photos/bomb.png: " in error and reason in error
    assert peak.bytes < 800 * MIB, f"{peak.bytes / MIB:.0f} MiB, where the picture alone is 1,600"


def test_row_36_a_decoder_that_takes_all_memory_is_skipped(run: Run, photos: Path, planted: None) -> None:
    noise_photo(photos / "05_allocate.png", 99)
    noise_photo(photos / "06_hoard.png", 98)
    found = run("embed", "photos", "--memory-limit-photo", 150)
    assert found.code == 3 and f"{PHOTOS} new, 0 unchanged, 2 failed" in found.err
    assert [line.split(": ")[1] for line in complaints(found.err)] == ["photos/05_allocate.png", "photos/06_hoard.png"]


def test_row_37_the_pixel_cap_is_a_stated_number_on_every_machine(run: Run) -> None:
    assert Settings().max_megapixels == 256 and DecodeOptions(InputSpec(8)).max_pixels == 256_000_000
    assert "(256)" in run("embed", "--help").text.split("--max-megapixels")[1].split("--")[0]


def test_row_38_memory_does_not_grow_with_the_photos(run: Run, tmp_path: Path) -> None:
    """10,000 photos: `test_memory_is_flat_over_ten_thousand_photos` of the long run."""
    early, late = footprints(tmp_path, 900, (200, 900))
    assert late < 1.1 * early


def test_row_39_rank_over_100_000_photos_stays_small(run: Run, large_store: Path) -> None:
    words = rankclip_command("rank", "/photos", "from dark to bright", "--no-scan", "--top", "20", "--store", large_store)
    process = subprocess.Popen(words, env=subprocess_environment(), stdout=subprocess.PIPE)
    with Peak(process, every=0.01) as peak:
        out = process.communicate(timeout=60)[0]
    assert process.returncode == 0 and out.count(b"\n") == 20
    assert peak.looks > 3 and peak.bytes < 300 * MIB, f"{peak.bytes / MIB:.0f} MiB"


def test_row_40_training_reads_features_and_opens_no_picture(run: Run, photos: Path, tmp_path: Path) -> None:
    """What training reads of a photo comes from the store; a picture that is gone is not missed."""
    from rankclip.backbones.specs import find

    run("embed", "photos")
    for path in photos.iterdir():
        path.unlink()
    with Store.open(tmp_path / "store") as store:
        view = store.view(find("toy").space)
        table = read_features(store, view, np.asarray(view.contents))
        assert table.pooled.shape == (PHOTOS, 16) and table.tokens(np.arange(3)).shape == (3, 4, 16)
        assert isinstance(view.tokens, np.memmap), "patch tokens stay on the disk until some are asked for"


def heic(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(bytes.fromhex((ROOT / "tests/data/upright.heic.hex").read_text()))
    return path


def test_row_41_a_heic_over_the_limit_names_limit_and_option(run: Run, tmp_path: Path) -> None:
    data = bytearray(heic(tmp_path / "photos/large.heic").read_bytes())
    at = data.index(b"ispe") + 8  # its width and height
    data[at : at + 8] = struct.pack(">II", 20_000, 20_000)
    (tmp_path / "photos/large.heic").write_bytes(data)
    heic(tmp_path / "photos/small.heic")
    found = run("embed", "photos", "--max-megapixels", 200)
    assert complaints(found.err) == ["rankclip: photos/large.heic: 20000 x 20000 is 400 megapixels, more than 200 (--max-megapixels raises the limit)"]
    assert run("rank", "photos", "red").lines == ["photos/small.heic"]


def test_row_42_the_content_tells_the_type(run: Run, tmp_path: Path) -> None:
    square(tmp_path / "photos/a.png", RED).rename(tmp_path / "photos/really_png.HEIC")
    heic(tmp_path / "photos/really_heic.jpg")
    (tmp_path / "photos/text.HEIC").write_text("hello")
    found = run("embed", "photos")
    assert len(complaints(found.err)) == 1 and "photos/text.HEIC: not a picture" in found.err
    assert sorted(run("rank", "photos", "red").lines) == ["photos/really_heic.jpg", "photos/really_png.HEIC"]


def test_row_43_a_file_named_only_by_its_extension(run: Run, photos: Path) -> None:
    noise_photo(photos / "a.png", 99).rename(photos / ".jpeg")
    assert "1 hidden" in run("embed", "photos").err
    assert "1 new" in run("embed", "photos", "--hidden").err and "photos/.jpeg" in run("rank", "photos", "red", "--hidden").lines


def test_row_44_side_files_are_left_out_and_counted(run: Run, photos: Path) -> None:
    for name in ("._01.png", "@eaDir/01.png", ".thumbnails/x.png"):
        square(photos / name, RED)
    found = run("embed", "photos")
    assert found.code == 0 and f"{PHOTOS} new" in found.err and "left out: 3 hidden" in found.err


def test_row_45_what_is_not_supported_is_counted_by_extension(run: Run, photos: Path) -> None:
    for name in ("a.mov", "b.MOV", "c.txt", "d.psd"):
        (photos / name).write_text("x")
    assert "left out: 2 .mov, 1 .psd, 1 .txt" in run("embed", "photos").err


def test_row_46_the_message_says_which_extra_to_install(run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without/rawpy.py").write_text("raise ModuleNotFoundError('No module named rawpy', name='rawpy')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "without"))  # the workers do not find it, here or anywhere
    monkeypatch.setattr(registry, "available", lambda package: False)
    (photos / "one.nef").write_bytes(b"MM\x00\x2a" + b"\0" * 100)
    line = 'python -m pip install "rankclip[raw]"'
    assert f"camera RAW (.nef) needs the raw extra: {line}" in run("embed", "photos").err
    assert f"photos/one.nef: camera RAW needs the raw extra: {line}" in run("embed", "photos/one.nef").err


@pytest.mark.parametrize("turn", range(2, 9))
def test_row_47_rotated_by_its_tag_is_upright(tmp_path: Path, turn: int) -> None:
    from tests.unit.test_decode import TURNS

    exif = Image.Exif()
    exif[0x0112] = turn
    picture().save(tmp_path / "upright.jpg", quality=98)
    picture().transpose(TURNS[turn]).save(tmp_path / "turned.jpg", quality=98, exif=exif)
    picture().transpose(TURNS[turn]).save(tmp_path / "untold.jpg", quality=98)
    upright, turned, untold = (features(tmp_path / f"{name}.jpg") for name in ("upright", "turned", "untold"))
    assert float(turned @ upright) >= 0.999 > 0.97 > float(untold @ upright)


def closed(action: Callable[[], None], *places: Path) -> None:
    """Do something while nobody may look into some places."""
    for place in places:
        place.chmod(0)
    try:
        action()
    finally:
        for place in places:
            place.chmod(0o755)


def test_row_48_a_forbidden_folder_is_one_line(run: Run, photos: Path, tmp_path: Path) -> None:
    square(photos / "secret/a.png", RED)

    def check() -> None:
        found = bound_rankclip("rank", "photos", "red", cwd=tmp_path)
        assert found.returncode == 3 and len(found.stdout.splitlines()) == PHOTOS
        assert complaints(found.stderr.decode()) == ["rankclip: photos/secret: folder cannot be read: permission denied"]

    closed(check, photos / "secret")


def test_row_49_a_link_to_a_forbidden_file_names_both(run: Run, photos: Path, tmp_path: Path) -> None:
    target = square(tmp_path / "elsewhere/a.png", RED)
    (photos / "link.png").symlink_to(target)

    def check() -> None:
        found = bound_rankclip("embed", "photos", cwd=tmp_path)
        assert found.returncode == 3 and complaints(found.stderr.decode()) == [f"rankclip: photos/link.png: link to {target}: permission denied"]

    closed(check, tmp_path / "elsewhere")


def test_row_50_loops_of_links_end(run: Run, photos: Path) -> None:
    (photos / "loop").symlink_to("..")
    (photos / "self.png").symlink_to("self.png")
    found = finished("rank", "photos", "red")
    assert len(found.stdout.splitlines()) == PHOTOS and b"photos/self.png: link to self.png: " in found.stderr
    found = finished("rank", "photos", "red", "--follow-links")
    assert len(found.stdout.splitlines()) == PHOTOS and b"Traceback" not in found.stderr
