"""Whether large photos rank above their blurred and noisy copies: writes the copies, ranks all by technical quality, counts pairs in the right order.

python benchmarks/quality_pairs.py --photos FOLDER_OF_JPEGS --folder /tmp/pairs

Blur: Gaussian, 6 px. Noise: normal, 30 of 255 in luma, saved at JPEG quality 90 as the originals are.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
from pathlib import Path

import measure
import numpy as np
from PIL import Image, ImageFilter

BLUR, NOISE, SAVED = 6, 30, 90
INSTRUCTION = "Rank the technical quality of the photos"


def blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(BLUR))


def noisy(image: Image.Image, seed: int) -> Image.Image:
    grain = np.random.default_rng(seed).standard_normal((image.height, image.width, 1), np.float32) * NOISE
    return Image.fromarray(np.clip(np.asarray(image, np.float32) + grain, 0, 255).astype(np.uint8))


def write(photos: list[Path], folder: Path) -> None:
    """Copy each photo and write its two degraded copies beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(photos):
        shutil.copyfile(path, folder / f"{number:03}_original.jpg")
        image = Image.open(path).convert("RGB")
        for name, copy in (("blurred", blurred(image)), ("noisy", noisy(image, number))):
            copy.save(folder / f"{number:03}_{name}.jpg", quality=SAVED)


def places(folder: Path, instruction: str) -> dict[str, int]:
    """Rank and return each photo's place by name."""
    environment = {**os.environ, "RANKCLIP_STORE": str(folder / "store")}
    done = subprocess.run(measure.rankclip("rank", str(folder), instruction, "--json"), env=environment, capture_output=True, text=True, check=True)
    return {Path(json.loads(line)["path"]).stem: place for place, line in enumerate(done.stdout.splitlines())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="for the copies and their store")
    parser.add_argument("--instruction", default=INSTRUCTION)
    options = parser.parse_args()
    photos = sorted(options.photos.glob("*.jpg"))
    if not (options.folder / "000_original.jpg").exists():
        write(photos, options.folder)
    found = places(options.folder, options.instruction)
    for name in ("blurred", "noisy"):
        right = [found[f"{number:03}_original"] < found[f"{number:03}_{name}"] for number in range(len(photos))]
        print(f"original above {name}: {sum(right)} of {len(right)} ({np.mean(right):.1%})")


if __name__ == "__main__":
    main()
