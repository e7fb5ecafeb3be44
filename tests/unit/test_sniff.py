"""Types from content, extensions from names."""

import io

import pytest
from PIL import Image

from rankclip.photos.sniff import EXTENSIONS, PILLOW_FORMATS, RAW_EXTENSIONS, extension, sniff


@pytest.mark.parametrize("kind", sorted(PILLOW_FORMATS))
def test_what_pillow_writes_is_recognised(kind: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(buffer, PILLOW_FORMATS[kind][0])
    assert sniff(buffer.getvalue()[:64], "tga" if kind == "TGA" else "") == kind


@pytest.mark.parametrize(
    ("head", "name", "kind"),
    [(b"hello world", "jpg", ""), (b"", "jpg", ""), (b"II*\0" + b"\0" * 20, "nef", "RAW"), (b"II*\0" + b"\0" * 20, "tif", "TIFF"), (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "", "HEIF"),
     (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "heic", "AVIF"), (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "cr3", "RAW"), (b"\0\5\x16\7", "jpg", "AppleDouble"),
     (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "jpg", ""), (b"P6\n2 2 255\n", "", "PNM"), (b"PK\3\4", "jpg", "")],
)  # fmt: skip
def test_marks(head: bytes, name: str, kind: str) -> None:
    assert sniff(head, name) == kind


def test_extensions() -> None:
    assert [extension(name) for name in ("a.JPG", ".jpeg", "scan", "a.b.png", "a.", "..x")] == ["jpg", "", "", "png", "", ""]
    assert not EXTENSIONS & RAW_EXTENSIONS
