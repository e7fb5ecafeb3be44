"""`finetune composer` from triplets and from captions with the toy backbone; the head that comes out is searched with."""

import json
import signal
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from PIL import Image
from tests.conftest import Run, rankclip_command, square, subprocess_environment

from rankclip.training.composer_gather import split_of

COLOURS = {"red": (220, 30, 30), "green": (40, 160, 50), "blue": (30, 60, 210), "yellow": (240, 230, 40), "purple": (130, 40, 170), "black": (8, 8, 8)}
SMALL = ("--set", "width=16", "--set", "layers=1", "--set", "queries=2", "--set", "heads=2", "--set", "batch=32", "--set", "align_epochs=1", "--set", "epochs=4",
         "--set", "rate=3e-3", "--set", "mined=1")  # fmt: skip


@pytest.fixture
def triplets(tmp_path: Path) -> Path:
    """Squares with a stripe: the instruction changes the square's colour and leaves the stripe."""
    lines = []
    for one, colour in COLOURS.items():
        for stripe, other in COLOURS.items():
            if one != stripe:
                path = tmp_path / "photos" / f"{one}-{stripe}.png"
                square(path, colour)
                with Image.open(path) as picture:
                    picture.paste(other, (0, 0, 48, 6))
                    picture.save(path)
                lines += [{"reference": path.name, "instruction": f"{new} instead of {one}", "target": f"{new}-{stripe}.png", "caption": f"{new} with a {stripe} stripe",
                           "original": f"{one} with a {stripe} stripe", "split": "val" if stripe == "black" else "train"}
                          for new in COLOURS if new not in (one, stripe)]  # fmt: skip
    found = tmp_path / "photos" / "triplets.jsonl"
    found.write_text("\n".join(map(json.dumps, lines)))
    return found


def test_from_triplets_to_a_search(run: Run, triplets: Path, tmp_path: Path) -> None:
    found = run("finetune", "composer", "--data", triplets, "--name", "stripes", "--run", "run", "--kind", "transformer", *SMALL)
    assert found.code == 0, found.err
    assert found.lines[0].startswith("stage 1: 25 photos with captions; stage 2: 100 triplets to train, 20 to validate")
    names = [line.split(" (")[0].split(":")[0] for line in found.lines[1:7]]
    assert names == ["photo only", "text only", "sum", "slerp", "product", "head"], "what needs no training comes first"
    assert "head stripes is in" in found.err and (tmp_path / "run" / "log.jsonl").exists()
    searched = run("compose-search", "photos", "photos/red-black.png", "blue instead of red", "--explain", "--top", 3)
    assert searched.code == 0 and "method:     head, because a trained composer fits this model" in searched.err and "head:       stripes" in searched.err
    assert len(searched.lines) == 3
    same = run("compose-search", "photos", "photos/red-black.png", "the same", "--json")
    assert [one["score"] for one in map(json.loads, same.lines)] == [one["photo_cosine"] for one in map(json.loads, same.lines)], "no change is image search"
    listed = run("models", "list")
    assert listed.code == 0
    again = run("finetune", "composer", "--data", triplets, "--name", "stripes", "--run", "run", "--kind", "transformer", *SMALL, "--set", "epochs=5")
    assert again.code == 2 and "holds a run with other settings" in again.err


def test_a_head_of_another_model_is_refused(run: Run, triplets: Path, tmp_path: Path) -> None:
    assert run("finetune", "composer", "--data", triplets, "--output", "pack", "--run", "run", *SMALL, "--kind", "combiner").code == 0
    card = json.loads((tmp_path / "pack" / "card.json").read_text())
    assert card["kind"] == "composer" and card["config"]["patches"] == 0 and card["figures"]["queries"] == 20
    card["space"], card["backbone"] = "0123456789abcdef", "other"
    (tmp_path / "pack" / "card.json").write_text(json.dumps(card))
    found = run("compose-search", "photos", "photos/red-black.png", "blue", "--head", "./pack")
    assert found.code == 6 and "was made for other" in found.err


def test_a_damaged_head_is_named(run: Run, triplets: Path, tmp_path: Path) -> None:
    assert run("finetune", "composer", "--data", triplets, "--output", "pack", "--run", "run", *SMALL, "--kind", "flow").code == 0
    (tmp_path / "pack" / "head.onnx").write_bytes(b"nothing")
    found = run("compose-search", "photos", "photos/red-black.png", "blue", "--head", "./pack")
    assert found.code == 6 and "sha256 differs" in found.err


def test_killed_and_started_again_it_ends_with_the_same_head(run: Run, triplets: Path, tmp_path: Path) -> None:
    words = ("finetune", "composer", "--data", triplets, *SMALL, "--set", "epochs=30", "--set", "patience=30", "--quiet")
    process = subprocess.Popen(rankclip_command(*words, "--run", "killed", "--output", "killed-pack"), env=subprocess_environment())
    log, began = tmp_path / "killed/log.jsonl", time.monotonic()
    while not (log.exists() and log.read_text().count('"stage"') >= 5) and time.monotonic() - began < 60:
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL and not (tmp_path / "killed-pack").exists()
    for name in ("killed", "whole"):
        assert run(*words, "--run", name, "--output", f"{name}-pack").code == 0
    assert (tmp_path / "killed-pack/head.onnx").read_bytes() == (tmp_path / "whole-pack/head.onnx").read_bytes()
    starts = [row["epoch"] for row in map(json.loads, log.read_text().splitlines()) if row.get("event") == "start"]
    assert len(starts) == 2 and starts[0] == 0 and starts[1] >= 4, "it went on, it did not begin again"


def test_a_dry_run_trains_nothing(run: Run, triplets: Path, tmp_path: Path) -> None:
    found = run("finetune", "composer", "--data", triplets, "--dry-run")
    assert found.code == 0 and found.lines[-1].startswith("model: combiner, ") and not (tmp_path / "run").exists()


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    things = {"dog": (120, 70, 30), "cat": (128, 128, 128), "ball": (240, 140, 20)}
    lines = []
    for number in range(60):
        thing, colour = list(things)[number % 3], list(COLOURS)[number % 6]
        square(tmp_path / "more" / f"{number:02}.png", COLOURS[colour])
        lines.append({"path": f"{number:02}.png", "captions": [f"{'two' if number % 2 else 'a'} {colour} {thing}{'s' if number % 2 else ''} on a beach ."]})
    path = tmp_path / "more" / "captions.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_from_captions_alone(run: Run, captions: Path) -> None:
    found = run("finetune", "composer", "--captions", captions, "--run", "run", *SMALL, "--kind", "combiner")
    assert found.code == 0, found.err
    assert "triplets to train" in found.lines[0] and int(found.lines[0].split("stage 2: ")[1].split()[0]) > 20


class Writer(BaseHTTPRequestHandler):
    """Stands in for a language model: turns everything blue."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][0]["content"]
        caption = asked.split("sentence: ")[1].split("\n")[0]
        answer = {"instruction": "make it blue", "modified_caption": caption.replace("red", "blue").replace("green", "blue"), "keeps": [], "removes": []}
        body = json.dumps({"choices": [{"message": {"content": f"Sure! {json.dumps(answer)}"}}], "usage": {"total_tokens": 50}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None: ...


def test_a_language_model_writes_instructions(run: Run, captions: Path, tmp_path: Path) -> None:
    server = HTTPServer(("127.0.0.1", 0), Writer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    words = ("finetune", "composer", "--captions", captions, "--run", "run", "--writer", f"http://127.0.0.1:{server.server_port}/v1", "--writer-model", "echo")
    found = run(*words, *SMALL, "--kind", "combiner")
    server.shutdown()
    server.server_close()
    assert found.code == 0, found.err
    rows = [json.loads(line) for line in (tmp_path / "run" / "written.jsonl").read_text().splitlines()]
    kept = [row for row in rows if "caption" in row]
    assert 10 <= len(kept) < len(rows), "captions without red or green were not changed, so those answers are dropped"
    assert all(row["instruction"] == "make it blue" and "blue" in row["caption"] for row in kept)
    assert all(split_of(row["reference"], "") == "train" for row in rows)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "give --data FILE, --captions FILE, or both"),
        (["--data", "gone.jsonl"], 2, "gone.jsonl: No such file"),
        (["--data", "photos/triplets.jsonl", "--set", "epoch=3"], 2, "unknown setting 'epoch'"),
        (["--data", "photos/triplets.jsonl", "--name", "No Name"], 2, "cannot name a head"),
        (["--data", "photos/triplets.jsonl", "--kind", "mamba"], 2, "unknown kind 'mamba'"),
        (["--data", "photos/triplets.jsonl", "--images", "elsewhere"], 2, "none of the photos is below elsewhere"),
        (["--data", "photos/triplets.jsonl", "--writer", "http://127.0.0.1:1"], 2, "--writer goes with"),
        (["--data", "bad.jsonl"], 2, "bad.jsonl, line 1: not JSON"),
        (["--captions", "bad.jsonl"], 2, "bad.jsonl, line 1: expected path and captions"),
    ],
)
def test_mistakes_are_named(run: Run, triplets: Path, tmp_path: Path, words: list[str], code: int, message: str) -> None:
    (tmp_path / "bad.jsonl").write_text("{oops\n")
    found = run("finetune", "composer", *words)
    assert found.code == code and message.lower() in found.err.lower(), found.err
