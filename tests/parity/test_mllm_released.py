"""InstructCIR's released checkpoint: its files and names at a small width, against its own published way of embedding, written out beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests import mllm_models
from transformers import LlavaProcessor

from rankclip.backbones import specs, weights
from rankclip.engines.mllm_engine import MllmEngine
from rankclip.settings import Settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mllm_models.released(tmp_path_factory.mktemp("models") / "instructcir_llava_phi35_clip224_lp")


@pytest.fixture
def engine(folder: Path) -> MllmEngine:
    return MllmEngine(specs.find(f"mllm:{folder}"), Settings(precision="fp32", threads=1))


def published(engine: MllmEngine, folder: Path, prompts: list[str], pixels: np.ndarray) -> np.ndarray:
    """The authors' inference: chat template of one turn, its first three characters cut, left padding, the last state of the last position."""
    processor = LlavaProcessor.from_pretrained(folder)
    processor.tokenizer.padding_side = "left"
    processor.tokenizer.add_bos_token = True
    written = []
    for prompt in prompts:
        turn = [{"role": "user", "content": prompt}]
        written.append(processor.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)[3:])
    inputs = processor(text=["<s>" + one for one in written], images=list(pixels), return_tensors="pt", padding=True, add_special_tokens=False)
    with torch.no_grad():
        found = engine.model(**inputs, output_hidden_states=True).hidden_states[-1][:, -1, :]
    return torch.nn.functional.normalize(found, dim=-1, p=2).numpy()


def test_mllm_released_weights_all_find_their_places(engine: MllmEngine, folder: Path) -> None:
    stored, loaded = load_file(folder / "model.safetensors"), engine.model.state_dict()
    mapped = 0
    for name, value in stored.items():
        if name.startswith("ret_proj") or "lm_head" in name:
            continue
        ours = name.replace("language_model.model.", "language_model.").replace("vision_tower.vision_model.", "vision_tower.")
        ours = ours if ours in loaded else name
        assert torch.equal(loaded[ours], value), name
        mapped += 1
    assert mapped == len(loaded) == len(stored) - 3
    assert (engine.backbone.width, str(engine.backbone.input)) == (32, "crop-224-bicubic/1")
    assert len([name for name in loaded if name.endswith("qkv_proj.weight")]) == 32


def test_mllm_released_embeds_as_its_authors_do(engine: MllmEngine, folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (2, 224, 224, 3), dtype=np.uint8)
    gallery = published(engine, folder, ["<image>\n Describe this image in one word:"] * 2, pixels)
    texts = ["is red", "shows two of them, on the beach"]
    queries = published(engine, folder, [f'<image>Modify this image with "{text}", desribe modified image in one word:' for text in texts], pixels)
    assert np.abs(engine.encode_images(pixels).pooled - gallery).max() < 1e-5
    assert np.abs(engine.encode_queries(pixels, texts) - queries).max() < 1e-5
    assert np.abs(gallery[0] - gallery[1]).max() > 1e-3 and np.abs(queries[0] - gallery[0]).max() > 1e-3
    ids = engine.tokenized([engine.chat("x", photo=True)], pixels[:1])["input_ids"]
    assert int((ids == engine.words.convert_tokens_to_ids("<image>")).sum()) == 256


def test_mllm_released_names_are_known() -> None:
    wanted = {"instructcir_llava_phi35_clip224_lp": "uta-smile/instructcir_llava_phi35_clip224_lp", "llava-phi-3-mini-hf": "xtuner/llava-phi-3-mini-hf"}
    assert {name: weights.choose(f"mllm:{name}").repository for name in wanted} == wanted
