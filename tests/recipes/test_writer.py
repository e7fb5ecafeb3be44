"""A language model as the writer, played by a server on this machine that speaks the protocol, fails, and talks nonsense."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Run
from tests.recipes.test_difference import SMALL, captioned

from rankclip.errors import InputError, Interrupted, NetworkError
from rankclip.training import writer
from rankclip.training.writer import Endpoint, Question, cleaned
from rankclip.types import Silent

GOOD = "The first photo shows {a}, which is told here at some length, while the second photo shows {b} in much the same way."


class Model:
    """What the server answers, in order; the last one stays."""

    def __init__(self) -> None:
        self.answers: list[Any] = [None]  # None: a good sentence made of the captions
        self.asked: list[dict[str, Any]] = []
        self.headers: list[str] = []

    def next(self) -> Any:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, Model]]:
    model = Model()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            model.asked.append(body)
            model.headers.append(self.headers.get("Authorization", ""))
            assert self.path == "/v1/chat/completions"
            answer = model.next()
            if isinstance(answer, int):
                self.send_error(answer)
                return
            lines = body["messages"][0]["content"].splitlines()
            text = GOOD.format(a=lines[1].partition(": ")[2], b=lines[2].partition(": ")[2]) if answer is None else answer
            found = text if isinstance(text, bytes) else json.dumps({"choices": [{"message": {"content": text}}], "usage": {"total_tokens": 50}}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(found)

        def log_message(self, format: str, *args: object) -> None:
            pass

    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{found.server_port}/v1", model
    found.shutdown()
    found.server_close()


QUESTIONS = [Question(f"{i}.jpg", f"{i + 1}.jpg", f"caption number {i}", f"caption number {i + 1}") for i in range(5)]


def written(address: str, path: Path, **changes: Any) -> writer.Written:
    options = {"token_limit": 0, "cancel": threading.Event(), "progress": Silent(), **changes}
    return writer.write(Endpoint(address, "m", wait=0.01), QUESTIONS, path, **options)


def test_every_outcome_is_kept_and_nothing_is_asked_twice(server: tuple[str, Model], tmp_path: Path) -> None:
    address, model = server
    model.answers = [None, "I cannot say.", 500, None, None]
    found = written(address, tmp_path / "w.jsonl")
    assert (found.kept, found.dropped, found.tokens) == (4, 1, 250) and len(model.asked) == 6, "one was asked again after an error of the server"
    assert model.asked[0]["model"] == "m" and "caption number 0" in model.asked[0]["messages"][0]["content"] and "jpg" not in json.dumps(model.asked[0])
    rows = [json.loads(line) for line in (tmp_path / "w.jsonl").read_text().splitlines()]
    assert [("text" in row) for row in rows] == [True, False, True, True, True] and rows[1]["dropped"] == "I cannot say."
    assert written(address, tmp_path / "w.jsonl") == found and len(model.asked) == 6


def test_a_run_that_was_cut_goes_on(server: tuple[str, Model], tmp_path: Path) -> None:
    address, model = server
    path = tmp_path / "w.jsonl"
    model.answers = [None, None, 400]
    with pytest.raises(NetworkError, match="400"):
        written(address, path)
    assert len(path.read_text().splitlines()) == 2
    with path.open("a") as lines:
        lines.write('{"a": "2.jpg", "b"')  # killed in the middle of a line
    model.answers = [None]
    assert written(address, path).kept == 5
    stop = threading.Event()
    stop.set()
    path.write_text("\n".join(path.read_text().splitlines()[:1]) + "\n")
    with pytest.raises(Interrupted):
        written(address, path, cancel=stop)


def test_the_cost_is_limited_over_all_runs(server: tuple[str, Model], tmp_path: Path) -> None:
    address, model = server
    first = written(address, tmp_path / "w.jsonl", token_limit=100)
    again = written(address, tmp_path / "w.jsonl", token_limit=100)
    assert first.stopped and again.stopped and len(model.asked) == 2 and again.tokens == 100


def talk(connection: socket.socket) -> None:
    with connection:
        connection.recv(65_536)
        connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")


def test_an_endpoint_that_counts_no_tokens(server: tuple[str, Model], tmp_path: Path) -> None:
    address, model = server
    model.answers = [b'{"choices": [{"message": {"content": "no"}}], "usage": null}', b'{"choices": [{"message": {"content": "no"}}]}']
    assert (written(address, tmp_path / "w.jsonl").dropped, len(model.asked)) == (5, 5)


def test_an_endpoint_that_is_down_or_talks_nonsense(server: tuple[str, Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address, model = server
    with pytest.raises(NetworkError, match="no answer after 4 tries"):
        written("http://127.0.0.1:9/v1", tmp_path / "a.jsonl")
    with socket.create_server(("127.0.0.1", 0)) as other:  # it listens, and speaks no HTTP
        threading.Thread(target=lambda: [talk(other.accept()[0]) for _ in range(writer.TRIES)], daemon=True).start()
        with pytest.raises(NetworkError, match="no answer after 4 tries"):
            written(f"http://127.0.0.1:{other.getsockname()[1]}/v1", tmp_path / "a.jsonl")
    for nonsense in (b"<html>", b"{}", b'{"choices": []}', b"[1]", b'{"choices": [{"message": {"content": "x"}}], "usage": 3}'):
        model.answers, model.asked = [nonsense], []
        with pytest.raises(NetworkError, match="no answer after 4 tries"):
            written(address, tmp_path / "b.jsonl")
        assert len(model.asked) == writer.TRIES
    monkeypatch.setenv("RANKCLIP_WRITER_KEY", "k")
    model.answers = [401]
    with pytest.raises(NetworkError, match="401"):
        written(address, tmp_path / "c.jsonl")
    assert model.headers[-1] == "Bearer k"


LONG = "The first photo shows two dogs on a beach, while the second one shows a cat in a kitchen."


@pytest.mark.parametrize(("text", "wanted"), [
    (LONG, LONG), (f"A: {LONG}\nQ: what else?", LONG), (f"#1: {LONG} #2: more", LONG), (f"{LONG} I hope this helps!", LONG), (f". {LONG}\n\tNote that", LONG),
    ("Too short.", None), (f"\n\n\n{LONG}", None), (f"#include {LONG}", None), (f"{LONG} <br>", None), (f"{LONG} !!!!!!!!!!", None), (f"{LONG} th th th th th th th", None),
    (f"* {LONG}", None), (f"Description: {LONG}", None), (LONG.replace("cat", "c\u00e4t"), None), (f"{LONG} 100% of the time", None), ("", None),
])  # fmt: skip
def test_filters(text: str, wanted: str | None) -> None:
    assert cleaned(text) == wanted


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "w.jsonl").write_text('{"a": 1\n{"a": "x", "b": "y", "tokens": 1}\n')
    with pytest.raises(InputError, match="line 1"):
        list(writer.read(tmp_path / "w.jsonl"))


def test_training_on_what_a_model_wrote(run: Run, server: tuple[str, Model], tmp_path: Path) -> None:
    address, model = server
    file = captioned(tmp_path / "boxes")
    words = (
        "finetune",
        "difference",
        "--captions",
        file,
        "--writer",
        address,
        "--writer-model",
        "m",
        "--writer-pairs",
        30,
        "--run",
        tmp_path / "r",
        *SMALL,
        "-q",
    )
    found = run(*words)
    assert found.code == 0 and "sign accuracy" in found.text, found.err
    asked = len(model.asked)
    assert asked >= 25 and (tmp_path / "r" / "written.m.jsonl").exists()
    assert run(*words).code == 0 and len(model.asked) == asked
    model.answers = ["nonsense"]
    found = run(*words[:-1], "--run", tmp_path / "r2", "-q")
    assert found.code == 4 and "none of the" in found.err
