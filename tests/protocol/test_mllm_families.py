"""More families of multimodal language models: each embeds alone as in a batch, shares a photo between instructions, and can be tuned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tests import mllm_models

from rankclip.backbones import specs
from rankclip.engines import mllm_engine
from rankclip.engines.mllm_engine import MllmEngine
from rankclip.settings import Settings
from rankclip.training import mllm_composer
from rankclip.training.mllm_composer import Config

WIDTH, SAME, OTHER = 32, 1e-4, 1e-3
GRID = [[32, 64], [64, 32], [64, 64]]  # sizes that a photo is cut to, in tiles of 32 px
TEXTS = ["make it red", "make it green, the same but a circle", "x"]


def qwen(folder: Path, kind: str, vision: dict[str, object], **text: object) -> None:
    """A Qwen-VL of one of the later generations."""
    words = mllm_models.tokenizer(mllm_models.QWEN, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=mllm_models.QWEN_TEMPLATE)
    number = words.convert_tokens_to_ids
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1], **text.pop("rope", {})}  # type: ignore[dict-item]
    config = getattr(transformers, f"{kind}Config")(
        vision_config={"depth": 2, "hidden_size": WIDTH, "out_hidden_size": WIDTH, "num_heads": 4, "patch_size": 8, "intermediate_size": 64, **vision},
        text_config={**mllm_models.text_settings(words, WIDTH), **text, "rope_parameters": rope},
        image_token_id=number("<|image_pad|>"), video_token_id=number("<|video_pad|>"),
        vision_start_token_id=number("<|vision_start|>"), vision_end_token_id=number("<|vision_end|>"),
    )  # fmt: skip
    getattr(transformers, f"{kind}ForConditionalGeneration")(config).save_pretrained(folder)
    sizes = {"patch_size": 8, "size": {"shortest_edge": 16 * 16, "longest_edge": 64 * 64}}
    videos = transformers.Qwen3VLVideoProcessor if kind == "Qwen3VL" else transformers.Qwen2VLVideoProcessor
    processor = getattr(transformers, f"{kind}Processor")
    processor(transformers.Qwen2VLImageProcessor(**sizes), words, videos(**sizes), chat_template=mllm_models.QWEN_TEMPLATE).save_pretrained(folder)


def qwen25(folder: Path) -> None:
    """With attention in windows."""
    qwen(folder, "Qwen2_5_VL", {"fullatt_block_indexes": [1], "window_size": 32})


def qwen3(folder: Path) -> None:
    """With features of the vision tower's early layers in the language model's layers."""
    qwen(folder, "Qwen3VL", {"deepstack_visual_indexes": [0], "num_position_embeddings": 64}, head_dim=8, rope={"mrope_interleaved": True})


def llava_next(folder: Path) -> None:
    """Photos in tiles, which the vision tower needs the photo's size for."""
    words = mllm_models.tokenizer(mllm_models.PHI, bos_token="<s>", eos_token="<|end|>", pad_token="<pad>", chat_template=mllm_models.PHI_TEMPLATE)
    vision = transformers.CLIPVisionConfig(hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8)
    config = transformers.LlavaNextConfig(
        vision_config=vision, text_config=transformers.LlamaConfig(**mllm_models.text_settings(words, WIDTH)),
        image_token_index=words.convert_tokens_to_ids("<image>"), image_grid_pinpoints=GRID,
    )  # fmt: skip
    transformers.LlavaNextForConditionalGeneration(config).save_pretrained(folder)
    pixels = transformers.LlavaNextImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_grid_pinpoints=GRID)
    transformers.LlavaNextProcessor(
        pixels, words, patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1
    ).save_pretrained(folder)  # fmt: skip


def llava_onevision(folder: Path) -> None:
    """A SigLIP and a Qwen behind the same processor as a LLaVA's."""
    words = mllm_models.tokenizer((*mllm_models.PHI, "<video>"), bos_token="<s>", eos_token="<|end|>", pad_token="<pad>",
                                  chat_template=mllm_models.PHI_TEMPLATE)  # fmt: skip
    vision = transformers.SiglipVisionConfig(hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8)
    config = transformers.LlavaOnevisionConfig(
        vision_config=vision, text_config=transformers.Qwen2Config(**mllm_models.text_settings(words, WIDTH)),
        image_token_index=words.convert_tokens_to_ids("<image>"), video_token_index=words.convert_tokens_to_ids("<video>"), image_grid_pinpoints=GRID,
    )  # fmt: skip
    transformers.LlavaOnevisionForConditionalGeneration(config).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    pixels, videos = transformers.LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=GRID), transformers.LlavaOnevisionVideoProcessor(size=size)
    transformers.LlavaOnevisionProcessor(pixels, words, videos, num_image_tokens=16, vision_feature_select_strategy="full").save_pretrained(folder)


@pytest.mark.parametrize("make", [qwen25, qwen3, llava_next, llava_onevision])
def test_mllm_of_another_family_embeds_shares_and_learns(make: Callable[[Path], None], tmp_path: Path) -> None:
    torch.manual_seed(0)
    make(tmp_path / "model")
    engine = MllmEngine(specs.find(f"mllm:{tmp_path / 'model'}"), Settings(precision="fp32", threads=1))
    side = engine.backbone.input.size
    pixels = np.random.default_rng(0).integers(0, 255, (3, side, side, 3), dtype=np.uint8)
    whole = engine.encode_queries(pixels, TEXTS)
    alone = np.stack([engine.embed(photo, text) for photo, text in zip(pixels, TEXTS, strict=True)])
    assert whole.shape == (3, WIDTH) and np.abs(whole - alone).max() < SAME
    shared = engine.encode_changes(pixels[0], TEXTS)
    assert np.abs(shared[0] - whole[0]).max() < SAME and np.abs(shared[1] - engine.embed(pixels[0], TEXTS[1])).max() < SAME
    assert np.abs(shared[0] - shared[1]).max() > OTHER and np.abs(engine.embed(pixels[1], TEXTS[0]) - whole[0]).max() > OTHER, "photo and text both count"

    model = mllm_composer.with_lora(engine, Config(rank=4, dropout=0.0))
    inputs = engine.tokenized([engine.chat(mllm_engine.QUERY.format(text), photo=True) for text in TEXTS], pixels)
    seen = engine.seen(inputs)
    states = engine.states(seen)
    assert "pixel_values" not in seen and np.abs(states.detach().numpy() - whole).max() < SAME, "a LoRA that has learnt nothing changes nothing"
    states.sum().backward()
    learning = {name: p.grad.abs().max() > 0 for name, p in model.named_parameters() if p.requires_grad and "lora_B" in name}
    assert len(learning) == 14 and all(learning.values()) and all("language_model" in name for name in learning)
