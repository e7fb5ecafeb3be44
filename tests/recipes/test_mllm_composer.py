"""Tuning a multimodal language model: the loss, gradient caching, what learns and what does not, resume, several processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests import mllm_models, mllm_world
from tests.conftest import subprocess_environment

from rankclip.backbones import specs
from rankclip.engines.mllm_engine import MllmEngine
from rankclip.errors import InputError, ModelError
from rankclip.evaluation import triplets
from rankclip.settings import Settings
from rankclip.training import composer_gather, mllm_composer, mllm_job, runs
from rankclip.training.mllm_composer import Config, Data, Row, Step
from rankclip.types import Silent

FP32 = Settings(precision="fp32", threads=1, device="cpu")
ALONE = runs.Team(0, 1, torch.device("cpu"))
SMALL = Config(align_epochs=1, epochs=1, batch=8, part=3, rate=3e-3, warmup=2, dropout=0.1, save_every=1)
SMALL_PLAIN = replace(SMALL, dropout=0.0)  # each process draws its own dropout


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    mllm_world.make(folder, copies=2)
    return folder


@pytest.fixture(scope="module", params=mllm_models.KINDS)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mllm_models.KINDS[request.param](tmp_path_factory.mktemp("models") / request.param)


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mllm_models.llava(tmp_path_factory.mktemp("models") / "llava")


def data_of(world: Path, *, align: int = 16, change: int = 32, val: int = 4) -> Data:
    """Some of the world's examples."""
    found = mllm_job.gathered(triplets.read(world / "triplets.jsonl"), composer_gather.read_captions(world / "captions.jsonl"), world)
    return Data(found.align[:align], found.change[:: max(1, len(found.change) // change)][:change], found.val[:val], world)


def open_engine(folder: Path, settings: Settings = FP32) -> MllmEngine:
    specs.find.cache_clear()
    return MllmEngine(specs.find(f"mllm:{folder}"), settings)


def gradients(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


# ---------------------------------------------------------------- the loss


def test_the_loss_is_the_papers() -> None:
    torch.manual_seed(0)
    z1, z2, z3 = (torch.nn.functional.normalize(torch.randn(5, 7), dim=-1) for _ in range(3))
    logits = torch.cat([z1 @ z2.T, z1 @ z3.T], dim=1) / 0.05  # B x 2B, as in the released code
    wanted = torch.nn.functional.cross_entropy(logits, torch.arange(5))
    found = mllm_composer.contrast(torch.cat([z1, z2, z3]), torch.arange(5), 0.05)
    assert torch.allclose(found, wanted, atol=1e-6)
    easier = mllm_composer.contrast(torch.cat([z1, z2]), torch.arange(5), 0.05)
    assert found > easier, "the original captions are negatives"


def test_a_text_that_comes_twice_is_never_its_own_negative() -> None:
    rows = [Row(Path("a"), "make it red", "a red bar", "a blue bar"), Row(Path("b"), "make it blue", "a blue bar", "a red bar"),
            Row(Path("c"), "make it red", "a red bar", "")]  # fmt: skip
    step = Step.of(rows)
    assert step.texts == ("a red bar", "a blue bar") and step.own.tolist() == [0, 1, 0]


def test_a_query_is_held_against_the_photos_that_show_what_it_asks_for() -> None:
    torch.manual_seed(0)
    rows = [Row(Path("a"), "", "red", ""), Row(Path("b"), "", "blue", ""), Row(Path("c"), "", "red", ""), Row(Path("d"), "make it red", "red", "blue"),
            Row(Path("e"), "make it pink", "pink", "")]  # fmt: skip
    step, z = Step.of(rows), torch.nn.functional.normalize(torch.randn(8, 7), dim=-1)
    assert step.alone.tolist() == [True, True, True, False, False] and step.texts == ("red", "blue", "pink")
    own, alone = torch.from_numpy(step.own), torch.from_numpy(step.alone)
    a, b, c = ((z[3] @ z[i] / 0.05).exp() for i in range(3))
    wanted = -((a + c) / (a + b + c)).log() / 2  # of two queries one has photos
    assert torch.allclose(mllm_composer.contrast_photos(z, own, alone, 0.05), wanted, atol=1e-5)
    assert mllm_composer.contrast_photos(z, own, torch.ones(5, dtype=torch.bool), 0.05) == 0, "stage 1 asks for no changes"
    assert mllm_composer.contrast_photos(z, own, torch.zeros(5, dtype=torch.bool), 0.05) == 0, "nor are there always photos alone"


def test_gradient_caching_equals_the_plain_loss(checkpoint: Path, world: Path) -> None:
    engine = open_engine(checkpoint)
    data = data_of(world)
    pixels, step = mllm_composer.reader(engine), Step.of([*data.change[:7], *data.align[:3], replace(data.align[4], caption=data.change[0].caption)])
    model = mllm_composer.with_lora(engine, Config(dropout=0.0, rank=4))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # zero at the start, and then half of the gradients are zero, too
                parameter.normal_(std=0.1)
    model.train()
    whole, places = mllm_composer.parts_of(engine, step, pixels, 100, ALONE)
    states, own, alone = torch.cat([engine.states(part) for part in whole]), torch.from_numpy(step.own), torch.from_numpy(step.alone)
    beside = 2 * mllm_composer.contrast_photos(states, own, alone, 0.05)
    plain = mllm_composer.contrast(states, own, 0.05) + beside
    plain.backward()
    wanted = gradients(model)
    assert len(whole) == 2 and places.tolist() == list(range(len(step.rows) + len(step.texts)))
    assert wanted.abs().max() > 1e-3 and beside > 0.1, "both terms count"
    for part in (2, 5, 100):  # the last ones are run once, as many as fit: one part, two, all
        model.zero_grad()
        loss = mllm_composer.backward(engine, step, pixels, Config(part=part, photos=2.0), ALONE, seed=0)
        assert abs(loss - float(plain.detach())) < 1e-5
        assert (gradients(model) - wanted).abs().max() < 1e-5 * max(1.0, float(wanted.abs().max()))


def test_gradient_caching_keeps_what_fits() -> None:
    parts = [{"input_ids": torch.zeros(size, 3)} for size in (4, 4, 3, 2)]
    assert [mllm_composer.fitting(parts, size) for size in (1, 4, 5, 8, 9, 12, 13)] == [3, 3, 2, 2, 1, 1, 0]


def test_a_batch_of_256_holds_no_more_activations_than_a_part(llava: Path, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, data = open_engine(llava), data_of(world, change=256)
    step, states, sizes = Step.of(data.change), engine.states, []
    mllm_composer.with_lora(engine, SMALL)
    monkeypatch.setattr(engine, "states", lambda part: sizes.append((len(part["input_ids"]), torch.is_grad_enabled())) or states(part))
    mllm_composer.backward(engine, step, mllm_composer.reader(engine), Config(part=32), ALONE, seed=0)
    learning = [size for size, learns in sizes if learns]
    assert len(step.rows) == 256 and max(size for size, _ in sizes) == 32 and sum(learning) == 256 + len(step.texts)


def test_too_little_memory_names_the_size_to_try(llava: Path, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, step = open_engine(llava), Step.of(data_of(world).change[:2])
    with pytest.raises(RuntimeError, match="can't allocate memory") as cpu:
        torch.empty(1 << 60)
    for error in (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), cpu.value):
        monkeypatch.setattr(engine, "states", lambda part, error=error: (_ for _ in ()).throw(error))
        with pytest.raises(ModelError, match="not enough memory on cpu for 32 prompts") as caught:
            mllm_composer.backward(engine, step, mllm_composer.reader(engine), Config(part=32), ALONE, seed=0)
        assert "--set part=16" in caught.value.hint and caught.value.exit_code == 6
        with pytest.raises(ModelError, match="one photo at a time needs") as caught:
            engine.encode_texts(["red"])
        assert "billion parameters" in caught.value.hint and engine.batch == 0
        del engine.batch
    monkeypatch.setattr(engine, "states", lambda part: (_ for _ in ()).throw(RuntimeError("mat1 and mat2 shapes cannot be multiplied")))
    with pytest.raises(RuntimeError, match="mat1"):
        mllm_composer.backward(engine, step, mllm_composer.reader(engine), Config(part=32), ALONE, seed=0)


def test_activation_checkpointing_changes_no_gradient(checkpoint: Path, world: Path) -> None:
    found, passes = [], []
    for checkpointing in (True, False):
        engine, data = open_engine(checkpoint), data_of(world)
        torch.manual_seed(0)
        model = mllm_composer.with_lora(engine, replace(SMALL, checkpointing=checkpointing))
        model.train()
        seen: list[int] = []
        engine.model.language_model.layers[0].mlp.register_forward_pre_hook(lambda *given, seen=seen: seen.append(1))
        mllm_composer.backward(engine, Step.of(data.change[:4]), mllm_composer.reader(engine), replace(SMALL, part=99), ALONE, seed=0)
        found.append(gradients(model))
        passes.append(len(seen))
    assert torch.allclose(*found, atol=1e-6) and found[0].abs().max() > 1e-4
    assert passes == [4, 2], "what checkpointing saves in memory it computes again"


def test_stage_two_keeps_some_of_stage_one(world: Path) -> None:
    data, config = data_of(world), replace(SMALL, mix=0.25)
    plan = [*mllm_composer.epochs_of("align", data.align, 1, config), *mllm_composer.epochs_of("change", data.change, 1, config)]
    shows = mllm_composer.captions_shown(data.align)
    steps = [mllm_composer.rows_at(data, shows, place, config, number) for number, place in enumerate(plan)]
    assert [[bool(row.instruction) for row in rows].count(True) for rows in steps] == [0, 0, 8, 8, 8, 8]
    assert [len(rows) for rows in steps] == [8, 8, 10, 10, 10, 10]
    assert steps == [mllm_composer.rows_at(data, shows, place, config, number) for number, place in enumerate(plan)], "a resumed run draws the same"


def test_every_other_photo_of_stage_one_shows_what_a_triplet_asks_for(world: Path) -> None:
    data, config = data_of(world, align=999), replace(SMALL, mix=1.0)
    shows, places = mllm_composer.captions_shown(data.align), mllm_composer.epochs_of("change", data.change, 1, config)
    steps = [Step.of(mllm_composer.rows_at(data, shows, place, config, number)) for number, place in enumerate(places)]
    assert len(data.align) == 112 and len(steps) == 4
    for step in steps:
        asked = {row.caption for row in step.rows if row.instruction}
        assert [row.caption in asked for row in step.rows[8::2]] == [True] * 4
    unseen = replace(data, align=(replace(data.align[0], caption="what nothing asks for"),))
    rows = mllm_composer.rows_at(unseen, mllm_composer.captions_shown(unseen.align), places[0], config, 0)
    assert rows[8:] == [unseen.align[0]] * 8


# ---------------------------------------------------------------- a run


def test_only_the_language_models_lora_learns_and_the_loss_falls(checkpoint: Path, world: Path, tmp_path: Path) -> None:
    engine = open_engine(checkpoint)
    frozen = {name: value.clone() for name, value in engine.model.state_dict().items()}
    again = Config(align_epochs=0, epochs=12, batch=8, part=16, mix=0.0, rate=1e-2, warmup=1, patience=99, checkpointing=False)  # the same eight rows
    outcome = mllm_composer.train(engine, data_of(world, change=8, val=2), tmp_path / "run", again)
    after = engine.model.state_dict()
    kept = [name for name in frozen if torch.equal(frozen[name], after[name.replace("_proj.", "_proj.base_layer.") if name not in after else name])]
    assert sorted(kept) == sorted(frozen), "nothing but the LoRA has changed"
    learnt = [name for name, p in engine.model.named_parameters() if p.requires_grad]
    assert learnt and all("lora_" in name and "language_model" in name for name in learnt)
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in log if "loss" in row]
    assert len(losses) == 12 and losses[-1] < losses[0] - 0.2
    assert outcome.report["queries"] == 2 and set(outcome.files) == {"adapter_config.json", "adapter_model.safetensors"}


def test_bf16_learns_as_fp32_does(checkpoint: Path, world: Path, tmp_path: Path) -> None:
    again = Config(align_epochs=0, epochs=6, batch=8, part=4, mix=0.0, dropout=0.0, rate=2e-3, warmup=1, patience=99, checkpointing=False)  # eight rows
    losses = {}
    for precision in ("fp32", "bf16"):
        engine = open_engine(checkpoint, replace(FP32, precision=precision))
        mllm_composer.train(engine, data_of(world, change=8, val=2), tmp_path / precision, again)
        losses[precision] = np.array(list(losses_of(tmp_path / precision).values()))
        kinds = {learns: {p.dtype for p in engine.model.parameters() if p.requires_grad is learns} for learns in (True, False)}
        assert kinds == {True: {torch.float32}, False: {engine.dtype}}, "what learns is fp32 in both, what is frozen is not"
    assert len(losses["bf16"]) == 6 and losses["bf16"][-1] < losses["bf16"][0] - 0.1
    assert 0 < np.abs(losses["bf16"] - losses["fp32"]).max() < 0.1


def losses_of(folder: Path) -> dict[int, float]:
    """The last loss that was logged for each step."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows if "loss" in row}


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.recipes.test_mllm_composer import SMALL, data_of, open_engine
from rankclip.training import mllm_composer, runs
from rankclip.types import Silent
class Slow(Silent):
    def advance(self, count=1):
        import time
        time.sleep(float(sys.argv[4]))
with runs.joined("cpu") as team:
    outcome = mllm_composer.train(open_engine(Path(sys.argv[1])), data_of(Path(sys.argv[2])), Path(sys.argv[3]), SMALL, team=team, progress=Slow())
    if team.leads:
        (Path(sys.argv[3]) / "learnt").write_bytes(outcome.files["adapter_model.safetensors"])
"""


def command(tmp_path: Path, *before: str) -> list[str]:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.format(root=str(Path(__file__).resolve().parents[2])))
    return [sys.executable, *before, str(script)]


@pytest.mark.slow
def test_kill_and_resume_equals_an_undisturbed_run(llava: Path, world: Path, tmp_path: Path) -> None:
    environment = subprocess_environment(OMP_NUM_THREADS="1")
    words = [*command(tmp_path), str(llava), str(world)]
    killed, log = tmp_path / "killed", tmp_path / "killed/log.jsonl"
    process = subprocess.Popen([*words, str(killed), "0.5"], env=environment)
    deadline = time.monotonic() + 300
    while not log.exists() or len(losses_of(killed)) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    reached = len(losses_of(killed))
    engine = open_engine(llava)
    whole = mllm_composer.train(engine, data_of(world), tmp_path / "whole", SMALL)
    resumed = mllm_composer.train(open_engine(llava), data_of(world), killed, SMALL)
    wanted = losses_of(tmp_path / "whole")
    assert 2 <= reached < len(wanted) == 6
    assert losses_of(killed) == wanted
    assert resumed.files["adapter_model.safetensors"] == whole.files["adapter_model.safetensors"]


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(llava: Path, world: Path, tmp_path: Path) -> None:
    words = command(
        tmp_path, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"
    )
    script = Path(words[-1])
    script.write_text(script.read_text().replace("SMALL, team", "SMALL_PLAIN, team").replace("import SMALL,", "import SMALL_PLAIN,"))
    subprocess.run([*words, str(llava), str(world), str(tmp_path / "two"), "0"], env=subprocess_environment(OMP_NUM_THREADS="1"), check=True, timeout=500)
    mllm_composer.train(open_engine(llava), data_of(world), tmp_path / "one", SMALL_PLAIN)
    one, two = losses_of(tmp_path / "one"), losses_of(tmp_path / "two")
    assert len(one) == 6 and one.keys() == two.keys()
    assert max(abs(one[step] - two[step]) for step in one) < 1e-4


def test_training_stops_when_validation_gets_no_better(llava: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = mllm_composer.measured, []

    def falling(*given: object) -> dict[str, np.ndarray]:
        calls.append(1)
        values = real(*given)  # type: ignore[arg-type]
        return {name: np.full_like(value, 1 / len(calls)) for name, value in values.items()}

    monkeypatch.setattr(mllm_composer, "measured", falling)
    mllm_composer.train(open_engine(llava), data_of(world), tmp_path / "run", Config(align_epochs=0, epochs=9, batch=32, part=32, patience=2))
    assert len(losses_of(tmp_path / "run")) == 3, "the best epoch and two that were no better"


def test_one_process_that_stops_early_stops_all(llava: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs.Team, "agree", lambda team, fine: False)  # another process has seen enough, this one has not
    outcome = mllm_composer.train(open_engine(llava), data_of(world, val=2), tmp_path / "run", SMALL)
    assert losses_of(tmp_path / "run") == {} and outcome.report["queries"] == 2


def test_what_cannot_be_learnt_or_tuned(llava: Path, world: Path, tmp_path: Path) -> None:
    engine, data = open_engine(llava), data_of(world)
    with pytest.raises(InputError, match="0 training triplets with captions"):
        mllm_composer.check(engine, Data(data.align, (), data.val, world))
    with pytest.raises(InputError, match="no validation triplet"):
        mllm_composer.check(engine, Data(data.align, data.change, (), world))
    engine.backbone.extra["adapter"] = "somewhere"
    with pytest.raises(ModelError, match="is tuned already"):
        mllm_composer.check(engine, data)


def test_settings_that_cannot_be_meant_are_told_at_once(llava: Path, world: Path) -> None:
    mllm_composer.check_settings(Config())
    assert mllm_composer.LEAST.keys() | {"rate", "temperature", "checkpointing", "merge", "seed"} == {one.name for one in fields(Config)}
    for name, least in mllm_composer.LEAST.items():
        with pytest.raises(InputError, match=f"{name} must be at least {least}"):
            mllm_composer.check_settings(replace(Config(), **{name: least - 1}))
    changes = {"part": "0", "rate": "nan", "temperature": "0", "dropout": "1", "epochs": "0", "align_epochs": "0"}
    job = mllm_job.MllmJob(FP32, Silent(), threading.Event(), str(llava), changes=changes)
    with pytest.raises(InputError) as caught:
        job.train(world / "triplets.jsonl", None)
    assert caught.value.message == ("--set: part must be at least 1, rate must be above 0, temperature must be above 0, dropout must be below 1, "
                                    "epochs or align_epochs must be above 0")  # fmt: skip


def test_every_setting_is_in_the_manual() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/mllm.md").read_text(encoding="utf-8")
    wanted = [f"| `{one.name}` | {str(one.default).lower()} |" for one in fields(Config)]
    assert len(wanted) == 18 and [row for row in wanted if row not in page] == []
