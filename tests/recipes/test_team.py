"""Each recipe under torchrun with two processes: the same weights in both, one pack, one log, one voice."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import COLOURS, ROOT, square, subprocess_environment

from rankclip.heads import packs

torch = pytest.importorskip("torch")
SCRIPT = ROOT / "tests" / "recipes" / "team_script.py"
TINY = ("epochs=2", "batch=8")
RECIPES = {
    "adapter": ("--data", "labels.csv", "--instruction", "sort by redness", *(f"--set={one}" for one in (*TINY, "width=16", "steps_an_epoch=4", "prompts=2"))),
    "composer": (
        "--data",
        "triplets.jsonl",
        "--kind",
        "transformer",
        *(f"--set={one}" for one in (*TINY, "width=16", "layers=1", "queries=2", "heads=2", "align_epochs=1")),
    ),
    "difference": ("--captions", "captions.jsonl", *(f"--set={one}" for one in (*TINY, "pairs=60", "rare=60", "loss=mse", "rate=1e-2"))),
}


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Forty boxes in five colours, and one file for each recipe."""
    rng, rows = np.random.default_rng(0), []
    for number in range(40):
        name = list(COLOURS)[number % 5]
        shade = tuple(int(np.clip(value + rng.integers(-40, 40), 0, 255)) for value in COLOURS[name])
        square(tmp_path / "photos" / f"{number}.png", shade, (40 + number % 7, 30))  # type: ignore[arg-type]
        rows.append((f"photos/{number}.png", name, shade[0], "val" if number % 4 == 0 else "train"))
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "value"), *((path, red) for path, _, red, _ in rows)])
    captions = [{"path": path, "captions": [f"a {name} box on a table"], "split": split} for path, name, _, split in rows]
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, captions)))
    triplets = [{"reference": path, "instruction": f"{rows[(i + 1) % 40][1]} instead of {name}", "target": rows[(i + 1) % 40][0], "caption": f"a {rows[(i + 1) % 40][1]} box",
                 "original": f"a {name} box", "split": split} for i, (path, name, _, split) in enumerate(rows)]  # fmt: skip
    (tmp_path / "triplets.jsonl").write_text("\n".join(map(json.dumps, triplets)))
    return tmp_path


def finetune(world: Path, recipe: str, team: str, *launcher: str) -> subprocess.CompletedProcess[str]:
    (world / team).mkdir()
    environment = subprocess_environment(TEAM=str(world / team), RANKCLIP_ENGINE="toy", RANKCLIP_STORE=str(world / team / "store"), OMP_NUM_THREADS="1", PYTHONWARNINGS="ignore",
                                         GLOO_SOCKET_IFNAME="lo", TORCH_CPP_LOG_LEVEL="ERROR")  # fmt: skip
    words = [sys.executable, *launcher, str(SCRIPT), "finetune", recipe, *RECIPES[recipe], "--name", team, "--run", f"{team}/run", "--device", "cpu", "--quiet"]
    return subprocess.run(words, cwd=world, env=environment, capture_output=True, text=True, timeout=900)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_two_processes_train_one_head(world: Path, recipe: str) -> None:
    done = finetune(world, recipe, "two", "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", "2", "--")
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = ((world / "two" / str(rank)).read_bytes() for rank in range(2))
    assert first == second and len(first) > 100, "both processes hold the same weights"
    pack = packs.find("two")
    if recipe == "difference":
        with np.load(pack.file("head.npz")) as found:
            assert np.array_equal(found["matrix"], np.frombuffer(first, np.float32, count=256).reshape(16, 16).astype(np.float16))
    else:
        assert pack.file("head.onnx").read_bytes() == first
    rows = [json.loads(line) for line in (world / "two" / "run" / "log.jsonl").read_text().splitlines()]
    epochs = [(row.get("stage"), row["epoch"]) for row in rows if "loss" in row]
    assert len(epochs) == len(set(epochs)) >= 2, "one process writes the log"
    lines = done.stdout.splitlines()
    assert lines and len(lines) == len(set(lines)), "one process speaks"
    if recipe == "difference":  # its loss is a mean over the batch, so two halves give what the whole gives
        assert finetune(world, recipe, "one").returncode == 0
        both, alone = (torch.load(world / team / "run" / "last.pt", weights_only=True) for team in ("two", "one"))
        assert both["optimiser"]["state"][0]["step"] >= 4 and torch.allclose(both["model"]["weight"], alone["model"]["weight"], atol=1e-5)
