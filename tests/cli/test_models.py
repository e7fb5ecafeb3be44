"""`models` and `doctor`: fetching from a server that behaves like the hub, with random weights of the real shape."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import Run, noise_photo
from tests.hub import Hub, hub

from rankclip.backbones import specs
from rankclip.settings import Settings

TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
PREPROCESS = {
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "size": 64,
}


def publish(folder: Path, repository: str, config: dict, preprocess: dict = PREPROCESS) -> None:
    """Put a randomly initialised model of a configuration where the hub would have it."""
    torch = pytest.importorskip("torch")
    open_clip = pytest.importorskip("open_clip")
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = open_clip.CLIP(**{name: config[name] for name in ("embed_dim", "vision_cfg", "text_cfg")})
    place = folder / repository
    place.mkdir(parents=True)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, place / "open_clip_model.safetensors")
    (place / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    with hub(tmp_path / "hub") as (address, handler):
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        yield handler


@pytest.fixture
def tiny(server: type[Hub], tmp_path: Path) -> type[Hub]:
    publish(tmp_path / "hub", "acme/tiny-clip", TINY)
    return server


def test_fetch_then_rank_without_torch(run: Run, tiny: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run("models", "fetch", "acme/tiny-clip")
    assert found.code == 0, found.err
    assert found.text.startswith("acme/tiny-clip is installed (text tower exported, cosine to torch at least 0.9999") or "1.00000" in found.text
    assert "licence: see its page" in found.err
    for i in range(5):
        noise_photo(tmp_path / f"photos/{i}.png", i)
    monkeypatch.setenv("RANKCLIP_ENGINE", "auto")
    ranked = run("rank", "photos", "a red cat", "--model", "acme/tiny-clip")
    assert ranked.code == 0 and len(ranked.lines) == 5 and "torch, cpu" in ranked.err
    assert run("models", "info", "acme/tiny-clip").text.splitlines()[0].split() == ["name", "acme/tiny-clip"]
    assert run("models", "list").text.count("installed") == 1
    assert run("models", "default", "acme/tiny-clip").code == 0
    assert run("rank", "photos", "a red cat", "--engine", "auto").out == ranked.out
    assert run("models", "remove", "acme/tiny-clip").code == 0
    gone = run("rank", "photos", "a blue cat", "--model", "acme/tiny-clip", "--engine", "auto")
    assert gone.code == 6 and "run: rankclip models fetch acme/tiny-clip" in gone.err


def test_a_broken_download_resumes(run: Run, server: type[Hub], tmp_path: Path) -> None:
    publish(tmp_path / "hub", "acme/tiny-clip", {**TINY, "text_cfg": {**TINY["text_cfg"], "width": 128}})  # 25 MB: more than one block of the hub's library
    tiny = server
    tiny.cut = 15_000_000
    found = run("models", "fetch", "acme/tiny-clip")
    if found.code:  # the hub's library may have tried again by itself
        assert found.code == 7 and "goes on where it stopped" in found.err
        found = run("models", "fetch", "acme/tiny-clip")
    assert found.code == 0
    starts = [int(line.rsplit(" ", 1)[1]) for line in tiny.requests_seen if line.startswith("GET") and "safetensors" in line]
    assert len(starts) == 2 and starts[0] == 0 < starts[1], starts


def test_a_wrong_checksum_is_refused(run: Run, tiny: type[Hub]) -> None:
    tiny.lie = True
    found = run("models", "fetch", "acme/tiny-clip")
    assert found.code == 7 and "not what the hub states" in found.err
    assert "acme/tiny-clip" not in specs.installed()


def test_no_hub_is_told_quickly(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    began = time.monotonic()
    found = run("models", "fetch", "recommended")
    assert found.code == 7 and "cannot be reached" in found.err and time.monotonic() - began < 10
    assert "605 MB, licence: MIT" in found.err, "size and licence come first"


def test_offline_asks_nobody(run: Run, tiny: type[Hub]) -> None:
    found = run("models", "fetch", "acme/tiny-clip", "--offline")
    assert found.code == 7 and tiny.requests_seen == []


@pytest.mark.parametrize(("name", "hint"), [("ViT-B-32-265", "did you mean 'ViT-B-32-256/"), ("nonsense", "rankclip models list")])
def test_unknown_names(run: Run, name: str, hint: str) -> None:
    found = run("models", "fetch", name)
    assert found.code == 2 and hint in found.err


def test_a_model_with_another_tokenizer_is_refused(run: Run, server: type[Hub], tmp_path: Path) -> None:
    publish(tmp_path / "hub", "acme/other", TINY)
    config = {**TINY, "text_cfg": {**TINY["text_cfg"], "hf_tokenizer_name": "acme/words"}}
    (tmp_path / "hub/acme/other/open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": PREPROCESS}))
    found = run("models", "fetch", "acme/other")
    assert found.code == 6 and "tokenizer" in found.err


def test_weights_of_another_shape_are_named(run: Run, tiny: type[Hub], tmp_path: Path) -> None:
    config = {**TINY, "embed_dim": 48}
    (tmp_path / "hub/acme/tiny-clip/open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": PREPROCESS}))
    found = run("models", "fetch", "acme/tiny-clip")
    assert found.code == 6 and "does not fit" in found.err


@pytest.mark.slow
def test_the_recommended_model_at_its_real_size(run: Run, server: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_clip = pytest.importorskip("open_clip")
    config = open_clip.get_model_config("ViT-B-32-256")
    publish(tmp_path / "hub", "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K", config, {**PREPROCESS, "size": 256})
    found = run("models", "fetch", "recommended")
    assert found.code == 0, found.err
    backbone = specs.find("ViT-B-32-256/datacomp_s34b_b86k")
    assert (backbone.width, str(backbone.input), backbone.mean) == (512, "crop-256-bicubic/1", specs.CLIP_MEAN)
    from rankclip.engines.onnx_engine import OnnxEngine
    from rankclip.engines.torch_engine import TorchEngine

    torch_engine, onnx_engine = TorchEngine(backbone, Settings(precision="fp32")), OnnxEngine(backbone, Settings())
    texts = ["a photo of a cat", "older faces first"]
    assert (torch_engine.encode_texts(texts) * onnx_engine.encode_texts(texts)).sum(axis=1).min() > 0.9999
    half = TorchEngine(backbone, Settings(precision="bf16"))
    pixels = np.random.default_rng(0).integers(0, 255, (4, 256, 256, 3), dtype=np.uint8)
    assert (half.encode_images(pixels).pooled * torch_engine.encode_images(pixels).pooled).sum(axis=1).min() > 0.995


def test_a_missing_device_is_named(run: Run, tiny: type[Hub], tmp_path: Path) -> None:
    run("models", "fetch", "acme/tiny-clip")
    noise_photo(tmp_path / "photos/a.png", 1)
    found = run("rank", "photos", "red", "--model", "acme/tiny-clip", "--engine", "auto", "--device", "cuda:7")
    assert found.code == 6 and "device 'cuda:7' is not there" in found.err and "usable here: cpu" in found.err


def test_doctor(run: Run) -> None:
    found = run("doctor", "--quick")
    assert found.code == 0, found.text
    lines = {line[:16].strip(): line for line in found.lines if not line.startswith(" ")}
    assert {"system", "numpy", "pillow", "onnxruntime", "formats", "store"} <= set(lines)
    assert "HEIC" in lines["formats"]
