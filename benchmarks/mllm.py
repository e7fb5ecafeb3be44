"""What a photo costs a multimodal language model: processor seconds of a random model with the released composer's layers, at a part of its width.

python benchmarks/mllm.py --share 0.5

Real weights change no cost. The whole model has 32 layers of width 3,072 and a vision tower of 24 layers of width 1,024, for pictures of 224 px.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import measure
import numpy as np
import torch
from transformers import CLIPImageProcessor, CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor, Phi3Config

from rankclip.backbones import specs
from rankclip.engines.mllm_engine import MllmEngine
from rankclip.settings import Settings

sys.path.append(str(Path(__file__).resolve().parents[1]))
from tests import mllm_models

SIZE, PATCH = 224, 14  # px
TEXTS = [f"make it red and show {count} of them on a beach at night" for count in ("two", "three", "four", "five")]


def make(folder: Path, share: float) -> Path:
    """Write a random model in bf16, `share` of the real one's width."""
    words = mllm_models.tokenizer(mllm_models.PHI, bos_token="<s>", eos_token="<|end|>", pad_token="<pad>", chat_template=mllm_models.PHI_TEMPLATE)
    width, sight = int(3072 * share), int(1024 * share)
    vision = CLIPVisionConfig(hidden_size=sight, intermediate_size=4 * sight, num_hidden_layers=24, num_attention_heads=sight // 64,
                              image_size=SIZE, patch_size=PATCH)  # fmt: skip
    text = Phi3Config(hidden_size=width, intermediate_size=width * 8 // 3, num_hidden_layers=32, num_attention_heads=width // 96,
                      num_key_value_heads=width // 96, vocab_size=32_064, pad_token_id=None, bos_token_id=None, eos_token_id=None)  # fmt: skip
    torch.set_default_dtype(torch.bfloat16)
    LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=text, image_token_index=words.convert_tokens_to_ids("<image>"))
    ).save_pretrained(folder)
    torch.set_default_dtype(torch.float32)
    pixels = CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    LlavaProcessor(pixels, words, patch_size=PATCH, vision_feature_select_strategy="default", num_additional_image_tokens=1).save_pretrained(folder)
    return folder


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor time of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=0.5, help="of the real width")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/rankclip-bench/mllm"))
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    shutil.rmtree(options.folder, ignore_errors=True)
    engine = MllmEngine(specs.find(f"mllm:{make(options.folder, options.share)}"), Settings(precision=options.precision, threads=options.threads))
    pixels = np.random.default_rng(0).integers(0, 255, (4, SIZE, SIZE, 3), dtype=np.uint8)
    parameters = sum(p.numel() for p in engine.model.language_model.layers.parameters())
    tokens = engine.tokenized([engine.chat("\n Describe this image in one word:", photo=True)], pixels[:1])["input_ids"].shape[1]
    works: dict[str, Callable[[], object]] = {
        "a photo": lambda: engine.encode_images(pixels[:1]), "four photos in a batch": lambda: engine.encode_images(pixels),
        "a photo with one instruction": lambda: engine.encode_changes(pixels[0], TEXTS[:1]),
        "a photo with four instructions": lambda: engine.encode_changes(pixels[0], TEXTS), "a caption": lambda: engine.encode_texts(TEXTS[:1]),
    }  # fmt: skip
    works["a caption"]()  # loads the model
    figures = []
    for name, work in works.items():
        wall, cpu = seconds(work)
        figures.append(measure.Figure(f"{options.precision}, {name}", cpu, "s", 0.0, {"wall": wall}))
        print(f"{name:32} {cpu:7.2f} s of processor time, {wall:7.2f} s of wall time")
    rate = 2 * parameters * tokens / figures[0].value / 1e9
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{parameters / 1e6:,.0f} million parameters in the language model's layers, {tokens} tokens, {rate:,.0f} GFLOP/s, peak {memory:,.0f} MiB")
    more = {"parameters": float(parameters), "tokens": float(tokens), "gflop_s": rate, "peak_mib": memory, "threads": float(options.threads)}
    measure.record("mllm", [*figures, measure.Figure(f"{options.precision}, share", options.share, "", 0.0, more)], options.record)
    shutil.rmtree(options.folder)


if __name__ == "__main__":
    main()
