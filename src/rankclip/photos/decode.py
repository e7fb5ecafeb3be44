"""One file -> an upright RGB picture, its digest and its facts. Runs in a worker process (`worker`), never beside the store.

Promises: orientation applied, colours in sRGB, alpha over white, first frame of animations, the type from the content. Refuses, with
a reason a person can act on, what is cut short, too large, or no picture. Sizes are checked before any pixel is decoded.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageFile, UnidentifiedImageError

from rankclip.errors import PhotoError, reason
from rankclip.photos import facts
from rankclip.photos.fit import fit
from rankclip.photos.sniff import HEAD, NO_FILE, PILLOW_FORMATS, extension, sniff
from rankclip.types import Decoded, FileStamp, InputSpec, PhotoFacts

DIGEST_BYTES = 16
ORIENTATION = ExifTags.Base.Orientation
UPRIGHT = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
           6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90}  # fmt: skip
HUNGRY = "decoding needs more memory than is allowed (--memory-limit-photo raises it)"
Image.MAX_IMAGE_PIXELS = None  # our own cap is checked first and names the option that raises it


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    spec: InputSpec
    max_pixels: int = 256_000_000
    max_bytes: int = 1 << 30  # a larger file is no photo
    allow_truncated: bool = False

    @property
    def working_side(self) -> int:
        """Short side in px to which large photos are reduced while decoding: twice the tower's input keeps the result the same (cosine 0.999)."""
        return max(facts.SHORT_SIDE, 2 * self.spec.size)


def decode(path: str, options: DecodeOptions, known: Collection[bytes] = (), *, digest_only: bool = False) -> Decoded:
    """Read one photo. A content whose digest is in `known`, or any with `digest_only`, is not decoded: its pixels and facts are None.

    Raises PhotoError with a kind: missing, empty, not-a-photo, unsupported, changing, too-large, truncated, broken, memory.
    """
    data, stamp = _read(path, options)
    digest = hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()
    if digest_only or digest in known:
        return Decoded(digest, stamp, None, None)
    kind = sniff(data[:HEAD], extension(os.path.basename(path)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's doubts about metadata
            picture, found = open_picture(path, data, kind, options)
            return Decoded(digest, stamp, fit(picture, options.spec), found)
    except PhotoError:
        raise
    except MemoryError as error:
        raise PhotoError(path, HUNGRY, kind="memory") from error
    except Exception as error:  # decoders raise anything; whatever it is, this file is to blame and no other
        raise _blame(path, error, kind) from error


def _blame(path: str, error: Exception, kind: str) -> PhotoError:
    said = error.args[0] if error.args and isinstance(error.args[0], bytes) else b""  # LibRaw's errors
    text = " ".join((said.decode("utf-8", "replace") or str(error)).split()) or type(error).__name__
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return PhotoError(path, f"{kind}: the file is cut short (--allow-truncated reads what is there)", kind="truncated")
    if isinstance(error, UnidentifiedImageError):
        text = "damaged, or a variant that cannot be read"
    return PhotoError(path, f"{kind}: {text[:120]}", kind="broken")


def _read(path: str, options: DecodeOptions) -> tuple[bytes, FileStamp]:
    """Read the whole file; one that changes meanwhile is read once more, then refused."""
    try:
        for _ in range(2):
            with open(path, "rb", opener=_without_waiting) as file:
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode):
                    raise PhotoError(path, NO_FILE, kind="missing")
                before = FileStamp.of(found)
                if before.size > options.max_bytes:
                    raise PhotoError(path, f"{before.size / 1e9:.1f} GB is too large for a photo", kind="too-large")
                data = file.read()
                if FileStamp.of(os.fstat(file.fileno())) == before and len(data) == before.size:
                    break
        else:
            raise PhotoError(path, "the file changes while it is read", kind="changing")
    except OSError as error:
        raise PhotoError(path, reason(error), kind="missing") from error
    except MemoryError as error:
        raise PhotoError(path, HUNGRY, kind="memory") from error
    if not data:
        raise PhotoError(path, "the file is empty", kind="empty")
    return data, before


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe without a writer opens at once, too."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def open_picture(path: str, data: bytes, kind: str, options: DecodeOptions) -> tuple[Image.Image, PhotoFacts]:
    """Decode to an upright RGB picture, reduced where it is large, and read its facts."""
    if kind in ("", "AppleDouble"):
        raise PhotoError(path, "not a picture that rankclip knows (told by its content, whatever its name)", kind="not-a-photo")
    source = {"HEIF": _open_heif, "RAW": _open_raw}.get(kind, _open_pillow)(path, data, kind, options)
    _check_size(path, source.size, options)
    width, height = source.size
    if source.format in PILLOW_FORMATS["JPEG"]:  # also the preview inside a RAW
        source.draft(None, (options.working_side, options.working_side))
    truncated = _load(source, allow=options.allow_truncated)
    exif = _exif(source)
    picture = to_rgb(source, options.working_side)
    if (turn := exif.get(ORIENTATION, 1)) in UPRIGHT:
        picture = picture.transpose(UPRIGHT[turn])
        width, height = (height, width) if turn >= 5 else (width, height)
    details, gps = _ifd(exif, ExifTags.IFD.Exif), _ifd(exif, ExifTags.IFD.GPSInfo)
    found = PhotoFacts(width, height, kind, facts.taken_at(exif, details), facts.camera(exif), *facts.place(gps), facts.pixel_facts(picture), truncated)
    return picture, found


def _open_pillow(path: str, data: bytes, kind: str, options: DecodeOptions) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=PILLOW_FORMATS[kind])


def _open_heif(path: str, data: bytes, kind: str, options: DecodeOptions) -> Image.Image:
    import pi_heif  # 40 ms: only where such photos are

    pi_heif.options.DECODE_THREADS = 1  # the pool of workers is the parallelism
    pi_heif.options.THUMBNAILS = pi_heif.options.DEPTH_IMAGES = pi_heif.options.AUX_IMAGES = False
    return pi_heif.HeifImageFile(io.BytesIO(data))


def _open_raw(path: str, data: bytes, kind: str, options: DecodeOptions) -> Image.Image:
    """Open a camera RAW: the embedded preview where it is large enough, else a half-size development. LibRaw hands both over with their turn."""
    try:
        import rawpy
    except ImportError as error:
        raise PhotoError(path, 'camera RAW needs the raw extra: python -m pip install "rankclip[raw]"', kind="unsupported") from error
    with rawpy.imread(io.BytesIO(data)) as raw:
        try:
            preview = raw.extract_thumb()
            if preview.format == rawpy.ThumbFormat.JPEG:
                picture = Image.open(io.BytesIO(bytes(preview.data)), formats=PILLOW_FORMATS["JPEG"])
                if min(picture.size) >= facts.SHORT_SIDE:
                    return picture
        except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError, UnidentifiedImageError):
            pass
        _check_size(path, (raw.sizes.width, raw.sizes.height), options)
        return Image.fromarray(raw.postprocess(half_size=True, use_camera_wb=True))


def _check_size(path: str, size: tuple[int, int], options: DecodeOptions) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise PhotoError(path, f"the picture has no area ({width} x {height})", kind="broken")
    if width * height > options.max_pixels:
        reason = f"{width} x {height} is {width * height / 1e6:,.0f} megapixels, more than {options.max_pixels / 1e6:,.0f} (--max-megapixels raises the limit)"
        raise PhotoError(path, reason, kind="too-large")


def _load(source: Image.Image, *, allow: bool) -> bool:
    """Decode the pixels; tell whether the file was cut short (only where that is allowed)."""
    try:
        source.load()
        return False
    except OSError as error:
        if not allow or "truncated" not in str(error):
            raise
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        source.load()
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    return True


def _exif(source: Image.Image) -> Mapping[int, Any]:
    try:
        return source.getexif()
    except Exception:  # noqa: BLE001 - damaged metadata never makes a readable photo unreadable
        return {}


def _ifd(exif: Mapping[int, Any], tag: int) -> Mapping[int, Any]:
    try:
        return exif.get_ifd(tag) if isinstance(exif, Image.Exif) else {}
    except Exception:  # noqa: BLE001 - the same
        return {}


# ---------------------------------------------------------------- colour


def to_rgb(source: Image.Image, working_side: int) -> Image.Image:
    """Convert any mode to RGB in sRGB, alpha over white, reduced to about `working_side`."""
    profile = source.info.get("icc_profile")
    if source.mode in ("CMYK", "LAB") and profile:
        return _reduced(_managed(source, profile), working_side)
    if source.mode == "LAB":
        transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
        return _reduced(transform.apply(source), working_side)
    if source.mode[0] in "IF":
        source = _eight_bit(source)
    if source.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in source.info:
        source = _over_white(source)
    picture = _reduced(source if source.mode == "RGB" else source.convert("RGB"), working_side)
    return _managed(picture, profile) if profile else picture


def _reduced(picture: Image.Image, working_side: int) -> Image.Image:
    """Average whole blocks of pixels while the short side stays at least `working_side` (what a JPEG's draft mode does while decoding)."""
    factor = min(picture.size) // working_side
    return picture.reduce(factor) if factor > 1 else picture


def _eight_bit(source: Image.Image) -> Image.Image:
    """Map 16-bit, 32-bit and float grey to 8 bits: by the type's range where the values fill it, else by their own."""
    values = np.asarray(source, dtype=np.float32)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if source.mode.startswith("I;16") or (source.mode == "I" and low >= 0 and 255 < high <= 65535):
        low, high = 0.0, 65535.0
    elif low >= 0 and high <= 255 and (source.mode == "I" or high > 1):
        low, high = 0.0, 255.0
    elif low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    return Image.fromarray(((values - low) * (255.0 / max(high - low, 1e-12))).astype(np.uint8))


def _over_white(source: Image.Image) -> Image.Image:
    layered = source.convert("RGBA")
    white = Image.new("RGBA", layered.size, "white")
    return Image.alpha_composite(white, layered).convert("RGB")


def _managed(picture: Image.Image, profile: bytes) -> Image.Image:
    """Convert from the embedded profile to sRGB; a profile that does not fit its picture is ignored, as viewers do."""
    transform = _transform(profile, picture.mode)
    if transform is None:
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    return transform.apply(picture)


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if mode == "RGB" and "sRGB" in ImageCms.getProfileDescription(source):
            return None
        if source.profile.xcolor_space.strip() != {"RGB": "RGB", "CMYK": "CMYK", "LAB": "Lab"}[mode]:
            return None
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, KeyError):
        return None
