"""open_clip's towers give patch tokens and token states, and a released adapter ranks with them; random weights of the real shape."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file
from tests.conftest import Run, noise_photo
from tests.recipes.test_adapter import their_names

from rankclip.backbones import specs
from rankclip.backbones.specs import Backbone
from rankclip.backbones.tokens import END, tokenize
from rankclip.engines.base import normalize, text_states
from rankclip.engines.onnx_engine import OnnxEngine
from rankclip.engines.torch_engine import TEXT, TorchEngine, export_text, load_towers, with_tokens
from rankclip.heads import packs
from rankclip.settings import Settings
from rankclip.training.models.adapter import AdapterFull, Config

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.filterwarnings("ignore::UserWarning")]
NAME = "acme/tiny"
SHAPE = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
TEXTS = ["sort by age", "a red car parked in front of a house at night", "2 dogs"]
CPU = Settings(device="cpu", precision="fp32")


@pytest.fixture
def tiny() -> Backbone:
    """An installed ViT with random weights, as `models fetch` leaves it."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    folder = specs.installed_folder(NAME)
    folder.mkdir(parents=True)
    save_file({name: value.contiguous() for name, value in open_clip.CLIP(**SHAPE).state_dict().items()}, folder / "open_clip_model.safetensors")
    extra = {"architecture": "acme--tiny", "checkpoint": "open_clip_model.safetensors", "model_cfg": SHAPE, "fixed_context": True}
    card = {"name": NAME, "weights": "1" * 64, "input": "crop-64-bicubic/1", "width": 32, "extra": extra}
    (folder / "card.json").write_text(json.dumps(card))
    backbone = specs.find(NAME)
    export_text(backbone, folder / TEXT)
    return backbone


def test_text_states_are_what_is_projected(tiny: Backbone) -> None:
    engine = TorchEngine(tiny, CPU)
    states, real = text_states(engine, TEXTS)
    ids = tokenize(TEXTS)
    assert states.shape == (3, 77, 32) and states.dtype == np.float32
    assert real.sum(axis=1).tolist() == [int((row == END).argmax()) + 1 for row in ids]
    ends = states[np.arange(3), real.sum(axis=1) - 1]  # [3, V]
    projection = load_towers(tiny).text_projection.detach().numpy()
    assert np.allclose(normalize(ends @ projection), engine.encode_texts(TEXTS), atol=1e-5)


def test_the_exported_text_tower_gives_the_same_states(tiny: Backbone) -> None:
    ours, theirs = (text_states(kind(tiny, CPU), TEXTS) for kind in (TorchEngine, OnnxEngine))
    assert np.allclose(ours[0], theirs[0], atol=1e-4) and np.array_equal(ours[1], theirs[1])


def test_patch_tokens_lie_in_the_embeddings_space(tiny: Backbone) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
    plain = TorchEngine(tiny, CPU).encode_images(pixels)
    told = with_tokens(tiny)
    found = TorchEngine(told, CPU).encode_images(pixels)
    assert plain.tokens is None and told.space.fingerprint == tiny.space.fingerprint
    assert found.tokens is not None and found.tokens.shape == (2, 16, 32) == (2, told.patches, told.token_width)
    assert np.allclose(plain.pooled, found.pooled, atol=1e-6)
    other = TorchEngine(told, CPU).encode_images(pixels[1:])
    assert other.tokens is not None and np.allclose(other.tokens, found.tokens[1:], atol=1e-5), "a photo's tokens do not depend on its neighbours"


def test_a_released_adapter_ranks_with_an_open_clip_model(run: Run, tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKCLIP_ENGINE", "auto")
    monkeypatch.setenv("RANKCLIP_MODEL", NAME)
    monkeypatch.setenv("RANKCLIP_DEVICE", "cpu")
    for number in range(6):
        noise_photo(tmp_path / f"photos/{number}.png", number)
    assert run("embed", "photos").code == 0
    theirs = their_names(AdapterFull(Config.released(32)))
    torch.save({"state_dict": {f"module.adapter.{name}": value for name, value in theirs.items()}}, tmp_path / "epoch.pt")
    done = run("finetune", "adapter", "--import", "epoch.pt", "--instruction", "Sort by age", "--name", "theirs")
    assert done.code == 0 and packs.find("theirs").card.config["size"] == "released", done.err
    before = run("rank", "photos", "sort by age", "--json")
    assert before.code == 0 and "6 photos have no patch tokens" in before.err
    assert "6 embedded again" in run("embed", "photos", "--force").err
    found = run("rank", "photos", "sort by age", "--json", "--explain")
    hits = [json.loads(line) for line in found.lines]
    assert found.code == 0 and "patch tokens" not in found.err and {hit["method"] for hit in hits} == {"adapter"}
    assert len({hit["score"] for hit in hits}) == 6 and run("store", "verify").code == 0
