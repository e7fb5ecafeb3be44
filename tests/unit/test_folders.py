"""Numbered links and copies."""

import errno
import os
from pathlib import Path

import pytest
from tests.conftest import square
from tests.unit.test_formats import ranking

from rankclip.errors import InputError
from rankclip.formats.folders import copy_to, link_to, placements


@pytest.fixture
def two(tmp_path: Path) -> list[str]:
    return [str(square(tmp_path / name, (1, 2, 3))) for name in ("b.png", "a.png")]


def test_links_show_the_order_and_are_replaced(tmp_path: Path, two: list[str]) -> None:
    folder = tmp_path / "links"
    assert link_to(ranking(two), str(folder)) == 2
    assert sorted(os.listdir(folder)) == ["0001_b.png", "0002_a.png"]
    assert (folder / "0001_b.png").resolve() == Path(two[0])
    assert link_to(ranking(two[::-1]), str(folder)) == 2
    assert sorted(os.listdir(folder)) == ["0001_a.png", "0002_b.png"]


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path, two: list[str]) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "0001_precious.txt").write_text("keep me")
    for act in (link_to, copy_to):
        with pytest.raises(InputError, match="not empty"):
            act(ranking(two), str(folder))
    assert os.listdir(folder) == ["0001_precious.txt"]


def test_copies(tmp_path: Path, two: list[str]) -> None:
    assert copy_to(ranking(two), str(tmp_path / "copies")) == 2
    assert (tmp_path / "copies/0001_b.png").read_bytes() == Path(two[0]).read_bytes()


def test_long_names_stay_legal() -> None:
    found = next(iter(placements(ranking(["x" * 251 + ".jpg"]), "d")))
    assert len(os.path.basename(found.target).encode()) == 255 and found.target.endswith(".jpg")


def test_a_disk_that_refuses_is_named(tmp_path: Path, two: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), source, None, target)

    monkeypatch.setattr("rankclip.formats.folders.shutil.copy2", full)
    with pytest.raises(InputError, match="copies: cannot be written .no space left on device"):
        copy_to(ranking(two), str(tmp_path / "copies"))
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match="file: cannot be written"):
        link_to(ranking(two), str(tmp_path / "file"))


def test_a_photo_that_is_gone_is_named(tmp_path: Path, two: list[str]) -> None:
    os.unlink(two[0])
    with pytest.raises(InputError, match=r"b\.png: cannot be copied .no such file"):
        copy_to(ranking(two), str(tmp_path / "copies"))
