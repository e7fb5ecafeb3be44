"""What the wheel holds: the package with its data, the man page, the licences, and nothing else."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests.conftest import ROOT

MINI, HEADS = "rankclip/backbones/mini/", "rankclip/heads/bundled/"
DATA = {
    "rankclip/py.typed",
    "rankclip/instructions/antonyms.tsv",
    "rankclip/instructions/kinds.tsv",
    "rankclip/instructions/scenes.txt",
    "rankclip/instructions/untold.txt",
    "rankclip/backbones/data/clip_bpe_merges.txt.gz",
    "rankclip/backbones/data/NOTICE",
    "rankclip/training/generator/words.txt",
}
EXPECTED = re.compile(
    r"rankclip/[\w/]+\.(py|tsv|txt|txt\.gz|json|toml)|rankclip/py\.typed|rankclip/backbones/data/NOTICE|rankclip/backbones/mini/(image|inference|text)\.onnx"
    r"|rankclip/heads/bundled/[\w-]+/(card\.json|head\.onnx|[\w-]+\.npz)"
    r"|rankclip-[\w.]+\.data/data/share/man/man1/rankclip\.1"
    r"|rankclip-[\w.]+\.dist-info/(METADATA|WHEEL|RECORD|entry_points\.txt|licenses/LICENSE(-WEIGHTS)?)"
)
MODEL_BYTES = 40_000_000  # the most that the bundled model may take
HEAD_BYTES = {"mini-ranking": 3_500_000, "composer-mini": 10_000_000, "difference": 8_000_000}
SMALL = 300_000  # nothing but the model and its heads is larger


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Build a wheel without an index; returns its files with their sizes."""
    folder = tmp_path_factory.mktemp("wheel")
    found = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert found.returncode == 0, found.stderr
    (wheel,) = folder.glob("rankclip-*-py3-none-any.whl")
    return {one.filename: one.file_size for one in zipfile.ZipFile(wheel).infolist()}


def test_data_and_man_page_are_in_it(content: dict[str, int]) -> None:
    assert set(content) >= DATA
    assert sum(name.endswith("share/man/man1/rankclip.1") for name in content) == 1
    assert sum("licenses/" in name for name in content) == 2


def test_every_module_is_in_it_and_nothing_else(content: dict[str, int]) -> None:
    modules = {str(path.relative_to(ROOT / "src")) for path in Path(ROOT / "src/rankclip").rglob("*.py")}
    assert len(modules) >= 60 and modules <= set(content)
    assert [name for name in content if not EXPECTED.fullmatch(name)] == []


def test_the_model_is_whole_and_small_where_it_is_there(content: dict[str, int]) -> None:
    model = {name: size for name, size in content.items() if name.startswith(MINI)}
    if (ROOT / "src" / MINI / "card.json").is_file():
        assert {f"{MINI}{name}" for name in ("card.json", "image.onnx", "inference.onnx", "text.onnx")} <= set(model) and sum(model.values()) <= MODEL_BYTES
    assert [name for name, size in content.items() if size > SMALL and name not in model and not name.startswith(HEADS)] == []


def test_the_heads_are_small(content: dict[str, int]) -> None:
    there = {path.name for path in (ROOT / "src" / HEADS).glob("*") if (path / "card.json").is_file()}
    assert there <= set(HEAD_BYTES)
    for name in there:
        own = [size for file, size in content.items() if file.startswith(f"{HEADS}{name}/")]
        assert len(own) >= 2 and sum(own) <= HEAD_BYTES[name]
