"""The adapter's recipe learns what was planted, handles ties, negatives and groups, and takes over released checkpoints."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
import torch
from tests.recipes import planted

from rankclip.errors import InputError, ModelError
from rankclip.evaluation import ranking as metrics
from rankclip.heads.adapter import mixed
from rankclip.heads.kernel import Kernel, mean, read_bytes, similarity, to_bytes
from rankclip.training import adapter, kernels, released
from rankclip.training.adapter import Config
from rankclip.training.models.adapter import AdapterFull, LossConfig
from rankclip.training.models.adapter import Config as ModelConfig
from rankclip.training.scorer import graph_scores
from rankclip.training.tasks import TRAIN, VAL, Data, Drops, TaskData, content_groups, make_task, split_by_group

FULL = Config(
    width=32,
    epochs=8,
    steps_an_epoch=40,
    batch=32,
    prompts=4,
    pooled=False,
    facts=False,
    warmup=10,
    rate=3e-3,
    noise=0.0,
    keep_patches=1.0,
    average=0.9,
    dropout=0.0,
)
LITE = dataclasses.replace(FULL, size="lite", width=64, epochs=10, steps_an_epoch=60)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def held_out(outcome: adapter.Outcome, data: Data, one: TaskData) -> float:
    valid = one.of(VAL)
    return metrics.srcc(one.values[valid], graph_scores(outcome.graph, data, one.rows[valid], one.task.instruction))


@pytest.mark.parametrize(
    ("pair", "weights"), [(False, LossConfig(regression=1.0)), (True, LossConfig(regression=0.02))], ids=["regression only", "nearly only pairs"]
)
def test_either_loss_learns(tmp_path: Path, pair: bool, weights: LossConfig) -> None:
    data, _ = planted.counting(size=360, patches=6, texts=1)
    outcome = adapter.train(data, tmp_path, dataclasses.replace(FULL, epochs=5, pair=pair), loss_config=weights)
    assert held_out(outcome, data, data.tasks[0]) >= 0.85


def test_lite_learns_an_axis_for_each_instruction(tmp_path: Path) -> None:
    data = planted.axes(size=600)
    outcome = adapter.train(data, tmp_path, LITE)
    assert min(held_out(outcome, data, one) for one in data.tasks) >= 0.9
    one, other = data.tasks[0], data.tasks[1]
    valid = one.of(VAL)
    assert abs(metrics.srcc(one.values[valid], graph_scores(outcome.graph, data, one.rows[valid], other.task.instruction))) < 0.7, (
        "another instruction, another order"
    )


def test_intervals_hold_four_fifths(tmp_path: Path) -> None:
    data = planted.axes(size=1_200, texts=1)
    rng = np.random.default_rng(3)
    one = data.tasks[0]
    one.values[:] = one.values + 0.15 * rng.normal(size=len(one.values))
    data.tasks[0] = planted.task("text 0", one.rows, one.values)
    outcome = adapter.train(data, tmp_path, LITE)
    assert 0.7 <= outcome.report["text 0"]["coverage"] <= 0.9


def test_batches_are_flat_in_value_and_hold_their_share_of_zeros() -> None:
    rng = np.random.default_rng(0)
    values = np.r_[np.zeros(300), np.ones(100), rng.integers(2, 30, 40)].astype(float)
    made = make_task("number of things", "number of things", values, log2=True)
    one = TaskData(made, np.arange(len(values)), values, np.zeros(len(values), np.int8))
    drawn = np.concatenate([values[adapter.draw(one, Config(batch=40), np.random.default_rng(seed))] for seed in range(60)])
    assert np.mean(drawn == 0) == pytest.approx(0.2, abs=0.05)
    assert np.mean(drawn >= 8) > 0.2, "rare large counts are drawn often"
    again = adapter.draw(one, Config(batch=40), np.random.default_rng(1))
    assert np.array_equal(again, adapter.draw(one, Config(batch=40), np.random.default_rng(1))) and len(set(again.tolist())) == 40


def test_copies_never_straddle_the_split() -> None:
    rng = np.random.default_rng(0)
    base = planted.unit(rng.normal(size=(100, 16)))
    pooled = np.concatenate([base, base + 1e-3, planted.unit(rng.normal(size=(50, 16)))]).astype(np.float32)
    groups = content_groups(planted.unit(pooled), np.arange(len(pooled)))
    split = split_by_group(groups, Config())
    assert np.array_equal(split[:100], split[100:200]) and len(np.unique(groups)) == 150
    shares = [float(np.mean(split == part)) for part in range(3)]
    assert shares == pytest.approx([0.7, 0.15, 0.15], abs=0.05)


@pytest.mark.parametrize(("values", "message"), [(np.ones(50), "all 50 labels are 1"), (np.arange(9.0), "9 labelled photos")])
def test_labels_that_teach_nothing_are_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_task("x", "x", values)


def their_names(model: AdapterFull) -> dict[str, torch.Tensor]:
    """A checkpoint of the released shape, by their names: written from the list of their modules, not from our mapping."""
    found, width = {}, model.config.width
    shapes = {"attn.in_proj_weight": (3 * width, width), "attn.in_proj_bias": (3 * width,), "attn.out_proj.weight": (width, width), "attn.out_proj.bias": (width,),
              "mlp.c_fc.weight": (4 * width, width), "mlp.c_fc.bias": (4 * width,), "mlp.c_proj.weight": (width, 4 * width), "mlp.c_proj.bias": (width,)}  # fmt: skip
    norms = {"resblocks": ("ln_1", "ln_2"), "cross_attn": ("ln_1", "ln_1_kv", "ln_2")}
    for stack, names in norms.items():
        for layer in range(2):
            start = f"crossmodal_block.{stack}.{layer}."
            found |= {start + name: torch.randn(shape) for name, shape in shapes.items()}
            found |= {f"{start}{name}.{leaf}": torch.randn(width) for name in names for leaf in ("weight", "bias")}
    found |= {"crossmodal_block.text_projection": torch.randn(width, width), "learnable_text_tokens": torch.randn(1, 32), "reg_tokens": torch.randn(16, width)}
    post = torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(width, 8, width, 0.1, batch_first=True), 2)
    found |= {f"post_fuse_block.{name}": value for name, value in post.state_dict().items()}
    linear = {name: width for name in ("reg_token_pooler.q_proj", "reg_token_pooler.kv_proj", "reg_token_pooler.out_proj")}
    linear |= {f"pair_regressor.pre_linear_block.{n}": width for n in (1, 4, 7)} | {f"regressor.pre_linear_block.{n}": width for n in (0, 3)}
    linear |= {"pair_regressor.output_head": 1, "regressor.output_head": 1}
    for name, out in linear.items():
        found |= {f"{name}.weight": torch.randn(out, width), f"{name}.bias": torch.randn(out)}
    layer_norms = ["crossmodal_block.ln_final", "reg_ln", "reg_token_pooler.ln_q", "reg_token_pooler.ln_kv"]
    layer_norms += [f"pair_regressor.pre_linear_block.{n}" for n in (0, 2, 5, 8)] + [f"regressor.pre_linear_block.{n}" for n in (1, 4)]
    return found | {f"{name}.{leaf}": torch.randn(width) for name in layer_norms for leaf in ("weight", "bias")}


def test_released_checkpoints_are_taken_over(tmp_path: Path) -> None:
    theirs = their_names(AdapterFull(ModelConfig.released(64)))
    path = tmp_path / "epoch.pt"
    torch.save({"epoch": 3, "state_dict": {"module.visual.proj": torch.zeros(2), **{f"module.adapter.{name}": value for name, value in theirs.items()}}}, path)
    model = released.read(path)
    assert sum(value.numel() for value in theirs.values()) == sum(value.numel() for value in model.parameters())
    query = theirs["crossmodal_block.cross_attn.1.attn.in_proj_weight"][:64]
    assert torch.equal(model.fusion.crosses[1].attention.query.weight, query)
    layer = torch.nn.MultiheadAttention(64, 8, batch_first=True)
    layer.load_state_dict({name: theirs[f"crossmodal_block.resblocks.0.attn.{name}"] for name in layer.state_dict()})
    x = torch.randn(2, 5, 64)
    assert torch.allclose(layer(x, x, x, need_weights=False)[0], model.fusion.selves[0].attention(x, x), atol=1e-3), "our attention is torch's"
    with pytest.raises(ModelError, match="no adapter"):
        released.convert({"visual.proj": torch.zeros(2)})
    with pytest.raises(ModelError, match="has no place"):
        released.convert({"adapter.reg_token_pooler.extra": torch.zeros(2)})


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"
    torch.save({"state_dict": Path}, path)
    with pytest.raises(ModelError, match="weights only"):
        released.read(path)


def test_training_only_sees_its_split() -> None:
    data = planted.axes(size=300, texts=1)
    one = data.tasks[0]
    drawn = np.concatenate([adapter.draw(one, FULL, np.random.default_rng(seed)) for seed in range(50)])
    assert set(one.split[drawn].tolist()) == {TRAIN}


def facts_and_labels() -> tuple[TaskData, np.ndarray, np.ndarray]:
    """A task whose values are half in the embedding, half in the logarithm of a pixel fact."""
    rng = np.random.default_rng(2)
    pooled, facts = planted.unit(rng.normal(size=(300, 16))), rng.lognormal(-3, 1, size=(300, 7)).astype(np.float32)
    values = 4 * pooled[:, 0] + np.log10(facts[:, 6])
    return planted.task("text", np.arange(300), values.astype(float)), pooled, facts


def test_the_kernel_regression_reads_embedding_and_facts() -> None:
    one, pooled, facts = facts_and_labels()
    valid = one.of(VAL)
    kernel = kernels.fit(one, pooled, facts)
    assert kernel.fact_weight > 0 and metrics.srcc(one.values[valid], kernel.scores(pooled, facts)[valid]) > 0.95
    assert np.isfinite(kernel.scores(pooled, np.full_like(facts, np.nan))).all(), "a photo without facts has a score"
    without = kernels.fit(one, pooled, np.full_like(facts, np.nan))
    assert without.fact_weight == 0 and metrics.srcc(one.values[valid], without.scores(pooled, facts)[valid]) < 0.9
    again = read_bytes(to_bytes({"a": kernel, "a/b": without}))
    assert np.array_equal(again["a"].scores(pooled, facts), kernel.scores(pooled, facts)) and again["a/b"].fact_weight == 0


def test_the_kernel_regression_reads_inner_stages() -> None:
    one, pooled, facts = facts_and_labels()
    stages = np.random.default_rng(5).normal(size=(300, 20)).astype(np.float32)
    one.values = one.values + 2 * stages[:, 3]
    every, valid = np.concatenate([facts, stages], axis=1), one.of(VAL)
    kernel = kernels.fit(one, pooled, every)
    assert kernel.stage_weight > 0 and metrics.srcc(one.values[valid], kernel.scores(pooled, every)[valid]) > 0.9
    blind = kernels.fit(one, pooled, facts)
    assert blind.stage_weight == 0 and metrics.srcc(one.values[valid], blind.scores(pooled, every)[valid]) < 0.85
    unknown = kernel.scores(pooled, facts)
    assert np.isfinite(unknown).all(), "a photo that was embedded before there were stages has a score"
    assert np.allclose(unknown, kernel.scores(pooled, np.concatenate([facts, np.full_like(stages, np.nan)], axis=1)))
    assert np.array_equal(read_bytes(to_bytes({"a": kernel}))["a"].scores(pooled, every), kernel.scores(pooled, every))


def test_regressions_add_up() -> None:
    one, pooled, facts = facts_and_labels()
    kernel, blind = kernels.fit(one, pooled, facts), kernels.fit(one, pooled, np.full_like(facts, np.nan))
    both = mean((0.3, kernel), (0.7, blind))
    assert np.allclose(both.scores(pooled, facts), 0.3 * kernel.scores(pooled, facts) + 0.7 * blind.scores(pooled, facts), atol=1e-5)
    again = read_bytes(to_bytes({"a": both, "b": kernel}))
    assert np.array_equal(again["a"].scores(pooled, facts), both.scores(pooled, facts)) and isinstance(again["b"], Kernel)


def test_a_kernel_of_before_there_were_stages_is_read() -> None:
    one, pooled, facts = facts_and_labels()
    kernel = kernels.fit(one, pooled, facts)
    with np.load(io.BytesIO(to_bytes({"a": kernel}))) as found:
        kept = {name: found[name] for name in found.files if "stage" not in name}
    old = io.BytesIO()
    np.savez(old, **kept)
    assert np.array_equal(read_bytes(old.getvalue())["a"].scores(pooled, facts), kernel.scores(pooled, facts))


def test_the_kernel_regression_is_that_of_the_book_where_all_photos_are_centres() -> None:
    one, pooled, facts = facts_and_labels()
    kernel = kernels.fit(one, pooled, np.full_like(facts, np.nan))
    centres, train = (kernel.centres * kernel.steps).astype(np.float64), one.of(TRAIN)
    assert len(centres) == len(train)
    gram, wanted = similarity(centres, centres, kernel.gamma, kernel.linear), one.task.standardised(one.values)
    by_hand = [kernel.bias + similarity(pooled.astype(np.float64), centres, kernel.gamma, kernel.linear)
               @ np.linalg.solve(gram + strength * np.eye(len(train)), wanted[train] - kernel.bias) for strength in kernels.STRENGTHS]  # fmt: skip
    assert min(float(np.abs(kernel.scores(pooled, facts) - each).max()) for each in by_hand) < 0.02, "but for eight bits of the centres"


def test_differences_teach_what_no_label_says() -> None:
    one, pooled, facts = facts_and_labels()
    faulty = facts.copy()
    faulty[:, 0] += 0.5  # a fault that the labels know nothing of, and that no labelled photo has
    both, seen = TaskData(one.task, np.arange(600), np.tile(one.values, 2), np.r_[one.split, np.full(300, VAL + 9)]), one.of(TRAIN)
    both.groups = np.tile(np.arange(300), 2)
    every = (np.tile(pooled, (2, 1)), np.concatenate([facts, faulty]))
    before = kernels.fit(both, *every).scores(*every)
    both.drops = Drops(seen, seen + 300, np.full(len(seen), 0.5), np.ones(len(seen)))
    after = kernels.fit(both, *every).scores(*every)
    unseen = one.of(VAL)
    assert np.mean(after[unseen] > after[unseen + 300]) > 0.95 > np.mean(before[unseen] > before[unseen + 300]) + 0.2
    assert metrics.srcc(one.values[unseen], after[unseen]) > 0.9, "the labels are still learnt"


def test_things_that_are_counted_in_the_same_photos_help_each_other() -> None:
    rng = np.random.default_rng(4)
    pooled = planted.unit(rng.normal(size=(240, 16)))
    crowded = np.exp2(2 + 6 * pooled[:, 0])  # every photo has its crowd; which thing there is, nothing tells
    names = [f"number-of-{thing}" for thing in ("cups", "bowls", "cars", "trucks", "lamps", "books")]
    tasks = []
    for name in names:
        values = np.where(rng.random(240) < 0.2, np.rint(crowded), 0)
        made = dataclasses.replace(make_task(name, f"Rank the {name}", values, log2=True), median=1.0, spread=1.5)
        tasks.append(TaskData(made, np.arange(240), values, planted.thirds(240)))
    features = planted.table(rng.normal(size=(240, 2, 4)).astype(np.float32), pooled)
    together = kernels.fit_counts(tasks, features)
    assert list(together) == names

    def reached(found: dict[str, Kernel]) -> float:
        held = [(one, np.flatnonzero((one.split != TRAIN) & (one.values > 0))) for one in tasks]
        return float(np.mean([metrics.srcc(one.values[some], found[one.task.name].scores(pooled[some], features.facts[some])) for one, some in held]))

    apart = {one.task.name: kernels.fit_counts([one], features)[one.task.name] for one in tasks}
    assert reached(together) > reached(apart) + 0.1, "few photos hold a thing"
    again = read_bytes(to_bytes(together))
    assert all(np.array_equal(again[name].centres, together[name].centres) for name in names)
    assert len(to_bytes(together)) < len(to_bytes({names[0]: together[names[0]]})) + 5 * 12_000, "the photos are written once"


def test_the_mix_takes_the_part_that_knows() -> None:
    one, pooled, facts = facts_and_labels()
    truth, noise = one.task.standardised(one.values), np.random.default_rng(3).normal(size=300).astype(np.float32)
    assert kernels.share_of_network(one, noise, truth) <= 0.1 and kernels.share_of_network(one, truth, noise) >= 0.9
    same = dataclasses.replace(one, values=np.ones(300))
    assert 0 <= kernels.share_of_network(same, truth, noise) <= 1, "validation labels that are all the same prefer nothing"


def test_a_trained_head_has_its_kernel_regression(tmp_path: Path) -> None:
    data = planted.axes(size=300, texts=1)
    outcome = adapter.train(data, tmp_path, dataclasses.replace(LITE, epochs=1, steps_an_epoch=5))
    found, beside = outcome.report["text 0"], outcome.kernels["text 0"]
    assert found["share of the network"] == outcome.tasks[0].share < 0.5, "five steps teach the network nothing"
    valid = data.tasks[0].of(VAL)
    scores = mixed(
        graph_scores(outcome.graph, data, valid, "text 0"), beside.scores(data.features.pooled[valid], data.features.facts[valid]), outcome.tasks[0].share
    )
    assert metrics.srcc(data.tasks[0].values[valid], scores) == pytest.approx(found["SRCC"]["value"], abs=2e-3) and found["SRCC"]["value"] > 0.9
