"""Real photos for the demo, from the sample pictures that matplotlib, scikit-image and scikit-learn ship inside their wheels.

Nothing is downloaded and none of these packages is imported: their pictures are found as files. Variants (darker, blurred, noisy, cropped,
turned by EXIF, an AVIF copy) make a folder in which an order can be seen to be right.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from rankclip.errors import InputError, RuntimeMissing, reason

PACKAGES = {"matplotlib": "mpl-data/sample_data", "skimage": "data", "sklearn": "datasets/images"}
SAMPLES = {  # name in the demo folder: package, file
    "grace_hopper": ("matplotlib", "grace_hopper.jpg"),
    "astronaut": ("skimage", "astronaut.png"),
    "cat": ("skimage", "chelsea.png"),
    "coffee": ("skimage", "coffee.png"),
    "rocket": ("skimage", "rocket.jpg"),
    "camera_man": ("skimage", "camera.png"),
    "motorcycle": ("skimage", "motorcycle_left.png"),
    "clock": ("skimage", "clock_motion.png"),
    "hubble": ("skimage", "hubble_deep_field.jpg"),
    "coins": ("skimage", "coins.png"),
    "page": ("skimage", "page.png"),
    "moon": ("skimage", "moon.png"),
    "grass": ("skimage", "grass.png"),
    "brick_wall": ("skimage", "brick.png"),
    "palace": ("sklearn", "china.jpg"),
    "flower": ("sklearn", "flower.jpg"),
}
QUALITY = 90


@dataclass(frozen=True, slots=True)
class Variant:
    """A changed copy: of which sample, under which name, how."""

    sample: str
    suffix: str
    change: Callable[[Image.Image], Image.Image]


def noisy(picture: Image.Image) -> Image.Image:
    noise = np.random.default_rng(0).normal(0, 35, (picture.height, picture.width, 3))
    return Image.fromarray(np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8))


def darker(picture: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(picture).enhance(0.35)


def blurred(picture: Image.Image) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(max(picture.size) / 90))


def cropped(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    return picture.crop((width // 5, height // 5, width * 9 // 10, height * 4 // 5))


VARIANTS = (
    Variant("cat", "blurred", blurred), Variant("cat", "darker", darker), Variant("cat", "noisy", noisy), Variant("cat", "cropped", cropped),
    Variant("palace", "darker", darker), Variant("palace", "blurred", blurred), Variant("flower", "darker", darker), Variant("coffee", "noisy", noisy),
    Variant("motorcycle", "cropped", cropped), Variant("rocket", "blurred", blurred), Variant("astronaut", "darker", darker),
)  # fmt: skip
TURNED, COPIED = "coffee", "flower"  # turned by EXIF; copied as AVIF


def package_folder(package: str) -> Path | None:
    """Return where an installed package lies, without importing it."""
    found = importlib.util.find_spec(package)
    return Path(found.origin).parent if found is not None and found.origin else None


def sample_files() -> dict[str, Path]:
    """Return the sample pictures that are installed.

    Raises RuntimeMissing, with the pip line, when there are none.
    """
    found = {}
    for name, (package, file) in SAMPLES.items():
        folder = package_folder(package)
        if folder is not None and (folder / PACKAGES[package] / file).is_file():
            found[name] = folder / PACKAGES[package] / file
    if len(found) < len(SAMPLES) // 2:
        raise RuntimeMissing("the demo's sample pictures are not installed", hint='run: python -m pip install "rankclip[demo]"')
    return found


def make_demo(folder: Path) -> list[Path]:
    """Write the demo photos into `folder`; those that are there already are kept. Returns all paths. Raises InputError where that cannot be written."""
    pictures = {name: Image.open(path).convert("RGB") for name, path in sample_files().items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [_kept(folder / name, write) for name, write in _files(pictures)]
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({reason(error)})", hint="name a folder that you may write to: rankclip demo DIR") from error


def _files(pictures: dict[str, Image.Image]) -> Iterator[tuple[str, Callable[[Path], None]]]:
    for name, picture in pictures.items():
        yield f"{name}.jpg", lambda path, picture=picture: picture.save(path, "JPEG", quality=QUALITY)  # type: ignore[misc]
    for variant in VARIANTS:
        if variant.sample in pictures:
            changed = variant.change(pictures[variant.sample])
            yield f"{variant.sample}_{variant.suffix}.jpg", lambda path, changed=changed: changed.save(path, "JPEG", quality=QUALITY)  # type: ignore[misc]
    if TURNED in pictures:
        yield f"{TURNED}_turned.jpg", lambda path: _save_turned(pictures[TURNED], path)
    if COPIED in pictures:
        yield f"{COPIED}.avif", lambda path: pictures[COPIED].save(path, "AVIF", quality=80)


def _save_turned(picture: Image.Image, path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(path, "JPEG", quality=QUALITY, exif=exif)


def _kept(path: Path, write: Callable[[Path], None]) -> Path:
    if not path.exists():
        partial = path.with_name(f".{path.name}.partial")
        write(partial)
        partial.replace(path)
    return path
