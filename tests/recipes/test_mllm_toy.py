"""A tiny random LLaVA learns what "make it red" means: combinations of colour and shape that no stage has seen are found among all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests import mllm_models, mllm_world

from rankclip.backbones import specs
from rankclip.engines.mllm_engine import MllmEngine
from rankclip.evaluation import triplets
from rankclip.settings import Settings
from rankclip.training import composer_gather, mllm_composer, mllm_job
from rankclip.training.mllm_composer import Config, Data

LEARN = Config(align_epochs=2, epochs=1, batch=48, mix=1.0, part=256, rate=3e-3, warmup=30, rank=32, alpha=64, dropout=0.0, checkpointing=False,
               save_every=10_000)  # fmt: skip


def recall_of_texts(engine: MllmEngine, data: Data) -> float:
    """R@1 of the captions: the right one among those of all combinations."""
    texts = replace(data, val=tuple(replace(row, targets=()) for row in data.val))
    return mllm_composer.means(mllm_composer.measured(engine, texts, mllm_composer.reader(engine)))["R@1"]


@dataclass(frozen=True, slots=True)
class Found:
    """R@1 of captions, R@1 and R@5 of photos, before and after training."""

    captions: tuple[float, float]
    photos: tuple[float, float]
    fifth: float


def learnt(folder: Path, seed: int) -> Found:
    """Train in a world, with a model and in an order of that seed."""
    captions, changes = mllm_world.make(folder, copies=90, others=600, seed=seed)
    data = mllm_job.gathered(triplets.read(changes), composer_gather.read_captions(captions), folder)
    check_nothing_is_given_away(data)
    model = mllm_models.llava(folder / "model", width=64, spread=0.125, seed=seed)
    engine = MllmEngine(specs.find(f"mllm:{model}"), Settings(precision="fp32", threads=2, device="cpu"))
    before = recall_of_texts(engine, data)
    report = mllm_composer.train(engine, data, folder / "run", replace(LEARN, seed=seed)).report
    first = (report["before"]["R@1"]["value"], report["after"]["R@1"]["value"])
    return Found((before, recall_of_texts(engine, data)), first, report["after"]["R@5"]["value"])


def check_nothing_is_given_away(data: Data) -> None:
    held = {f"a {colour} {shape}" for colour, shape in mllm_world.HELD_OUT}
    taught = [*data.align, *data.change]
    assert not held & {text for row in taught for text in (row.caption, row.original)}
    assert not held & {"a {} {}".format(*row.photo.stem.split("_")) for row in taught}, "nor is one of their photos seen"
    assert {one.caption for one in data.val} == held and len(data.val) == 112
    assert len({name for one in data.val for name in (one.reference, *one.targets)}) == 56 + 16, "the gallery shows all 64 combinations"


@pytest.mark.slow
def test_mllm_learns_changes_to_combinations_that_it_has_never_seen(tmp_path: Path) -> None:
    found = learnt(tmp_path, 1)
    assert max(found.photos[0], found.captions[0]) < 0.1, "chance is 2 of 71 photos, and 1 of 64 captions"
    assert found.fifth > 0.95
    assert min(found.photos[1], found.captions[1]) > 0.9, "0.98 here; processors differ in the last bits, and runs then in a few of 112 questions"


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(3))
def test_mllm_learns_them_above_nine_tenths(tmp_path: Path, seed: int) -> None:
    found = learnt(tmp_path, seed)
    assert max(found.photos[0], found.captions[0]) < 0.1
    assert min(found.photos[1], found.captions[1]) > 0.9 and found.fifth > 0.95, found
