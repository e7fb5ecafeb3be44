"""Embedding photos: processor seconds a photo in steady state, their ratio to the floor of the same run, and the memory of all processes.

python benchmarks/embed.py --shared DIR --folder /tmp/bench

Steady state is (CPU of 2 n photos - CPU of n photos) / n, so that start-up drops out; it is given apart. The floor is the same work with nothing
around it, measured in the same run, before and after: read and digest the file, decode it at reduced size, fit it to the tower's input, and run the
tower on full batches. DIR/make_photos.py makes the photos; `--photos` folders made before are taken as they are.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import measure
import numpy as np
from PIL import Image

from rankclip.backbones import specs
from rankclip.photos import facts
from rankclip.photos.fit import fit
from rankclip.registry import ENGINES, resolve
from rankclip.settings import DEFAULT_MODEL, Settings
from rankclip.types import InputSpec

ARCHITECTURE = "ViT-B-32-256"
FLOOR_PHOTOS = 32  # decoded, and one full batch embedded, for each half of the floor
SIZES = ("12", "0.5")  # megapixels


@dataclass(frozen=True, slots=True)
class Run:
    """One `rankclip embed` into a new store: seconds, and the MiB of all its processes together."""

    wall: float
    cpu: float
    pss: float


def random_model(folder: Path) -> str:
    """Write an open_clip model of full size with random weights: speed does not depend on their values."""
    if not (folder / specs.CARD).is_file():
        import open_clip
        import torch
        from safetensors.torch import save_file

        torch.manual_seed(0)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(open_clip.create_model(ARCHITECTURE).state_dict(), folder / "open_clip_model.safetensors")
        card = {"name": f"random/{ARCHITECTURE}", "weights": hashlib.sha256(b"random").hexdigest(), "input": str(InputSpec(256)), "width": 512,
                "licence": "none", "extra": {"architecture": ARCHITECTURE, "checkpoint": "open_clip_model.safetensors"}}  # fmt: skip
        (folder / specs.CARD).write_text(json.dumps(card))
    return f"local-dir:{folder}"


def make_photos(shared: Path | None, folder: Path, count: int, megapixels: str) -> list[Path]:
    """Make the photos, or take those that are there."""
    found = sorted(folder.glob("*.jpg"))
    if len(found) < count:
        if shared is None:
            raise SystemExit(f"{folder}: {count} photos are needed and {len(found)} are there; --shared DIR names the folder of make_photos.py")
        subprocess.run([sys.executable, str(shared / "make_photos.py"), str(folder), str(count), megapixels, "1"], check=True)
    return sorted(folder.glob("*.jpg"))[:count]


def embed(photos: list[Path], model: str, folder: Path) -> Run:
    """Embed photos into a store of their own."""
    listed, store = folder / "list", folder / "store-embed"
    shutil.rmtree(store, ignore_errors=True)
    listed.write_text("".join(f"{path}\n" for path in photos))
    words = measure.rankclip("embed", "--files-from", listed, "--model", model, "--store", store, "--progress", "none")
    began = time.perf_counter()
    process = subprocess.Popen(words, env=measure.child_environment(), stderr=subprocess.PIPE)
    memory = measure.TreeMemory(process.pid)
    memory.start()
    assert process.stderr is not None
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"embed ended with {process.returncode}: {said.strip()}")
    return Run(wall, usage.ru_utime + usage.ru_stime, memory.stop())


def floor(photos: list[Path], model: str) -> dict[str, float]:
    """Processor seconds a photo for digest, decoding and the tower, with nothing around them."""
    backbone = specs.find(model)
    engine = resolve(ENGINES, backbone.image_engine, what="engine")(backbone, Settings())
    side = max(facts.SHORT_SIDE, 2 * backbone.input.size)
    digest = decode = 0.0
    pixels = np.zeros((Settings().batch_size, backbone.input.size, backbone.input.size, 3), np.uint8)
    engine.encode_images(pixels)  # loading is no part of it
    for number, path in enumerate(photos[:FLOOR_PHOTOS]):
        began = time.process_time()
        data = path.read_bytes()
        hashlib.blake2b(data, digest_size=16).digest()
        read = time.process_time()
        picture = Image.open(io.BytesIO(data))
        picture.draft(None, (side, side))
        pixels[number % len(pixels)] = fit(picture.convert("RGB"), backbone.input)
        decode += time.process_time() - read
        digest += read - began
    began = time.process_time()
    for _ in range(3):
        engine.encode_images(pixels)
    tower = (time.process_time() - began) / 3 / len(pixels)
    count = len(photos[:FLOOR_PHOTOS])
    return {"digest": digest / count, "decode": decode / count, "tower": tower}


def measured(name: str, photos: list[Path], model: str, folder: Path) -> list[measure.Figure]:
    """Measure one model on photos of one size: n of them, then all 2 n."""
    half = len(photos) // 2
    before = floor(photos, model)
    small, large = embed(photos[:half], model, folder), embed(photos, model, folder)
    after = floor(photos, model)
    least = {part: statistics.mean((before[part], after[part])) for part in before}
    each, total = (large.cpu - small.cpu) / half, sum(least.values())
    rate = half / (large.wall - small.wall) if large.wall > small.wall else 0.0  # 0: too noisy to say
    start = max(0.0, small.cpu - half * each)
    figures = [measure.Figure(f"{name}-cpu", each, "s", total, {"cpu": each, **least, "start_up": start, "photos": half, "floor_before": sum(before.values()), "floor_after": sum(after.values())}),
               measure.Figure(f"{name}-pss", max(small.pss, large.pss), "MiB")]  # fmt: skip
    if rate:
        figures.append(measure.Figure(f"{name}-rate", rate, "photos/s"))
    print(f"{name:28} {each * 1e3:6.1f} ms CPU a photo, {each / total:4.2f} x floor ({', '.join(f'{part} {ms * 1e3:.1f}' for part, ms in least.items())}); "
          f"start-up {start:.1f} s CPU; {rate:.1f} photos/s; all processes {figures[1].value:.0f} MiB (PSS)", flush=True)  # fmt: skip
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, help="folder that holds make_photos.py")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/rankclip-bench"))
    parser.add_argument("--count", type=int, default=400, help="photos of each size (2 n)")
    parser.add_argument("--bundled", default=DEFAULT_MODEL, help="measure another model in the bundled one's place")
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as rankclip sets it; threads that wait by spinning would count as work of the floor
    models = {"vit": random_model(options.folder / "random-model")}
    if options.bundled != DEFAULT_MODEL or (specs.bundled_folder() / specs.CARD).is_file():
        models["mini"] = options.bundled
    else:
        print(f"skipped: {DEFAULT_MODEL} is not in this install, so nothing is measured for it")
    figures = []
    for size in SIZES:
        photos = make_photos(options.shared, options.folder / f"photos-{size}", options.count, size)
        for name, model in models.items():
            figures += measured(f"{name}-{size}", photos, model, options.folder)
    measure.record("embed", figures, options.record)


if __name__ == "__main__":
    main()
