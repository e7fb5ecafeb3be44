"""Every multimodal language model as an embedder: the same tests for a LLaVA and a Qwen2-VL, made on the spot."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tests import mllm_models

from rankclip.backbones import specs
from rankclip.engines import mllm_engine
from rankclip.engines.mllm_engine import MllmEngine
from rankclip.errors import ModelError
from rankclip.settings import Settings

FP32 = Settings(precision="fp32", threads=1)
SAME, OTHER = 1e-4, 1e-3  # largest difference of an element that is the same embedding; smallest of another
TEXTS = ["make it red", "make it green, the same but a circle", "x", "", "another square with 2 crosses in blue and a ring"]


@pytest.fixture(scope="module", params=mllm_models.KINDS)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mllm_models.KINDS[request.param](tmp_path_factory.mktemp("models") / request.param)


@pytest.fixture
def engine(checkpoint: Path) -> MllmEngine:
    return MllmEngine(specs.find(f"mllm:{checkpoint}"), FP32)


def photos(engine: MllmEngine, count: int) -> np.ndarray:
    size = engine.backbone.input.size
    return np.random.default_rng(0).integers(0, 255, (count, size, size, 3), dtype=np.uint8)


def apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())


def test_an_embedding_depends_neither_on_padding_nor_on_the_batch(engine: MllmEngine) -> None:
    pixels = photos(engine, len(TEXTS))
    whole = engine.encode_queries(pixels, TEXTS)
    assert whole.shape == (5, engine.backbone.width) and whole.dtype == np.float32 and np.allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-5)
    for i, text in enumerate(TEXTS):
        assert apart(whole[i], engine.embed(pixels[i], text)) < SAME
    assert apart(engine.encode_queries(pixels[::-1], TEXTS[::-1])[::-1], whole) < SAME
    assert apart(engine.encode_texts(TEXTS)[2], engine.embed(None, TEXTS[2])) < SAME
    assert apart(engine.encode_images(pixels).pooled[3], engine.embed(pixels[3], None)) < SAME


def test_photo_text_and_order_all_count(engine: MllmEngine) -> None:
    pixels = photos(engine, 2)
    found = [engine.embed(pixels[0], None), engine.embed(pixels[1], None), engine.embed(None, "red"), engine.embed(pixels[0], "red"),
             engine.embed(pixels[1], "red"), engine.embed(pixels[0], "blue"), engine.embed(pixels[0], "a b"), engine.embed(pixels[0], "b a")]  # fmt: skip
    assert min(apart(a, b) for i, a in enumerate(found) for b in found[:i]) > OTHER


def test_many_instructions_share_the_photos_beginning(engine: MllmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, seen = photos(engine, 1)[0], []
    plain = engine.encode_queries(np.repeat(pixels[None], len(TEXTS), axis=0), TEXTS)
    tower = engine.model.get_image_features
    monkeypatch.setattr(engine.model, "get_image_features", lambda pixel_values, *more, **rest: seen.append(1) or tower(pixel_values, *more, **rest))
    shared = engine.encode_changes(pixels, TEXTS)
    assert apart(shared, plain) < SAME and apart(shared[0], shared[1]) > OTHER
    assert len(seen) == 1, "the vision tower runs once for all instructions"
    assert apart(engine.encode_changes(pixels, ["red"] * 3)[2], engine.embed(pixels, "red")) < SAME


def test_prompts_are_those_of_the_paper(engine: MllmEngine) -> None:
    gallery, query = engine.chat(mllm_engine.PHOTO, photo=True), engine.chat(mllm_engine.QUERY.format("make it red"), photo=True)
    assert "\n Describe this image in one word:" in gallery and 'Modify this image with "make it red", desribe modified image in one word:' in query
    assert gallery.count(engine.picture) == query.count(engine.picture) == 1
    ids = engine.tokenized([gallery], photos(engine, 1))["input_ids"][0].tolist()
    bos = engine.words.bos_token_id
    assert bos is None or ids.count(bos) == 1, "the beginning is written once"
    assert engine.words.decode(ids).rstrip().endswith("assistant" if bos is None else "<|assistant|>"), "the generation prompt ends it"


def test_the_mark_of_a_picture_in_a_users_text_is_no_picture(engine: MllmEngine) -> None:
    pixels = photos(engine, 1)[0]
    assert np.isfinite(engine.embed(pixels, f"red {engine.picture} blue")).all()
    assert apart(engine.embed(pixels, f"red{engine.picture}blue"), engine.embed(pixels, "red blue")) < SAME


def test_batches_shrink_until_they_fit(engine: MllmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = photos(engine, 7)
    whole = engine.encode_images(pixels).pooled
    states, sizes = engine.states, []

    def scarce(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return states(inputs)

    monkeypatch.setattr(engine, "states", scarce)
    assert apart(engine.encode_images(pixels).pooled, whole) < SAME
    assert [size for size in sizes if size <= 2] == [2, 2, 2, 1] and sizes[0] == 7
    sizes.clear()
    engine.encode_images(pixels)
    assert sizes == [2, 2, 2, 1], "what fitted is kept"
    monkeypatch.setattr(engine, "states", lambda inputs: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory. Tried")))
    with pytest.raises(ModelError, match="not enough memory") as caught:
        engine.encode_images(pixels)
    assert "billion parameters" in caught.value.hint


def test_too_little_memory_is_known_before_loading(engine: MllmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_free", lambda: 1_000)
    with pytest.raises(ModelError, match="not enough memory on cpu") as caught:
        engine.encode_texts(["red"])
    assert caught.value.exit_code == 6 and "--precision bf16" in caught.value.hint


def test_files_in_the_cache_of_the_system_do_not_count_as_taken(tmp_path: Path) -> None:
    told = tmp_path / "meminfo"
    told.write_text("MemTotal:       24000000 kB\nMemFree:         1000000 kB\nMemAvailable:   16000000 kB\n")
    assert mllm_engine.available_memory(told) == 16_000_000 * 1024
    assert mllm_engine.available_memory(tmp_path / "none") > 0


def test_bf16_is_near(checkpoint: Path) -> None:
    backbone = specs.find(f"mllm:{checkpoint}")
    full, half = (MllmEngine(backbone, Settings(precision=name, threads=1)) for name in ("fp32", "bf16"))
    pixels = photos(full, 3)
    assert half.describe() == "mllm, cpu, bf16" and half.model.dtype == torch.bfloat16
    assert (full.encode_images(pixels).pooled * half.encode_images(pixels).pooled).sum(axis=1).min() > 0.999


# ---------------------------------------------------------------- what cannot be meant


def edited(checkpoint: Path, folder: Path, file: str, **changes: object) -> Path:
    """A copy of a model with some keys of a JSON file changed, or removed where the value is None."""
    shutil.copytree(checkpoint, folder)
    found = json.loads((folder / file).read_text()) | changes
    (folder / file).write_text(json.dumps({name: value for name, value in found.items() if value is not None}))
    return folder


def failure(folder: Path) -> ModelError:
    """What is raised at the first photo."""
    with pytest.raises(ModelError) as caught:
        engine = MllmEngine(specs.find(f"mllm:{folder}"), FP32)
        engine.encode_images(photos(engine, 1))
    assert caught.value.exit_code == 6 and caught.value.hint and "\n" not in caught.value.message
    return caught.value


def test_a_model_without_a_vision_tower(checkpoint: Path, tmp_path: Path) -> None:
    assert "no vision tower" in failure(edited(checkpoint, tmp_path / "blind", "config.json", vision_config=None)).message


def test_a_chat_template_that_loses_the_prompt(checkpoint: Path, tmp_path: Path) -> None:
    folder = edited(checkpoint, tmp_path / "mute", "config.json")
    (folder / "chat_template.jinja").write_text("{{ bos_token }}hello")
    assert "chat template loses the picture" in failure(folder).message
    (folder / "chat_template.jinja").unlink()
    assert "no chat template" in failure(folder).message


def test_image_tokens_that_are_missing(checkpoint: Path, tmp_path: Path) -> None:
    folder = edited(checkpoint, tmp_path / "odd", "tokenizer.json")
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace("<image>", "<photo>").replace("<|image_pad|>", "<|photo|>"))
    assert "processor" in failure(folder).message or "image tokens are missing" in failure(folder).message


def test_weights_that_do_not_fit_or_are_none(checkpoint: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = edited(checkpoint, tmp_path / "torn", "config.json")
    tensors = load_file(folder / "model.safetensors")
    lost = next(name for name in tensors if "layers.1.mlp" in name)
    save_file({name: value for name, value in tensors.items() if name != lost}, folder / "model.safetensors", metadata={"format": "pt"})
    assert "1 tensors are missing" in failure(folder).message
    (folder / "model.safetensors").write_bytes(b"nonsense")
    assert "not a safetensors file" in failure(folder).message
    (folder / "model.safetensors").unlink()
    assert "no safetensors file" in failure(folder).message


def test_a_space_is_named_by_its_weights(checkpoint: Path, tmp_path: Path) -> None:
    first = specs.find(f"mllm:{checkpoint}")
    specs.find.cache_clear()
    assert specs.find(f"mllm:{checkpoint.name}").space == first.space, "the name is enough once the folder was used"
    other = mllm_models.KINDS[checkpoint.name](tmp_path / checkpoint.name, seed=1)
    assert specs.find(f"mllm:{other}").space.fingerprint != first.space.fingerprint
    with pytest.raises(ModelError, match="is not here"):
        specs.find("mllm:nowhere")
    with pytest.raises(ModelError, match="no multimodal language model"):
        MllmEngine(specs.TOY, FP32)
