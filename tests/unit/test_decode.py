"""One file -> an upright RGB picture: orientation, colour, depth, limits, and the words for what cannot be read."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from rankclip.errors import PhotoError
from rankclip.photos import decode as decoding
from rankclip.photos.decode import DecodeOptions, decode
from rankclip.photos.sniff import NO_FILE
from rankclip.types import Decoded, InputSpec

OPTIONS = DecodeOptions(InputSpec(32, "squash"))


def picture(size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Red left, blue right, a white top edge: every turn of it looks different."""
    found = Image.new("RGB", size, (200, 30, 30))
    found.paste((30, 30, 200), (size[0] // 2, 0, *size))
    found.paste((240, 240, 240), (0, 0, size[0], size[1] // 4))
    return found


def read(path: Path, **options: object) -> Decoded:
    return decode(str(path), DecodeOptions(OPTIONS.spec, **options))  # type: ignore[arg-type]


def refused(path: Path, **options: object) -> PhotoError:
    with pytest.raises(PhotoError) as error:
        read(path, **options)
    return error.value


def close(a: Decoded, b: Decoded, most: float = 3.0) -> bool:
    return float(np.abs(a.pixels.astype(int) - b.pixels.astype(int)).mean()) < most


@pytest.fixture
def upright(tmp_path: Path) -> Decoded:
    picture().save(tmp_path / "upright.png")
    return read(tmp_path / "upright.png")


TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
         6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270}  # fmt: skip


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_applied(tmp_path: Path, upright: Decoded, turn: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    path = tmp_path / f"turned.{kind.lower()}"
    picture().transpose(TURNS[turn]).save(path, kind, exif=exif, quality=95)
    found = read(path)
    assert close(found, upright, 6.0)
    assert found.facts is not None and (found.facts.width, found.facts.height) == (96, 64)


SAVERS: dict[str, Callable[[Path], object]] = {
    "progressive.jpg": lambda p: picture().save(p, quality=95, progressive=True),
    "grey-as-rgb.jpg": lambda p: picture().save(p, quality=95, subsampling=0),
    "palette.png": lambda p: picture().quantize(16).save(p),
    "interlaced.png": lambda p: p.write_bytes(interlaced(picture())),
    "alpha.png": lambda p: with_alpha(picture()).save(p),
    "alpha.webp": lambda p: with_alpha(picture()).save(p, lossless=True),
    "frames.gif": lambda p: picture().save(p, save_all=True, append_images=[Image.new("RGB", (96, 64))]),
    "frames.png": lambda p: picture().save(p, save_all=True, append_images=[Image.new("RGB", (96, 64))]),
    "photo.bmp": lambda p: picture().save(p),
    "photo.tif": lambda p: picture().save(p, compression="tiff_lzw"),
    "photo.avif": lambda p: picture().save(p, quality=95),
    "photo.jp2": lambda p: picture().save(p),
    "photo.tga": lambda p: picture().save(p),
    "photo.ppm": lambda p: picture().save(p),
    "photo.qoi": lambda p: picture().save(p),
    "cmyk.jpg": lambda p: picture().convert("CMYK").save(p, quality=95),
    "wrong_name.heic": lambda p: picture().save(p, "PNG"),
}


def with_alpha(found: Image.Image) -> Image.Image:
    layered = found.convert("RGBA")
    layered.putalpha(255)
    return layered


def interlaced(found: Image.Image) -> bytes:
    """An Adam7 PNG, written by hand: Pillow reads but does not write them."""
    pixels = np.asarray(found)
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = b"".join(b"\0" + row.tobytes() for x, y, dx, dy in passes for row in pixels[y::dy, x::dx] if row.size)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", found.width, found.height, 8, 2, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("name", SAVERS)
def test_formats_and_modes_give_the_same_picture(tmp_path: Path, upright: Decoded, name: str) -> None:
    SAVERS[name](tmp_path / name)
    found = read(tmp_path / name)
    assert close(found, upright, 9.0), name
    assert found.pixels is not None and found.pixels.shape == (32, 32, 3) and found.pixels.dtype == np.uint8


@pytest.mark.parametrize("name", ["upright", "turned"])
def test_heic(tmp_path: Path, upright: Decoded, name: str) -> None:
    """`picture()` and the same turned with a HEIF rotation, made once with an HEVC encoder (Pillow has none), kept as text."""
    text = (Path(__file__).parent.parent / "data" / f"{name}.heic.hex").read_text()
    (tmp_path / "a.heic").write_bytes(bytes.fromhex(text))
    found = read(tmp_path / "a.heic")
    assert close(found, upright, 6.0)
    assert found.facts is not None and (found.facts.format, found.facts.width, found.facts.height) == ("HEIF", 96, 64)


def test_transparent_is_white(tmp_path: Path) -> None:
    Image.new("RGBA", (20, 20), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert read(tmp_path / "clear.png").pixels.min() == 255  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_deep_grey_is_scaled_not_clipped(tmp_path: Path, mode: str) -> None:
    ramp = np.linspace(0, {"I;16": 65535, "I": 65535, "F": 1.0}[mode], 64)
    values = np.tile(ramp, (48, 1)).astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode])
    Image.fromarray(values).save(tmp_path / "deep.tif")
    row = read(tmp_path / "deep.tif").pixels[16, :, 0]  # type: ignore[index]
    assert row[0] < 12 and row[-1] > 243 and abs(int(row[16]) - 128) < 12


def test_colours_are_brought_to_srgb(tmp_path: Path) -> None:
    swapped = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (16, 16), (200, 100, 50)).save(tmp_path / "srgb.png", icc_profile=swapped)
    assert read(tmp_path / "srgb.png").pixels[0, 0].tolist() == [200, 100, 50]  # type: ignore[index]
    Image.new("RGB", (16, 16), (200, 100, 50)).save(tmp_path / "broken.png", icc_profile=b"nonsense")
    assert read(tmp_path / "broken.png").pixels[0, 0].tolist() == [200, 100, 50]  # type: ignore[index]


def test_a_large_jpeg_is_reduced_while_decoding_and_stays_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    large = Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)).resize((3200, 2400), Image.Resampling.BICUBIC)
    large.save(tmp_path / "large.jpg", quality=95)
    large.save(tmp_path / "large.png")
    assert close(read(tmp_path / "large.jpg"), read(tmp_path / "large.png"), 1.5)


def cut(path: Path, share: float) -> Path:
    target = path.with_name(f"cut_{path.name}")
    target.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return target


def test_a_truncated_jpeg_is_refused_unless_allowed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (200, 300, 3), dtype=np.uint8)).save(tmp_path / "a.jpg", quality=90)
    error = refused(cut(tmp_path / "a.jpg", 0.5))
    assert (error.kind, "--allow-truncated" in error.reason) == ("truncated", True)
    found = read(tmp_path / "cut_a.jpg", allow_truncated=True)
    assert found.facts is not None and found.facts.truncated
    assert refused(tmp_path / "cut_a.jpg").kind == "truncated", "allowing once must not leak into the next file"


def test_each_refusal_has_its_word(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("hello")
    picture().save(tmp_path / "a.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    assert refused(tmp_path / "gone.jpg").kind == "missing"
    assert refused(tmp_path / "empty.jpg").kind == "empty"
    assert refused(tmp_path / "text.jpg").kind == "not-a-photo"
    assert refused(tmp_path / "half.png").kind in ("truncated", "broken")
    assert refused(tmp_path / "a.png", max_bytes=10).kind == "too-large"
    error = refused(tmp_path / "a.png", max_pixels=1000)
    assert error.kind == "too-large" and "--max-megapixels" in error.reason and "96 x 64" in error.reason


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b""))
    assert refused(tmp_path / "bomb.png").kind == "too-large"


def test_a_pipe_or_a_device_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "pipe.jpg", Path("/dev/zero"), tmp_path):
        error = refused(path)
        assert error.kind == "missing", "not remembered: there may be a photo at the next run"
        assert error.reason in (NO_FILE, "is a directory")


def test_a_file_that_memory_cannot_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(decoding.FileStamp, "of", read)
    picture().save(tmp_path / "a.png")
    assert refused(tmp_path / "a.png").kind == "memory"


def test_a_digest_alone_can_be_asked_for(tmp_path: Path, upright: Decoded) -> None:
    found = decode(str(tmp_path / "upright.png"), OPTIONS, digest_only=True)
    assert (found.digest, found.stamp, found.pixels, found.facts) == (upright.digest, upright.stamp, None, None)


def test_a_known_content_is_not_decoded(tmp_path: Path, upright: Decoded) -> None:
    found = decode(str(tmp_path / "upright.png"), OPTIONS, [upright.digest])
    assert (found.digest, found.pixels, found.facts) == (upright.digest, None, None)


def test_a_file_that_keeps_changing_is_not_blamed_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    picture().save(path)
    real, ticks = os.fstat, iter(range(100))

    def fstat(number: int) -> os.stat_result:
        os.utime(path, ns=(0, next(ticks)))
        return real(number)

    monkeypatch.setattr(decoding.os, "fstat", fstat)
    assert refused(path).kind == "changing"


def test_facts_from_exif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0132] = "ACME", "ACME One", "2021:02:03 04:05:06"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:02 03:04:05"
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 30.0, 0.0), 3: "W", 4: (13.0, 15.0, 0.0)})
    picture().save(tmp_path / "a.jpg", exif=exif)
    facts = read(tmp_path / "a.jpg").facts
    assert facts is not None
    assert (facts.taken_at, facts.camera, facts.latitude, facts.longitude, facts.format) == ("2020-01-02T03:04:05", "ACME One", 52.5, -13.25, "JPEG")


@pytest.mark.parametrize("date", ["0000:00:00 00:00:00", "2020:13:40 99:99:99", "    :  :     :  :  ", "soon"])
def test_nonsense_dates_are_no_dates(tmp_path: Path, date: str) -> None:
    exif = Image.Exif()
    exif[0x0132] = date
    buffer = io.BytesIO()
    picture().save(buffer, "JPEG", exif=exif)
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue())
    facts = read(tmp_path / "a.jpg").facts
    assert facts is not None and facts.taken_at == ""
