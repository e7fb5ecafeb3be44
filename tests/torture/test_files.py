"""666 awkward files in one run: each behaves as its row says. And awkward names: indexed, printed without loss, escaped where a person reads."""

import base64
import json
import os
import subprocess
import tarfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tests.cli.test_terminal import on_terminal
from tests.conftest import ROOT, Run, noise_photo, rankclip_command, subprocess_environment
from tests.torture.footprint import MIB, Peak

from rankclip.backbones.specs import find
from rankclip.engines.toy import ToyEngine
from rankclip.formats.base import printable
from rankclip.photos.decode import DecodeOptions, decode
from rankclip.photos.discover import CLUTTER
from rankclip.photos.sniff import EXTENSIONS, RAW_EXTENSIONS, extension
from rankclip.registry import available
from rankclip.settings import Settings
from rankclip.store.store import Store

DATA = ROOT.parent / "shared/data"
CAP = 450 * MIB  # PSS of the whole process tree: ours and two workers
BATCH = 32
RAW = available("rawpy")


@dataclass
class Outcome:
    """One run of `embed --hidden` over all files."""

    folder: Path
    store: Path
    code: int
    lines: list[str]
    peak: Peak

    def read(self) -> dict[str, tuple[int, int, int]]:
        """path -> width, height, content, for the files that could be read."""
        found: dict[str, tuple[int, int, int]] = {}
        with Store.open(self.store) as store:
            folders = store.catalogue.folders()
            for number, name, content in store.catalogue.readable_files():
                facts = store.catalogue.facts([content])[content]
                path = os.path.relpath(f"{folders[number]}/{os.fsdecode(name)}", self.folder)
                found[path] = (facts.width, facts.height, content)
        return found


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    if not (DATA / "torture.tar").exists():
        pytest.skip("needs ../shared/data/torture.tar")
    folder, store = tmp_path_factory.mktemp("awkward"), tmp_path_factory.mktemp("store")
    with tarfile.open(DATA / "torture.tar") as archive:
        archive.extractall(folder, filter="data")
    environment = subprocess_environment(RANKCLIP_ENGINE="toy", RANKCLIP_STORE=str(store), RANKCLIP_WORKERS="2")
    words = rankclip_command("embed", "torture", "--hidden", "--batch-size", BATCH)
    process = subprocess.Popen(words, cwd=folder, env=environment, stderr=subprocess.PIPE)
    with Peak(process) as peak:
        error = process.communicate(timeout=300)[1]
    return Outcome(folder, store, process.returncode, error.decode().splitlines(), peak)


def rows() -> list[dict[str, object]]:
    return [json.loads(line) for line in (DATA / "torture.jsonl").read_text().splitlines()]


def named(outcome: Outcome, path: str) -> str:
    """The reason that stderr gives for a file, empty where it is not named."""
    start = f"rankclip: {printable(path)}: "
    found = [line.removeprefix(start) for line in outcome.lines if line.startswith(start)]
    assert len(found) <= 1, f"named once: {path}"
    return found[0] if found else ""


def is_side_file(path: str) -> bool:
    """Counted in the summary, not named: what programs leave beside photos, and extensions that are no photo's (camera RAW without its extra)."""
    name = os.path.basename(path)
    looked_at = EXTENSIONS | RAW_EXTENSIONS if RAW else EXTENSIONS
    return name.startswith("._") or name in CLUTTER or extension(name) not in looked_at


def test_every_awkward_file_behaves_as_its_row_says(outcome: Outcome) -> None:
    found, seen = outcome.read(), Counter[str]()
    for row in rows():
        path, must = str(row["path"]), str(row["must"])
        seen[must] += 1
        if must == "read":
            assert found.get(path, ())[:2] == (row["width"], row["height"]), (ascii(path), named(outcome, path))
        elif must == "refuse":
            assert path not in found, ascii(path)
        assert (path in found) + bool(named(outcome, path)) == (0 if path not in found and is_side_file(path) else 1), ascii(path)
    assert seen == {"read": 511, "either": 97, "refuse": 58}
    assert outcome.code == 3
    summary = next(line for line in outcome.lines if " new, " in line)
    assert "1 hidden" in summary and ("4 .nef" in summary) == (not RAW)
    assert not any("crashed" in line or "bug" in line for line in outcome.lines), "no decoder that ships falls over any of them"


def test_awkward_files_stay_under_the_memory_cap(outcome: Outcome) -> None:
    assert outcome.peak.looks > 5 and 0 < outcome.peak.bytes < CAP, f"{outcome.peak.bytes / MIB:.0f} MiB"


def test_every_awkward_file_has_its_own_vector_at_every_batch_position(outcome: Outcome) -> None:
    """Decoded again and embedded among other neighbours, a file has the very bits that the run stored for it."""
    backbone = find("toy")
    contents = {content: path for path, (_, _, content) in outcome.read().items()}
    order = np.random.default_rng(0).permutation(sorted(contents))
    pixels = np.zeros((len(order) + -len(order) % BATCH, backbone.input.size, backbone.input.size, 3), np.uint8)
    for place, content in enumerate(order):
        pixels[place] = decode(str(outcome.folder / contents[content]), DecodeOptions(backbone.input)).pixels
    engine = ToyEngine(backbone, Settings())
    pooled = np.concatenate([engine.encode_images(pixels[start : start + BATCH]).pooled for start in range(0, len(pixels), BATCH)])
    with Store.open(outcome.store) as store:
        view = store.view(backbone.space)
        assert np.array_equal(view.master[view.rows_of(order)], pooled[: len(order)].astype(np.float16))
        places = Counter((view.rows_of(order) % BATCH).tolist())
    assert len(places) == BATCH and min(places.values()) >= 10


@pytest.mark.parametrize("place", range(5))
def test_a_bad_file_at_any_place_of_a_batch_shifts_nothing(run: Run, tmp_path: Path, place: int) -> None:
    for number in range(9):
        noise_photo(tmp_path / f"photos/{number}.png", number)
    run("embed", "photos", "--store", "clean", "--batch-size", 4)
    (tmp_path / f"photos/{place}_bad.png").write_bytes(b"\x89PNG\r\n\x1a\n no more")
    assert run("embed", "photos", "--batch-size", 4).code == 3
    words = ("rank", "photos", "from dark to bright", "--json", "--no-scan")
    assert run(*words).out == run(*words, "--store", "clean").out != b""


# ---------------------------------------------------------------- names

NAMES = [
    b"plain.png", b"new\nline.png", b"tab\there.png", b"carriage\rreturn.png", b"quote\"'`.png", "emoji \U0001f984 日本.png".encode(), b"latin1_\xe9.png",
    b"bad_\xff\xfe\x80.png", b"-dash.png", b"--top.png", b"\x1b[31mred\x1b[0m.png", b"back\\slash.png", b" space .png", b"$(touch x);.png", b"*?[a].png",
    b".hidden.png", b".jpeg", "e\u0301 and \xe9.png".encode(), b"n" * 251 + b".png", "\u202egnp.\u202c.png".encode(),
]  # fmt: skip


@pytest.fixture
def odd(run: Run, tmp_path: Path) -> list[bytes]:
    """Photos with odd names below a folder with an odd name; returns their paths as rankclip shows them."""
    folder = os.fsencode(tmp_path) + b"/-p\n\xe9"
    os.makedirs(folder + b"/-sub")
    for number, name in enumerate(NAMES):
        noise_photo(tmp_path / "next.png", number)
        os.rename(tmp_path / "next.png", folder + (b"/-sub/" if number % 2 else b"/") + name)
    return [b"./-p\n\xe9/" + (b"-sub/" if number % 2 else b"") + name for number, name in enumerate(NAMES)]


def ranked(*more: str) -> subprocess.CompletedProcess[bytes]:
    words = [os.fsencode(word) for word in rankclip_command("rank")]
    return subprocess.run(
        [*words, b"./-p\n\xe9", b"red first", b"--hidden", *map(str.encode, more)], capture_output=True, env=subprocess_environment(), timeout=60
    )


def test_odd_names_come_out_exactly_with_null(odd: list[bytes]) -> None:
    found = ranked("-0")
    assert found.returncode == 0 and sorted(found.stdout.split(b"\0")[:-1]) == sorted(odd)
    assert found.stdout == ranked("--print0", "--no-scan").stdout, "from the store as from the disk"


def test_odd_names_come_out_exactly_in_json(odd: list[bytes]) -> None:
    found = ranked("--json")
    records = [json.loads(line) for line in found.stdout.decode("utf-8", "strict").splitlines()]
    paths = [base64.b64decode(record["path_b64"]) if "path_b64" in record else record["path"].encode() for record in records]
    assert sorted(paths) == sorted(odd) and all(("path" in record) != ("path_b64" in record) for record in records)


def test_odd_names_in_lines_are_exact_bytes_and_warn(odd: list[bytes]) -> None:
    found = ranked()
    assert len(found.stdout) == sum(map(len, odd)) + len(odd) and all(path in found.stdout for path in odd)
    assert b"newline" in found.stderr and b"-0" in found.stderr


def test_odd_names_are_escaped_on_a_terminal(odd: list[bytes], tmp_path: Path) -> None:
    os.rename(os.fsencode(tmp_path) + b"/-p\n\xe9", tmp_path / "p")
    code, out, _ = on_terminal("rank", "p", "red first", "--hidden", "--all", COLUMNS="400", NO_COLOR="1")
    assert code == 0
    shown = [
        "new\\nline.png",
        "tab\\there.png",
        "carriage\\rreturn.png",
        "latin1_\\xe9.png",
        "bad_\\xff\\xfe\\x80.png",
        "\\x1b[31mred\\x1b[0m.png",
        "\\u202egnp",
    ]
    assert all(name in out for name in shown), out
    assert not any(character in out for character in "\x1b\r\t\u202e") and sum("p/" in line for line in out.splitlines()) == len(NAMES)


def test_odd_names_of_bad_files_are_escaped_in_messages(run: Run, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with open(os.fsencode(tmp_path) + b"/photos/\x1b[2J\n\xff.png", "wb") as file:
        file.write(b"no")
    found = run("embed", "photos")
    assert found.code == 3 and "rankclip: photos/\\x1b[2J\\n\\xff.png: not a picture" in found.err and "\x1b" not in found.err


def test_names_with_a_leading_dash_as_arguments(run: Run, tmp_path: Path) -> None:
    noise_photo(tmp_path / "-dash.png", 1)
    assert run("rank", "--", "-dash.png", "red first").lines == ["-dash.png"]
    assert run("rank", "./-dash.png", "red first").lines == ["./-dash.png"]
