"""The sign test: official layouts in miniature, both protocols, and the released code's index errors."""

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import Run, square

from rankclip.errors import InputError
from rankclip.evaluation import searches, signs
from rankclip.evaluation.signs import balanced, bootstrap, released_pairs, wins

CLASSES = ("antelope", "bear", "cat", "dolphin", "elephant", "fox")
PREDICATES = [f"p{i}" for i in range(1, 86)]


@pytest.fixture
def awa2(tmp_path: Path) -> Path:
    """Six animals, of which the last three are for testing; predicate 15 is "big", 16 is "small"."""
    folder = tmp_path / "awa2"
    (folder / "JPEGImages").mkdir(parents=True)
    (folder / "classes.txt").write_text("".join(f"{i + 1:8d}\t{name}\n" for i, name in enumerate(CLASSES)))
    (folder / "predicates.txt").write_text("".join(f"{i + 1:8d}\t{name}\n" for i, name in enumerate(PREDICATES)))
    (folder / "testclasses.txt").write_text("\n".join(CLASSES[3:]) + "\n")
    matrix = np.random.default_rng(0).integers(0, 2, (6, 85))
    matrix[:, 14], matrix[:, 15] = [0, 1, 0, 1, 1, 0], [1, 0, 1, 0, 0, 1]
    np.savetxt(folder / "predicate-matrix-binary.txt", matrix, fmt="%d")
    for i, name in enumerate(CLASSES):
        for k in range(4):
            square(folder / "JPEGImages" / name / f"{name}_{k}.jpg", (40 * i, 200 - 30 * i, 10 * k), (24 + k, 20))
    return folder


def digest(tests: list[signs.Test]) -> str:
    text = "\n".join(f"{one.name}|{one.sentence}|{[Path(path).name for path in one.high]}|{[Path(path).name for path in one.low]}" for one in tests)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def test_awa2_by_name_and_with_the_released_errors(awa2: Path) -> None:
    ours, released = signs.read("awa2", awa2), signs.read("awa2", awa2, released=True)
    assert len(ours) == 3 and [one.name for one in ours] == [one.name for one in released]
    assert digest(ours) != digest(released)
    matrix = np.loadtxt(awa2 / "predicate-matrix-binary.txt", dtype=int)
    told = ours[0].sentence.partition("attributes of ")[2].partition(",")[0]
    column = PREDICATES.index(told)
    assert matrix[3][column] == 1 and matrix[4][column] == 0, "dolphin has it, elephant has not"
    assert not any(f"p{number}" in one.sentence.replace(",", " ").replace(".", " ").split() for one in ours for number in signs.UNSEEN)
    assert any(f"p{number}" in one.sentence.replace(",", " ").replace(".", " ").split() for one in released for number in signs.UNSEEN), (
        "the filter is off by one"
    )
    shifted = {f"p{number + 1}" for number in signs.UNSEEN} - {f"p{number}" for number in signs.UNSEEN}
    assert not any(word in shifted for one in released for word in one.sentence.replace(",", " ").replace(".", " ").split())


def test_awa2_size_turns_around_with_the_released_column(awa2: Path) -> None:
    (ours,), (released,) = signs.read("awa2-size", awa2), signs.read("awa2-size", awa2, released=True)
    assert {Path(path).parent.name for path in ours.high} == {"dolphin", "elephant"} and {Path(path).parent.name for path in ours.low} == {"fox"}
    assert (released.high, released.low) == (ours.low, ours.high)


def test_cifar_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    names = ["apple", "camel", "hamster", "lion", "shrew"]
    (folder / "meta").write_bytes(pickle.dumps({b"fine_label_names": [name.encode() for name in names]}))
    labels = [0, 1, 2, 3, 4, 1, 2]
    data = np.random.default_rng(0).integers(0, 255, (7, 3072), dtype=np.uint8)
    (folder / "test").write_bytes(pickle.dumps({b"fine_labels": labels, b"data": data}))
    (found,) = signs.read("cifar100-size", folder)
    assert [Path(path).stem for path in found.high] == ["00001", "00003", "00005"] and [Path(path).stem for path in found.low] == ["00002", "00004", "00006"]
    assert "whiel" in signs.read("cifar100-size", folder, released=True)[0].sentence and "whiel" not in found.sentence
    (folder / "meta").write_bytes(pickle.dumps(Path("x")))
    with pytest.raises(InputError, match="does not belong"):
        signs.read("cifar100-size", folder)


def test_flowers_by_name(tmp_path: Path) -> None:
    io = pytest.importorskip("scipy.io")
    labels = np.array([[54, 3, 15, 69, 8, 42, 69]], np.uint8)
    io.savemat(tmp_path / "imagelabels.mat", {"labels": labels})
    io.savemat(tmp_path / "setid.mat", {"tstid": np.arange(1, 8)[None]})
    (ours,), (released,) = signs.read("flowers-colour", tmp_path), signs.read("flowers-colour", tmp_path, released=True)
    assert [Path(path).stem for path in ours.high] == ["image_00004", "image_00007"] and len(ours.low) == 3
    assert [Path(path).stem for path in released.high] == ["image_00002", "image_00005"], "canterbury bells and bird of paradise"


def test_cub_by_colour(tmp_path: Path) -> None:
    root = tmp_path / "CUB"
    (root / "attributes").mkdir(parents=True)
    (root / "classes.txt").write_text("1 001.Blue_Bird\n2 002.Red_Bird\n")
    (root / "images.txt").write_text("".join(f"{i} {'001' if i < 4 else '002'}/{i}.jpg\n" for i in range(1, 7)))
    (root / "image_class_labels.txt").write_text("".join(f"{i} {1 if i < 4 else 2}\n" for i in range(1, 7)))
    (root / "train_test_split.txt").write_text("".join(f"{i} {int(i in (1, 4))}\n" for i in range(1, 7)))
    (root.parent / "attributes.txt").write_text("1 has_bill_shape::curved\n2 has_primary_color::blue\n3 has_primary_color::red\n")
    np.savetxt(root / "attributes" / "class_attribute_labels_continuous.txt", [[90, 80, 5], [90, 2, 70]])
    (found,) = signs.read("cub", root)
    assert (
        found.name == "blue or red birds" and [Path(path).stem for path in found.high] == ["2", "3"] and [Path(path).stem for path in found.low] == ["5", "6"]
    )


def test_a_sentence_that_ignores_order_scores_half() -> None:
    rng = np.random.default_rng(0)
    high, low = (rng.normal(size=(20, 8)).astype(np.float32) for _ in range(2))
    same = rng.normal(size=8).astype(np.float32)
    test = signs.Test("t", (), (), "a", "b")
    found = signs.report(test, high, low, lambda texts: np.stack([same, same]), "none")
    assert found.accuracy == pytest.approx(0.5)
    told = signs.report(test, high + 3 * same, low, lambda texts: np.stack([same, -same]), "none")
    assert told.accuracy > 0.9 and told.interval[0] <= told.accuracy <= told.interval[1] and told.auroc > 0.9


def test_the_distance_to_what_a_sentence_says() -> None:
    vectors = {"red car": [1.0, 0.0], "blue car": [0.0, 1.0]}

    def plain(texts: list[str]) -> np.ndarray:
        return np.array([vectors[text] for text in texts], np.float32)

    said = "The first photo shows a red car, while the second shows a blue car."
    for direction, distance in (([1.0, -1.0], 0.0), ([1.0, 1.0], 1.0), ([-1.0, 1.0], 2.0)):
        assert signs.prompt_distance(said, lambda texts, d=direction: np.array([d], np.float32), plain) == pytest.approx(distance, abs=1e-6)
    assert np.isnan(signs.prompt_distance("a red car", plain, plain)), "nothing is said of the second photo"


def test_parts_of_the_protocols() -> None:
    assert wins(np.array([2.0, 1.0]), np.array([1.0, 0.0])).tolist() == [[1.0, 1.0], [0.5, 1.0]]
    high, low = balanced(np.eye(5, dtype=np.float32), np.eye(3, 5, dtype=np.float32))
    assert len(high) == len(low) == 3
    low_end, high_end = bootstrap(np.random.default_rng(0).random((30, 30)).round())
    assert low_end < 0.5 < high_end
    pairs = released_pairs(60, 60, 0)
    assert len(pairs) <= 2_500 and all((i < 60) != (j < 60) for i, j in pairs) and pairs == released_pairs(60, 60, 0) != released_pairs(60, 60, 1)


@pytest.fixture
def tasks(squares: Path, tmp_path: Path) -> Path:
    rows: list[dict[str, str]] = [
        {"task": "colour", "high": "The first photo is red, while the second is blue.", "low": "The first photo is blue, while the second is red."}
    ]
    for i in range(6):
        rows.append({"task": "colour", "side": "high", "path": os_path(square(tmp_path / "t" / f"r{i}.png", (220 - i, 30, 30)), tmp_path)})
        rows.append({"task": "colour", "side": "low", "path": os_path(square(tmp_path / "t" / f"b{i}.png", (30, 60, 210 - i)), tmp_path)})
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "tasks.jsonl"


def os_path(path: Path, root: Path) -> str:
    return str(path.relative_to(root))


def test_the_command_on_ones_own_lines(run: Run, tasks: Path) -> None:
    found = run("evaluate", "difference", "jsonl", tasks, "--json", "-q")
    assert found.code == 0
    report = json.loads(found.text)
    assert 0.0 < report["prompts"] < 2.0
    assert report["photos"] == [6, 6] and report["accuracy"] == 0.5, "the toy's text path is a bag of words: the order of a sentence is lost on it"
    assert run("evaluate", "difference", "jsonl", tasks, "--released", "-q").text.strip().endswith("as released")


def test_plain_search_before_and_after(run: Run, squares: Path, tmp_path: Path) -> None:
    rows = [{"path": f"photos/{name}.png", "label": name, "captions": [f"a {name} square"]} for name in ("red", "green", "blue", "white", "black")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {**rows[0], "split": "train"}]))
    found = json.loads(run("evaluate", "difference", "classes", "rows.jsonl", "--json", "-q").text)
    assert found["name"] == "top-1 of 5 classes" and found["photos"] == 5 and found["before"][0] == found["after"][0] == 1.0 and found["through"] == []
    lines = run("evaluate", "difference", "captions", "rows.jsonl", "-q").text.splitlines()
    assert len(lines) == 2 and lines[0] == "text to image R@1, 5 photos: before 100.0% (100.0% to 100.0%), after 100.0% (100.0% to 100.0%); head none"
    wrong = run("evaluate", "difference", "captions", "tasks.jsonl")
    assert wrong.code == 2 and "no such file" in wrong.err
    (tmp_path / "rows.jsonl").write_text('{"path": "x.png"}\n')
    assert "rows.jsonl, line 1" in run("evaluate", "difference", "classes", "rows.jsonl").err


def test_the_right_one_first_by_hand() -> None:
    seen = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32)
    photos = [searches.Photo(str(i), (text,)) for i, text in enumerate("xyz")]
    vectors = {"x": [1.0, 0.0], "y": [0.9, 0.1], "z": [0.0, 1.0]}
    found = dict(searches.retrieval(photos, seen, lambda texts: np.array([vectors[text] for text in texts], np.float32)))
    assert found["text to image R@1"].tolist() == [1, 0, 0]
    assert found["text to image R@10"].tolist() == [1, 1, 1]
    assert searches.interval(np.array([1.0, 1.0, 0.0, 0.0]))[0] == 0.5 and searches.interval(np.ones(4)) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("words", "said"), [(("magic", "tasks.jsonl"), "unknown set"), (("jsonl", "none.jsonl"), "no such file"), (("awa2", "t"), "official layout")]
)
def test_wrong_words(run: Run, tasks: Path, words: tuple[str, ...], said: str) -> None:
    found = run("evaluate", "difference", *words)
    assert found.code == 2 and said in found.err


@pytest.mark.parametrize(("kind", "names"), [("cifar100-size", ("meta", "test")), ("flowers-colour", ("imagelabels.mat", "setid.mat")),
                                             ("awa2", ("classes.txt", "predicates.txt", "testclasses.txt", "predicate-matrix-binary.txt"))])  # fmt: skip
def test_damaged_sets_are_named(run: Run, tmp_path: Path, kind: str, names: tuple[str, ...]) -> None:
    if kind == "flowers-colour":
        pytest.importorskip("scipy.io")
    (tmp_path / "set").mkdir()
    gone = run("evaluate", "difference", kind, "set")
    assert gone.code == 2 and f"set/{names[0]}: no such file" in gone.err
    for name in names:
        (tmp_path / "set" / name).write_text("garbage\n")
    found = run("evaluate", "difference", kind, "set")
    assert found.code == 2 and "set: a file in it cannot be understood" in found.err and f"give {kind} in its official layout" in found.err


def test_a_malformed_line_is_named(run: Run, tasks: Path) -> None:
    with tasks.open("a") as lines:
        lines.write('{"task": "colour", "side": "middle", "path": "x"}\n')
    found = run("evaluate", "difference", "jsonl", tasks)
    assert found.code == 2 and "tasks.jsonl, line 14" in found.err
