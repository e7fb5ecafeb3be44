"""A camera RAW file made by hand: a DNG with a JPEG preview and 16-bit Bayer pixels, in the layout that cameras write."""

import io
import struct

import numpy as np
from PIL import Image

SHORT, LONG, BYTES, TEXT, RATIO, SIGNED_RATIO = 3, 4, 1, 2, 5, 10  # types of TIFF values
CODES = {BYTES: "B", TEXT: "B", SHORT: "H", LONG: "I", RATIO: "I", SIGNED_RATIO: "i"}
ONE_TO_ONE = [one for row in range(3) for column in range(3) for one in (int(row == column), 1)]  # a camera that sees XYZ
Tags = dict[int, tuple[int, list[int]]]


def directory(tags: Tags, at: int, behind: int = 0) -> bytes:
    """One TIFF directory that begins at byte `at`, its long values behind it."""
    entries, values = b"", b""
    first = at + 2 + 12 * len(tags) + 4
    for tag, (kind, numbers) in sorted(tags.items()):
        data = struct.pack(f"<{len(numbers)}{CODES[kind]}", *numbers)
        count = len(numbers) // 2 if kind in (RATIO, SIGNED_RATIO) else len(numbers)
        entries += struct.pack("<HHI", tag, kind, count) + (data.ljust(4, b"\0") if len(data) <= 4 else struct.pack("<I", first + len(values)))
        values += (data + b"\0" * (len(data) % 2)) if len(data) > 4 else b""
    return struct.pack("<H", len(tags)) + entries + struct.pack("<I", behind) + values


def bayer(picture: Image.Image) -> np.ndarray:
    """What a sensor with red, green, green, blue filters sees, uint16 [H, W]."""
    pixels = np.asarray(picture, np.uint16) * 256
    seen = pixels[..., 1].copy()
    seen[0::2, 0::2], seen[1::2, 1::2] = pixels[0::2, 0::2, 0], pixels[1::2, 1::2, 2]
    return seen


def dng(sensor: Image.Image, preview: Image.Image | None, orientation: int = 1) -> bytes:
    """A DNG of these sensor pixels (RGB, even sides), with a JPEG preview where one is given."""
    raw = bayer(sensor).tobytes()
    buffer = io.BytesIO()
    if preview is not None:
        preview.save(buffer, "JPEG", quality=95)
    jpeg = buffer.getvalue() + b"\0" * (len(buffer.getvalue()) % 2)
    at_jpeg, at_raw = 8, 8 + len(jpeg)
    at_inner = at_raw + len(raw)
    width, height = sensor.size
    inner: Tags = {254: (LONG, [0]), 256: (LONG, [width]), 257: (LONG, [height]), 258: (SHORT, [16]), 259: (SHORT, [1]), 262: (SHORT, [32803]), 273: (LONG, [at_raw]),
                   277: (SHORT, [1]), 278: (LONG, [height]), 279: (LONG, [len(raw)]), 33421: (SHORT, [2, 2]), 33422: (BYTES, [0, 1, 1, 2]),
                   50717: (LONG, [65535])}  # fmt: skip
    inside = directory(inner, at_inner)
    outer: Tags = {254: (LONG, [1]), 271: (TEXT, [*b"ACME\0"]), 272: (TEXT, [*b"ACME One\0"]), 274: (SHORT, [orientation]), 330: (LONG, [at_inner]),
                   50706: (BYTES, [1, 4, 0, 0]), 50708: (TEXT, [*b"ACME One\0"]), 50721: (SIGNED_RATIO, ONE_TO_ONE), 50728: (RATIO, [1, 1] * 3),
                   50778: (SHORT, [21])}  # fmt: skip
    if preview is not None:
        outer |= {256: (LONG, [preview.width]), 257: (LONG, [preview.height]), 258: (SHORT, [8, 8, 8]), 259: (SHORT, [7]), 262: (SHORT, [6]),
                  273: (LONG, [at_jpeg]), 277: (SHORT, [3]), 278: (LONG, [preview.height]), 279: (LONG, [len(buffer.getvalue())])}  # fmt: skip
    at_outer = at_inner + len(inside)
    return b"II*\0" + struct.pack("<I", at_outer) + jpeg + raw + inside + directory(outer, at_outer)
