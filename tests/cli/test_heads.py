"""Head packs: installed, listed, inspected, refused when changed or of another space, removed."""

from pathlib import Path

import pytest
from tests.conftest import Run

from rankclip.backbones.specs import TOY
from rankclip.errors import InputError, ModelError, SpaceMismatch
from rankclip.heads import packs
from rankclip.heads.packs import HeadCard
from rankclip.types import Space


def card(name: str = "ages", space: str = TOY.space.fingerprint) -> HeadCard:
    return HeadCard(name, "adapter", "toy", space, {"tasks": []}, licence="yours", data=("some photos",))


def test_a_pack_goes_through_its_life(run: Run, tmp_path: Path) -> None:
    packs.write(tmp_path / "made", card(), {"head.onnx": b"graph"})
    assert all(pack.name != "ages" for pack in packs.installed())
    done = run("models", "install", str(tmp_path / "made"))
    assert done.code == 0 and done.text.startswith("ages is installed: ")
    line = next(line for line in run("models", "list").lines if line.startswith("ages "))
    assert "installed" in line and "head, adapter for toy" in line
    assert "data          some photos" in run("models", "info", "ages").lines
    assert packs.suited("adapter", TOY.space) is not None and packs.suited("composer", TOY.space) is None
    assert run("models", "remove", "ages").code == 0
    assert run("models", "remove", "ages").code == 2
    with pytest.raises(ModelError, match="not installed"):
        packs.find("ages")


def test_a_changed_file_is_not_loaded(tmp_path: Path) -> None:
    pack = packs.write(tmp_path / "ages", card(), {"head.onnx": b"graph"})
    assert pack.file("head.onnx").read_bytes() == b"graph"
    (tmp_path / "ages" / "head.onnx").write_bytes(b"grapf")
    with pytest.raises(ModelError, match="sha256 differs"):
        pack.file("head.onnx")
    with pytest.raises(ModelError, match="no such file"):
        packs.Pack(pack.card, tmp_path / "gone").file("head.onnx")


def test_a_file_that_is_no_graph_is_named(tmp_path: Path) -> None:
    pack = packs.write(tmp_path / "ages", card(), {"head.onnx": b"graph"})
    with pytest.raises(ModelError, match="head.onnx: cannot be loaded") as caught:
        pack.session("head.onnx")
    assert "install the head ages again" in caught.value.hint


def test_a_head_of_another_space_says_so(tmp_path: Path) -> None:
    packs.write(tmp_path / "ages", card(space="f" * 16), {"head.onnx": b"graph"})
    with pytest.raises(SpaceMismatch, match="made for toy") as caught:
        packs.suited("adapter", Space("rankclip-mini", "1", "squash-224-bicubic/1", 4), str(tmp_path / "ages"))
    assert "train the head again" in caught.value.hint


@pytest.mark.parametrize(("text", "message"), [("{}", "missing"), ('{"name": "a", "colour": 1}', "unknown keys: colour"), ("[", "not a head's card")])
def test_a_card_that_is_not_one(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(ModelError, match=message):
        packs.read(tmp_path)


def test_names_that_would_leave_their_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot name a head"):
        packs.write(tmp_path / "x", card("../evil"), {})


def test_writing_replaces_whole(tmp_path: Path) -> None:
    packs.write(tmp_path / "ages", card(), {"a.bin": b"1", "b.bin": b"2"})
    packs.write(tmp_path / "ages", card(), {"a.bin": b"3"})
    assert sorted(path.name for path in (tmp_path / "ages").iterdir()) == ["a.bin", "card.json"] and len(list(tmp_path.iterdir())) == 1
