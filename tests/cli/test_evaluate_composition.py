"""`evaluate composition` on tiny copies of the official layouts; the pictures are coloured squares, so the answers are known."""

import gzip
import json
from pathlib import Path

import pytest
from tests.conftest import ROOT, Run, square

from rankclip.evaluation import layouts
from rankclip.evaluation.triplets import read

COLOURS = {"red": (220, 30, 30), "green": (40, 160, 50), "blue": (30, 60, 210), "black": (8, 8, 8), "white": (248, 248, 248), "yellow": (240, 230, 40)}
NUMBERS = {name: i + 1 for i, name in enumerate(COLOURS)}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for name, colour in COLOURS.items():
        square(tmp_path / "pictures" / f"{name}.png", colour)
        square(tmp_path / "coco" / f"{NUMBERS[name]:012d}.png", colour)
    return tmp_path / "pictures"


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def figures(run: Run, *words: object) -> dict[str, dict[str, float]]:
    found = run("evaluate", "composition", *words, "--json")
    assert found.code == 0, found.err
    objects = [json.loads(line) for line in found.lines]
    assert all(one["schema"] == "rankclip.evaluation/1" for one in objects)
    return {one["name"]: {name: value["value"] if isinstance(value, dict) else value for name, value in one["metrics"].items()} for one in objects}


def test_fashioniq(run: Run, pictures: Path, tmp_path: Path) -> None:
    for category in layouts.FASHIONIQ_CATEGORIES:
        rows = [
            {"candidate": "red", "target": "blue", "captions": ["is blue.", "is not red"]},
            {"candidate": "blue", "target": "green", "captions": ["green", "is green"]},
        ]
        write(tmp_path / "fiq" / "captions" / f"cap.{category}.val.json", rows)
        write(tmp_path / "fiq" / "image_splits" / f"split.{category}.val.json", list(COLOURS))
    found = figures(run, "fashioniq", "fiq", "--images", "pictures", "--strength", 0.8)
    assert set(found) == {"dress", "shirt", "toptee", "mean"} and found["mean"] == {"R@10": 1.0, "R@50": 1.0}


def test_cirr_with_server_files(run: Run, pictures: Path, tmp_path: Path) -> None:
    rows = [{"pairid": 12, "reference": "red", "target_hard": "blue", "target_soft": {"blue": 1.0}, "caption": "blue instead of red",
             "img_set": {"id": 1, "members": ["red", "blue", "green", "black", "white", "yellow"]}}]  # fmt: skip
    write(tmp_path / "cirr" / "captions" / "cap.rc2.val.json", rows)
    write(tmp_path / "cirr" / "image_splits" / "split.rc2.val.json", {name: f"./dev/{name}.png" for name in COLOURS})
    found = figures(run, "cirr", "cirr", "--images", "pictures", "--submission", "out", "--strength", 0.8)
    assert found["val"]["R@1"] == found["val"]["Rs@1"] == 1.0
    recall, subset = (json.loads((tmp_path / "out" / f"cirr_{name}.json").read_text()) for name in ("recall", "recall_subset"))
    assert recall["12"][0] == "blue" and "red" not in recall["12"] and len(recall["12"]) == 5 and len(subset["12"]) == 3
    for row in rows:
        del row["target_hard"], row["target_soft"]
    write(tmp_path / "cirr" / "captions" / "cap.rc2.test1.json", rows)
    write(tmp_path / "cirr" / "image_splits" / "split.rc2.test1.json", {name: f"./test1/{name}.png" for name in COLOURS})
    unlabelled = run("evaluate", "composition", "cirr", "cirr", "--split", "test1", "--images", "pictures", "--submission", "test", "--strength", 0.8)
    assert unlabelled.code == 0 and json.loads((tmp_path / "test" / "cirr_recall.json").read_text())["12"] == recall["12"]


def test_circo(run: Run, pictures: Path, tmp_path: Path) -> None:
    rows = [{"id": 0, "reference_img_id": 1, "target_img_id": 3, "gt_img_ids": [3], "relative_caption": "blue instead of red", "shared_concept": "a square",
             "semantic_aspects": ["negation"]}]  # fmt: skip
    write(tmp_path / "circo" / "annotations" / "val.json", rows)
    found = figures(run, "circo", "circo", "--images", "coco", "--strength", 0.8)["val"]
    assert found["mAP@5"] == found["R@5"] == found["mAP@10 negation"] == 1.0
    refused = run("evaluate", "composition", "circo", "circo", "--images", "coco", "--submission", "out")
    assert refused.code == 2 and "exactly 50 distinct" in refused.err


def test_genecis(run: Run, pictures: Path, tmp_path: Path) -> None:
    rows = [{"condition": "blue", "reference": {"val_image_id": 1}, "target": {"val_image_id": 3}, "gallery": [{"val_image_id": 2}, {"val_image_id": 5}]}]
    write(tmp_path / "genecis" / "change_object.json", rows)
    found = figures(run, "genecis", "genecis", "--images", "coco", "--strength", 0.8)
    assert found == {"change_object": {"R@1": 1.0, "R@2": 1.0, "R@3": 1.0}}


def test_genecis_crops(run: Run, tmp_path: Path) -> None:
    from PIL import Image

    picture = Image.new("RGB", (300, 100))
    for i, name in enumerate(("red", "blue", "green")):
        picture.paste(COLOURS[name], (100 * i, 0, 100 * i + 100, 100))
    (tmp_path / "vg").mkdir()
    picture.save(tmp_path / "vg" / "77.png")
    red, blue, green = ({"image_id": 77, "instance_bbox": [100 * i + 60, 40, 20, 20]} for i in range(3))
    write(tmp_path / "focus_attribute.json", [{"condition": "blue", "reference": red, "target": blue, "gallery": [green]}])
    found = figures(run, "genecis", tmp_path / "focus_attribute.json", "--images", "vg", "--strength", 0.8)
    assert found["focus_attribute"]["R@1"] == 1.0


def test_own_triplets_with_intervals(run: Run, pictures: Path, tmp_path: Path) -> None:
    lines = [
        {"reference": f"{one}.png", "instruction": f"{other} instead of {one}", "target": [f"{other}.png"]}
        for one in COLOURS
        for other in COLOURS
        if one != other
    ]
    path = tmp_path / "pictures" / "mine.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    found = run("evaluate", "composition", "triplets", path)
    assert found.code == 0 and found.lines[0] == "triplets mine: 30 queries, 6 photos, composer slerp, toy"
    table = {line.split()[0]: line.split()[1:] for line in found.lines[1:] if not line.strip().startswith("reference")}
    assert float(table["R@1"][0]) > 80 and table["R@1"][1].startswith("[") and table["R@5"][0] == "100.0"
    text = figures(run, "triplets", path, "--composer", "sum", "--strength", 0)["mine"]
    assert text["R@1"] < 0.5, "the photo alone does not know what is asked for"


def test_missing_pictures(run: Run, pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "pictures" / "mine.jsonl"
    path.write_text(
        '{"reference": "red.png", "instruction": "blue", "target": "blue.png"}\n{"reference": "red.png", "instruction": "x", "target": "gone.png"}\n'
    )
    found = run("evaluate", "composition", "triplets", path)
    assert found.code == 2 and "the photos of 1 of 2 queries are not in" in found.err and "--partial" in found.err
    some = run("evaluate", "composition", "triplets", path, "--partial")
    assert some.code == 0 and "1 queries left out" in some.lines[0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{nonsense", "line 2: not JSON"),
        ("[1, 2]", "line 2: not a JSON object"),
        ('{"instruction": "red", "target": "a.png"}', "line 2: 'reference' must be a path"),
        ('{"reference": "a.png", "instruction": "red"}', "line 2: neither 'target' nor 'caption'"),
        ('{"reference": "a.png", "instruction": "red", "target": [3]}', "line 2: 'target' must be a path"),
        ('{"reference": "a.png", "instruction": 5, "target": "b.png"}', "line 2: 'instruction' must be a text"),
    ],
)
def test_malformed_triplets_name_their_line(run: Run, pictures: Path, tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"reference": "red.png", "instruction": "blue", "target": "blue.png"}\n' + line + "\n")
    found = run("evaluate", "composition", "triplets", path, "--images", "pictures")
    assert found.code == 2 and message in found.err and found.out == b""


def test_other_mistakes(run: Run, pictures: Path, tmp_path: Path) -> None:
    assert "unknown benchmark 'fashionique'" in run("evaluate", "composition", "fashionique", ".").err
    assert "cap.dress.val.json: no such file" in run("evaluate", "composition", "fashioniq", ".").err
    assert "fashioniq has no server" in run("evaluate", "composition", "fashioniq", ".", "--submission", "out").err
    write(tmp_path / "annotations" / "val.json", [{"id": 1}])
    refused = run("evaluate", "composition", "circo", ".", "--images", "pictures").err
    assert "not circo annotations" in refused
    page = refused.split("docs/")[1].split()[0]
    assert "image_splits/split.rc2.SPLIT.json" in (ROOT / "docs" / page).read_text(), "the page that is named shows the layouts"
    (tmp_path / "empty.jsonl").write_text("\n")
    assert "no triplets in it" in run("evaluate", "composition", "triplets", "empty.jsonl").err


COUNTS = {"cirr": ("cirr_val", [3614]), "circo": ("circo_val", [184]), "genecis": ("genecis_focus_object", [1610]),
          "fashioniq": ("fashioniq", [1809, 1838, 1777])}  # fmt: skip


@pytest.mark.skipif(not (ROOT.parent / "shared/data/composed_text").is_dir(), reason="needs ../shared")
def test_the_real_texts_are_read() -> None:
    for kind, (name, counts) in COUNTS.items():
        found = layouts.read(kind, ROOT.parent / f"shared/data/composed_text/{name}.jsonl.gz", "val")
        assert [len(one.cases) for one in found] == counts
        cases = [case for one in found for case in one.cases]
        assert all(one.labelled for one in found) and all(case.texts[0] for case in cases)
        if kind == "cirr":
            assert all(len(case.group) == 6 and {case.reference, case.targets[0]} <= set(case.group) for case in cases)
        if kind == "circo":
            assert all(case.reference not in case.targets for case in cases), "a reference is never right"
        if kind == "genecis":
            assert all(len(case.gallery) == 15 and case.gallery[0] == case.targets[0] for case in cases)


def test_a_packed_file_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "circo_val.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"id": 3, "reference_img_id": 5, "target_img_id": 7, "gt_img_ids": [7, 8], "relative_caption": "has a dog"}\n'))
    (found,) = layouts.read("circo", path, "val")
    assert found.cases[0].targets == ("000000000007", "000000000008") and found.cases[0].number == 3


def test_captions_alone_are_valid_for_training(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    path.write_text('{"reference": "a.png", "instruction": "in red", "caption": "a red car", "original": "a blue car"}\n')
    assert read(path)[0].caption == "a red car"
