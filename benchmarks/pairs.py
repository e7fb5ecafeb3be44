"""The adapter's pair branch: factorised against literal, time and peak memory of one forward and backward pass, each in a process of its own.

    python benchmarks/pairs.py [--sizes 16,32,64]

Prints one line a size: seconds and MiB above the process's start of both forms, and their ratios. Literal sizes that would need more than
`--most` MiB are given by formula (the copied keys and their gradients: B^2 x 2P x D x 4 bytes, three times) and marked so.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

PATCHES, WIDTH = 49, 512


def one(form: str, size: int) -> dict[str, float]:
    """Measure one form in this process."""
    import torch

    from rankclip.training.models.adapter import Config, Pairs

    torch.set_num_threads(2)
    torch.manual_seed(0)
    pairs = Pairs(Config.released(WIDTH))
    z = torch.randn(size, PATCHES, WIDTH, requires_grad=True)
    pairs(torch.randn(2, PATCHES, WIDTH)).sum().backward()  # loads what torch loads once
    before, began = peak(), time.perf_counter()
    (pairs(z) if form == "factorised" else pairs.literal(z)).square().mean().backward()
    return {"seconds": time.perf_counter() - began, "MiB": peak() - before}


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_process(form: str, size: int) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, "--one", form, "--sizes", str(size)], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def literal_mib(size: int) -> float:
    """Memory of the literal form by formula: keys of all pairs, their head layout, and the gradient."""
    return 3 * size * size * 2 * PATCHES * WIDTH * 4 / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="16,32,64,512")
    parser.add_argument("--most", type=float, default=6_000, help="MiB that the literal form may take")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    if options.one:
        print(json.dumps(one(options.one, sizes[0])))
        return
    for size in sizes:
        fast = in_process("factorised", size)
        if literal_mib(size) > options.most:
            print(f"B={size}: factorised {fast['seconds']:.2f} s, {fast['MiB']:,.0f} MiB; literal {literal_mib(size):,.0f} MiB by formula", flush=True)
            continue
        slow = in_process("literal", size)
        print(f"B={size}: factorised {fast['seconds']:.2f} s, {fast['MiB']:,.0f} MiB; literal {slow['seconds']:.2f} s, {slow['MiB']:,.0f} MiB; "
              f"{slow['seconds'] / fast['seconds']:.0f} times faster, {slow['MiB'] / max(fast['MiB'], 1):.0f} times less memory", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
