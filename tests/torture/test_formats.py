"""Every format that photos come in, made here: the same features as the upright original, in the format that its content names."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from tests.conftest import Run
from tests.unit.test_decode import TURNS, interlaced, picture

from rankclip.backbones.specs import find
from rankclip.engines.toy import ToyEngine
from rankclip.photos.decode import DecodeOptions, decode
from rankclip.settings import Settings
from rankclip.types import Decoded

TOY = find("toy")


def read(path: Path, **options: object) -> Decoded:
    return decode(str(path), DecodeOptions(TOY.input, **options))  # type: ignore[arg-type]


def features(path: Path, **options: object) -> np.ndarray:
    """The toy's patch tokens as one unit vector: it knows which colour is in which quarter of the picture, float32 [4 * 16]."""
    pixels = read(path, **options).pixels
    assert pixels is not None
    tokens = ToyEngine(TOY, Settings()).encode_images(pixels[None]).tokens
    assert tokens is not None
    return tokens.reshape(-1) / np.linalg.norm(tokens)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def deep_png(found: Image.Image) -> bytes:
    """16 bits a channel, written by hand: Pillow reads but does not write them."""
    pixels = np.asarray(found).astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", found.width, found.height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def swapped_profile() -> bytes:
    """sRGB with red and blue exchanged: a profile that no one can ignore without being seen."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = {bytes(data[at : at + 4]): at for at in range(132, 132 + 12 * int.from_bytes(data[128:132], "big"), 12)}
    for one, other in ((b"rXYZ", b"bXYZ"), (b"rTRC", b"bTRC")):
        data[tags[one] : tags[one] + 4], data[tags[other] : tags[other] + 4] = other, one
    return bytes(data).replace("sRGB".encode("utf-16-be"), "sBGR".encode("utf-16-be")).replace(b"sRGB", b"sBGR")


def exchanged() -> Image.Image:
    red, green, blue = picture().split()
    return Image.merge("RGB", (blue, green, red))


def translucent() -> Image.Image:
    """Over white it is `picture()`: its white edge is clear here, with black behind."""
    layered = picture().convert("RGBA")
    layered.paste((0, 0, 0, 0), (0, 0, layered.width, layered.height // 4))
    return layered


def clear_palette(path: Path) -> None:
    """A palette whose one entry is transparent."""
    found = picture().quantize(8)
    white = int(np.asarray(found)[0, 0])
    found.save(path, transparency=white)


def frames(path: Path, **options: object) -> None:
    picture().save(path, save_all=True, append_images=[Image.new("RGB", (96, 64))] * 2, **options)  # type: ignore[arg-type]


FORMATS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "baseline.jpg": ("JPEG", lambda p: picture().save(p, quality=95)),
    "progressive.jpg": ("JPEG", lambda p: picture().save(p, quality=95, progressive=True)),
    "cmyk.jpg": ("JPEG", lambda p: picture().convert("CMYK").save(p, quality=95)),
    "ycck.tif": ("TIFF", lambda p: picture().convert("CMYK").save(p)),
    "many.mpo": ("JPEG", lambda p: frames(p, quality=95)),
    "profile.jpg": ("JPEG", lambda p: exchanged().save(p, quality=95, icc_profile=swapped_profile())),
    "profile.png": ("PNG", lambda p: exchanged().save(p, icc_profile=swapped_profile())),
    "profile.webp": ("WEBP", lambda p: exchanged().save(p, lossless=True, icc_profile=swapped_profile())),
    "profile.tif": ("TIFF", lambda p: exchanged().save(p, icc_profile=swapped_profile())),
    "profile.avif": ("AVIF", lambda p: exchanged().save(p, quality=95, icc_profile=swapped_profile())),
    "plain.png": ("PNG", lambda p: picture().save(p)),
    "interlaced.png": ("PNG", lambda p: p.write_bytes(interlaced(picture()))),
    "deep.png": ("PNG", lambda p: p.write_bytes(deep_png(picture()))),
    "palette.png": ("PNG", lambda p: picture().quantize(16).save(p)),
    "clear_palette.png": ("PNG", clear_palette),
    "animated.png": ("PNG", frames),
    "alpha.png": ("PNG", lambda p: translucent().save(p)),
    "lossy.webp": ("WEBP", lambda p: picture().save(p, quality=95)),
    "alpha.webp": ("WEBP", lambda p: translucent().save(p, lossless=True)),
    "animated.webp": ("WEBP", lambda p: frames(p, lossless=True)),
    "still.gif": ("GIF", lambda p: picture().save(p)),
    "animated.gif": ("GIF", frames),
    "clear.gif": ("GIF", clear_palette),
    "lzw.tif": ("TIFF", lambda p: picture().save(p, compression="tiff_lzw")),
    "jpeg.tif": ("TIFF", lambda p: picture().save(p, compression="jpeg", quality=95)),
    "alpha.tif": ("TIFF", lambda p: translucent().save(p)),
    "lab.tif": ("TIFF", lambda p: ImageCms.profileToProfile(picture(), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB").save(p)),
    "plain.bmp": ("BMP", lambda p: picture().save(p)),
    "photo.avif": ("AVIF", lambda p: picture().save(p, quality=95)),
    "alpha.avif": ("AVIF", lambda p: translucent().save(p, quality=95)),
    "box.jp2": ("JPEG2000", lambda p: picture().save(p)),
    "stream.j2k": ("JPEG2000", lambda p: picture().save(p)),
    "icon.ico": ("ICO", lambda p: picture().save(p, sizes=[(96, 64)])),
    "plain.tga": ("TGA", lambda p: picture().save(p)),
    "packed.tga": ("TGA", lambda p: picture().save(p, compression="tga_rle")),
    "plain.ppm": ("PNM", lambda p: picture().save(p)),
    "plain.qoi": ("QOI", lambda p: picture().save(p)),
    "heic.heic": ("HEIF", lambda p: p.write_bytes(bytes.fromhex((Path(__file__).parents[1] / "data/upright.heic.hex").read_text()))),
}  # fmt: skip


@pytest.fixture
def original(tmp_path: Path) -> np.ndarray:
    picture().save(tmp_path / "original.png")
    return features(tmp_path / "original.png")


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_has_the_features_of_the_original(tmp_path: Path, original: np.ndarray, name: str) -> None:
    kind, save = FORMATS[name]
    save(tmp_path / name)
    assert float(features(tmp_path / name) @ original) >= 0.995
    facts = read(tmp_path / name).facts
    assert facts is not None and (facts.format, facts.width, facts.height) == (kind, 96, 64)


def test_the_measure_sees_what_it_should(tmp_path: Path, original: np.ndarray) -> None:
    """A turned picture, exchanged colours, a black edge in the place of the white one: each is far from the original."""
    exchanged().save(tmp_path / "exchanged.png")
    picture().rotate(180).save(tmp_path / "turned.png")
    translucent().convert("RGB").save(tmp_path / "black.png")
    assert all(float(features(tmp_path / f"{name}.png") @ original) < 0.95 for name in ("exchanged", "turned", "black"))


@pytest.mark.parametrize("name", [name for name, (kind, _) in FORMATS.items() if kind != "TGA"])  # TGA has no mark of its own
def test_the_content_tells_the_format_whatever_the_name(tmp_path: Path, original: np.ndarray, name: str) -> None:
    kind, save = FORMATS[name]
    save(tmp_path / name)
    wrong = tmp_path / ("wrong.png" if kind != "PNG" else "wrong.heic")
    (tmp_path / name).rename(wrong)
    assert float(features(wrong) @ original) >= 0.995


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "MPO"])
def test_turned_by_its_tag_a_photo_has_the_features_of_the_upright_one(tmp_path: Path, original: np.ndarray, kind: str, turn: int) -> None:
    path, exif = tmp_path / f"turned.{kind.lower()}", Image.Exif()
    exif[0x0112] = turn
    picture().transpose(TURNS[turn]).save(path, kind, exif=exif, quality=98, **({"lossless": True} if kind == "WEBP" else {}))
    check_upright(path, original)


def check_upright(path: Path, original: np.ndarray) -> None:
    assert float(features(path) @ original) >= 0.999
    facts = read(path).facts
    assert facts is not None and (facts.width, facts.height) == (96, 64)


def test_turned_by_its_heif_rotation(tmp_path: Path, original: np.ndarray) -> None:
    (tmp_path / "turned.heic").write_bytes(bytes.fromhex((Path(__file__).parents[1] / "data/turned.heic.hex").read_text()))
    check_upright(tmp_path / "turned.heic", original)


def test_grey_is_grey_whatever_its_depth(tmp_path: Path) -> None:
    grey = np.tile(np.linspace(0, 255, 96, dtype=np.uint8), (64, 1))
    Image.fromarray(grey).save(tmp_path / "l.png")
    Image.fromarray(grey).save(tmp_path / "l.jpg", quality=95)
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "16.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "16.tif")
    Image.fromarray(grey).convert("LA").save(tmp_path / "la.png")
    vectors = [features(tmp_path / name) for name in ("l.png", "l.jpg", "16.png", "16.tif", "la.png")]
    assert all(float(vector @ vectors[0]) >= 0.999 for vector in vectors)


def test_black_and_white_bits(tmp_path: Path) -> None:
    Image.fromarray(np.arange(96 * 64).reshape(64, 96) % 96 < 48).save(tmp_path / "bits.png")
    pixels = read(tmp_path / "bits.png").pixels
    assert pixels is not None and pixels[:, 0].min() == 255 and pixels[:, -1].max() == 0


def test_half_clear_is_half_white(tmp_path: Path) -> None:
    for name in ("a.png", "a.webp"):
        Image.new("RGBA", (20, 20), (255, 0, 0, 128)).save(tmp_path / name, lossless=True)
        pixels = read(tmp_path / name).pixels
        assert pixels is not None and np.abs(pixels.astype(int) - (255, 127, 127)).max() <= 1


def cut_jpeg(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "whole.jpg", quality=90)
    (folder / "cut.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:20_000])
    return folder / "cut.jpg"


def test_a_truncated_jpeg_is_embedded_only_where_that_is_allowed(run: Run, tmp_path: Path) -> None:
    cut_jpeg(tmp_path / "photos")
    found = run("embed", "photos")
    assert found.code == 3 and "photos/cut.jpg: JPEG: the file is cut short (--allow-truncated reads what is there)" in found.err
    assert run("rank", "photos", "red").lines == ["photos/whole.jpg"]
    assert run("embed", "photos", "--allow-truncated", "--retry-failed").code == 0
    assert sorted(run("rank", "photos", "red").lines) == ["photos/cut.jpg", "photos/whole.jpg"]
