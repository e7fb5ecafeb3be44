"""Paths -> candidates: order, what is left out and counted, links, rules, folders that cannot be read."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import square

from rankclip.errors import InputError
from rankclip.photos.discover import IGNORE_FILE, Walk, WalkOptions, check_roots
from rankclip.photos.sniff import NO_FILE

RED = (220, 30, 30)


def shown(walk: Walk) -> list[str]:
    return [entry.shown for listing in walk.listings() for entry in listing.entries]


def walk(*roots: object, **options: object) -> Walk:
    return Walk([str(root) for root in roots], WalkOptions(**options))  # type: ignore[arg-type]


def test_order_is_by_name_folder_by_folder(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "sub/c.png", "sub/deep/d.png", "z.png"):
        square(tmp_path / name, RED)
    assert shown(walk(tmp_path)) == [f"{tmp_path}/{name}" for name in ("a.png", "b.png", "z.png", "sub/c.png", "sub/deep/d.png")]


def test_paths_are_shown_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    square(tmp_path / "photos/sub/a.png", RED)
    monkeypatch.chdir(tmp_path)
    assert shown(walk("photos")) == ["photos/sub/a.png"]
    assert shown(walk("photos/")) == ["photos/sub/a.png"]
    assert shown(walk("./photos")) == ["./photos/sub/a.png"]
    assert shown(walk("photos/sub/a.png")) == ["photos/sub/a.png"]
    assert shown(walk(".")) == ["./photos/sub/a.png"]


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    for name in (".hidden.png", "._a.png", "@eaDir/t.png", ".git/x.png", "node_modules/y.png", "ok.png"):
        square(tmp_path / name, RED)
    for name in ("a.txt", "b.TXT", "c.xmp", "README"):
        (tmp_path / name).write_text("text")
    found = walk(tmp_path)
    assert shown(found) == [f"{tmp_path}/ok.png"]
    assert found.skipped.reasons == {"hidden": 5, "not a photo": 1}
    assert found.skipped.extensions == {"txt": 2, "xmp": 1}


def test_hidden_looks_everywhere_but_at_apple_doubles(tmp_path: Path) -> None:
    for name in (".hidden.png", "._a.png", "@eaDir/t.png"):
        square(tmp_path / name, RED)
    assert shown(walk(tmp_path, hidden=True)) == [f"{tmp_path}/.hidden.png", f"{tmp_path}/@eaDir/t.png"]


def test_without_an_extension_content_decides(tmp_path: Path) -> None:
    square(tmp_path / "a.png", RED).rename(tmp_path / "scan")
    (tmp_path / "Makefile").write_text("all:\n")
    square(tmp_path / "b.png", RED).rename(tmp_path / "b.photo")
    assert shown(walk(tmp_path)) == [f"{tmp_path}/scan"]
    found = walk(tmp_path, any_extension=True)
    assert shown(found) == [f"{tmp_path}/b.photo", f"{tmp_path}/scan"]
    assert found.skipped.reasons == {"not a photo": 1}


def test_linked_folders_are_off_and_never_loop(tmp_path: Path) -> None:
    square(tmp_path / "real/a.png", RED)
    (tmp_path / "real/loop").symlink_to("..")
    (tmp_path / "other").symlink_to("real")
    found = walk(tmp_path)
    assert shown(found) == [f"{tmp_path}/real/a.png"]
    assert found.skipped.reasons == {"linked folder": 2}
    found = walk(tmp_path, follow_links=True)
    assert shown(found) == [f"{tmp_path}/other/a.png"]  # the first way in wins
    assert found.skipped.reasons["folder already visited"] == 2


def test_linked_files_are_followed_and_dangling_ones_named(tmp_path: Path) -> None:
    square(tmp_path / "elsewhere/a.png", RED)
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "link.png").symlink_to(tmp_path / "elsewhere/a.png")
    (folder / "dangling.jpg").symlink_to("/nowhere/x.jpg")
    found = walk(folder)
    assert shown(found) == [f"{folder}/link.png"]
    assert [failure.reason for failure in found.failures] == ["link to /nowhere/x.jpg: no such file or directory"]


def test_roots_that_overlap_give_each_photo_once(tmp_path: Path) -> None:
    square(tmp_path / "sub/a.png", RED)
    assert shown(walk(tmp_path, tmp_path / "sub")) == [f"{tmp_path}/sub/a.png"]
    assert shown(walk(tmp_path / "sub/a.png", tmp_path / "sub/a.png")) == [f"{tmp_path}/sub/a.png"]


def test_ignore_files_work_as_gitignore_does(tmp_path: Path) -> None:
    for name in ("keep.png", "draft_1.png", "sub/draft_2.png", "sub/draft_keep.png", "old/a.png"):
        square(tmp_path / name, RED)
    (tmp_path / IGNORE_FILE).write_text("draft_*\nold/\n")
    (tmp_path / "sub" / IGNORE_FILE).write_text("!draft_keep.png\n")
    found = walk(tmp_path)
    assert shown(found) == [f"{tmp_path}/keep.png", f"{tmp_path}/sub/draft_keep.png"]
    assert found.skipped.reasons == {"excluded": 3}


def test_exclude_is_relative_to_each_root(tmp_path: Path) -> None:
    for name in ("a/x.png", "a/raw/y.png", "b/raw/z.png"):
        square(tmp_path / name, RED)
    assert shown(walk(tmp_path / "a", tmp_path / "b", exclude=("/raw/",))) == [f"{tmp_path}/a/x.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="runs as root: no folder is closed to it")
def test_a_closed_folder_is_named(tmp_path: Path) -> None:
    square(tmp_path / "ok.png", RED)
    (tmp_path / "closed").mkdir(mode=0)
    found = walk(tmp_path)
    assert shown(found) == [f"{tmp_path}/ok.png"]
    assert found.failures[0].reason == "folder cannot be read: permission denied"


def test_a_missing_root_suggests_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(InputError) as error:
        check_roots([str(tmp_path / "photso")])
    assert error.value.hint == f"did you mean '{tmp_path}/photos'?"
    assert check_roots([str(tmp_path / "gone")], known=[str(tmp_path / "gone")]) == []
    with pytest.raises(InputError):
        check_roots([""])


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    square(tmp_path / "a.png", RED).rename(tmp_path / name)
    assert shown(walk(tmp_path)) == [f"{tmp_path}/{name}"]


def test_only_regular_files_are_candidates(tmp_path: Path) -> None:
    """A pipe or a device has no end that anybody knows: it is never opened."""
    square(tmp_path / "photos/a.png", RED)
    for name in ("pipe.jpg", "pipe"):
        os.mkfifo(tmp_path / "photos" / name)
    found = walk(tmp_path / "photos")
    assert shown(found) == [f"{tmp_path}/photos/a.png"] and found.skipped.reasons == {"not a file": 2}
    named = walk(tmp_path / "photos/pipe.jpg", "/dev/zero", tmp_path / "photos/a.png")
    assert shown(named) == [f"{tmp_path}/photos/a.png"]
    assert [(failure.shown, failure.reason) for failure in named.failures] == [(f"{tmp_path}/photos/pipe.jpg", NO_FILE), ("/dev/zero", NO_FILE)]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("nowhere", path)], ids=["pipe", "folder", "dangling link"])
def test_an_ignore_file_that_is_no_file_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    square(tmp_path / "a.png", RED)
    make(tmp_path / IGNORE_FILE)
    with pytest.raises(InputError, match=re.escape(f"{tmp_path}/{IGNORE_FILE}: not a regular file")) as error:
        shown(walk(tmp_path))
    assert error.value.hint


def test_a_photo_named_beside_its_folder_is_one_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.jpg", "b.jpg", ".c.jpg"):
        square(tmp_path / "d" / name, (1, 2, 3))
    monkeypatch.chdir(tmp_path)
    assert shown(walk("d/b.jpg", "d", "d/.c.jpg", "d/a.jpg", "d/.c.jpg")) == ["d/a.jpg", "d/b.jpg", "d/.c.jpg"], "the hidden one only because it is named"
