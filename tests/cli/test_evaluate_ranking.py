"""`evaluate ranking` on small copies of every official layout: coloured squares, so that the right order is known."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import Run

from rankclip.evaluation import orders
from rankclip.evaluation import ranking as metrics
from rankclip.training import tuned_clip


def square(path: Path, red: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), (red, 0, 0)).save(path)


def test_a_label_file_with_metrics_and_plot(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = ["path,value"]
    for number in range(12):
        square(tmp_path / f"{number:02}.png", 40 + 15 * number)
        rows.append(f"{number:02}.png,{number}")
    Path("labels.csv").write_text("\n".join(rows))
    found = run("evaluate", "ranking", "csv", "labels.csv", "--instruction", "red first", "--json", "--plot", "plot.png", "--quiet")
    assert found.code == 0, found.err
    report = json.loads(found.text)
    assert report["photos"] == 12 and report["method"] == "similarity" and report["metrics"]["SRCC"]["value"] > 0.9
    assert set(report["metrics"]) == {"SRCC", "PLCC", "kendall", "pair accuracy", "pair accuracy (released)"}, (
        "no errors in a unit that the method does not give"
    )
    with Image.open("plot.png") as plot:
        assert plot.size == (480, 480)
    people = run("evaluate", "ranking", "csv", "labels.csv", "--instruction", "red first", "--quiet").lines
    assert people[0] == "labels.csv: 'red first', method similarity, 12 photos" and people[1].split()[0] == "SRCC"
    Path("labels.csv").write_text("\n".join([*rows, "99.png,3"]))
    missing = run("evaluate", "ranking", "csv", "labels.csv", "--instruction", "red first")
    assert missing.code == 2 and "1 of 13 photos are not there" in missing.err
    assert run("evaluate", "ranking", "csv", "labels.csv", "--instruction", "red first", "--partial", "--quiet").code == 0
    assert run("evaluate", "ranking", "avas", "labels.csv").code == 2


def test_baselines_are_measured_out_of_fold(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng, rows = np.random.default_rng(0), ["path,value"]
    for number in range(60):
        pixels = np.empty((24, 24, 3), np.uint8)
        for quarter in range(4):
            pixels[:, quarter * 6 : quarter * 6 + 6] = rng.integers(0, 200, 3)
        pixels[: (number * 24) // 60] = (230, 10, 10)
        Image.fromarray(pixels).save(f"{number:02}.png")
        rows.append(f"{number:02}.png,{number}")
    Path("labels.csv").write_text("\n".join(rows))
    found = run("evaluate", "ranking", "csv", "labels.csv", "--instruction", "from grey to red", "--baselines", "--json", "--quiet")
    assert found.code == 0, found.err
    reports = {report["method"]: report for report in map(json.loads, found.lines)}
    names = ["ridge", "two extremes", "antonym prompts", "numbered prompts", "tuned CLIP"]
    assert list(reports) == ["direction", *(f"baseline: {name}" for name in names)] and all(report["photos"] == 60 for report in reports.values())
    srcc = {name.removeprefix("baseline: "): report["metrics"]["SRCC"]["value"] for name, report in reports.items()}
    assert srcc["ridge"] > 0.7 and srcc["ridge"] > srcc["tuned CLIP"], "the toy reads no numbers: no caption says which photo it means"
    assert all("MAE" in report["metrics"] for method, report in reports.items() if method.startswith("baseline"))


def test_tuned_clip_learns_nothing_from_labels_that_mean_nothing() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 16)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    texts, numbers, every = x[:5].copy(), np.arange(5.0), np.arange(200)
    shuffled, planted = rng.integers(0, 5, 200).astype(float), np.digitize(x[:, 3], np.quantile(x[:, 3], [0.2, 0.4, 0.6, 0.8])).astype(float)
    for y, low, high in ((shuffled, -0.35, 0.35), (planted, 0.75, 1.0)):
        found = tuned_clip.predictions(x, y, every[:120], every[120:160], texts, numbers, tuned_clip.Config())
        assert low <= metrics.srcc(y[160:], found[160:]) <= high, "on photos that neither tuned nor chose"


def make_layouts(folder: Path) -> dict[str, Path]:
    """Write every official layout; returns the label file or folder of each set."""
    ages = folder / "UTKFace"
    for age in (3, 30, 81):
        square(ages / f"{age}_0_1_20170116003703261.jpg.chip.jpg", age)
    adience = folder / "Adience"
    lines = ["user_id\toriginal_image\tface_id\tage\tgender"]
    for number, age in enumerate(("(0, 2)", "(25, 32)", "50", "None")):
        lines.append(f"u\tp{number}.jpg\t{number}\t{age}\tm")
        square(adience / "aligned" / "u" / f"landmark_aligned_face.{number}.p{number}.jpg", number)
    (adience / "fold_0_data.txt").write_text("\n".join(lines))
    for decade in orders.DECADES:
        square(folder / "HCI" / decade / "a.jpg", 9)
    koniq = folder / "koniq"
    square(koniq / "512x384" / "1.jpg", 5)
    (koniq / "koniq10k_scores_and_distributions.csv").write_text("image_name,c1,MOS,SD\n1.jpg,0,3.91,0.4\n")
    ava = folder / "ava"
    square(ava / "images" / "953619.jpg", 5)
    (ava / "AVA.txt").write_text("1 953619 0 1 5 17 38 36 15 6 5 1 1 22 1396\n")
    coco = {"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}], "categories": [{"id": 7, "name": "apple"}],
            "annotations": [{"image_id": 1, "category_id": 7}] * 3 + [{"image_id": 2, "category_id": 7}]}  # fmt: skip
    (folder / "instances.json").write_text(json.dumps(coco))
    return {"utkface": ages, "adience": adience, "hci": folder / "HCI", "koniq": koniq, "ava": ava, "coco-rem": folder / "instances.json"}


def test_official_layouts(tmp_path: Path) -> None:
    places = make_layouts(tmp_path)
    found = {kind: orders.read(kind, place)[0] for kind, place in places.items()}
    assert {"csv", *found} == set(orders.LAYOUTS) and len(found) == 6
    values = {kind: [row.value for row in one.rows] for kind, one in found.items()}
    assert sorted(values["utkface"]) == [3, 30, 81] and values["adience"] == [0, 4, 6] and values["hci"] == [0, 1, 2, 3, 4]
    assert values["koniq"] == [3.91] and values["coco-rem"] == [3, 1]
    assert values["ava"][0] == pytest.approx(float(np.arange(1, 11) @ [0, 1, 5, 17, 38, 36, 15, 6, 5, 1]) / 124)
    assert found["coco-rem"].instruction == "Rank the number of apple" and found["adience"].classes
    assert all(Path(row.path).exists() for kind, one in found.items() if kind != "coco-rem" for row in one.rows)


def test_where_pictures_come_from_is_said(run: Run, tmp_path: Path) -> None:
    result = run("evaluate", "ranking", "adience", str(tmp_path / "nothing"))
    assert result.code == 2 and "faces.tar.gz" in result.err
    (tmp_path / "koniq10k_scores_and_distributions.csv").write_text("image_name,MOS\n1.jpg,3\n")
    result = run("evaluate", "ranking", "koniq", str(tmp_path))
    assert result.code == 2 and "none of its 1 photos is there" in result.err


def test_metrics_by_hand() -> None:
    y, p = np.array([1.0, 2, 2, 3]), np.array([0.1, 0.4, 0.2, 0.2])
    assert metrics.pair_accuracy(y, p) == pytest.approx((1 + 1 + 1 + 0 + 0.5) / 5)
    assert metrics.mae(y, p) == pytest.approx((0.9 + 1.6 + 1.8 + 2.8) / 4)
    assert metrics.accuracy(np.array([0.0, 1, 2]), np.array([-3.0, 1.4, 9])) == 1.0
    assert np.isnan(metrics.srcc(np.ones(4), p)) and metrics.macro(metrics.srcc, np.r_[y, 1, 1], np.r_[p, 1, 2], [np.arange(4), np.arange(4, 6)])[1] == 1
    rng = np.random.default_rng(0)
    inflated = [np.mean([metrics.released_accuracy(rng.normal(size=n), rng.normal(size=n)) for _ in range(80)]) for n in (10, 50)]
    assert inflated == pytest.approx([0.590, 0.518], abs=0.02), "the released accuracy of chance"


def test_rank_correlations_are_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(1)
    for _ in range(20):
        y, p = rng.integers(0, 6, 40).astype(float), np.round(rng.normal(size=40), 1)
        assert metrics.srcc(y, p) == pytest.approx(stats.spearmanr(y, p).statistic)
        assert metrics.kendall(y, p) == pytest.approx(stats.kendalltau(y, p).statistic)


def test_intervals_hold_and_differences_are_paired() -> None:
    rng = np.random.default_rng(2)
    y = rng.normal(size=300)
    a, b = y + rng.normal(size=300), y + 3 * rng.normal(size=300)
    found = metrics.paired_difference(metrics.srcc, y, a, b, rounds=200)
    assert found.low > 0 and found.low < found.value < found.high
    assert metrics.paired_difference(metrics.srcc, y, a, a, rounds=50).value == 0
