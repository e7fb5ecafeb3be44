"""Every format over the same two rankings: an ordinary one, and one with awkward paths and a head's values."""

import csv
import io
import json
import os

import numpy as np
import pytest

from rankclip.formats import csv_lines, json_lines, paths, table
from rankclip.formats.base import FormatOptions, printable
from rankclip.registry import FORMATS, resolve
from rankclip.types import Hit, Ranking

AWKWARD = ["a\nb.jpg", 'quote"tab\t.jpg', os.fsdecode(b"caf\xe9.jpg"), "-dash 🦄.jpg"]


def ranking(names: list[str], **more: object) -> Ranking:
    count = len(names)
    return Ranking("red first", "similarity", "f" * 16, 10, 0, names, np.linspace(0.9, 0.1, count), np.linspace(0.5, 0.2, count).astype(np.float32),
                   np.linspace(100, 60, count).astype(np.float32), **more)  # type: ignore[arg-type]  # fmt: skip


def written(name: str, found: Ranking, **options: object) -> bytes:
    out = io.BytesIO()
    resolve(FORMATS, name, what="format")(found, out, FormatOptions(**options))  # type: ignore[arg-type]
    return out.getvalue()


def test_paths_are_exact_bytes() -> None:
    assert written("paths", ranking(["b.jpg", "a.jpg"])) == b"b.jpg\na.jpg\n"
    assert written("paths", ranking(AWKWARD), null=True).split(b"\0") == [os.fsencode(path) for path in AWKWARD] + [b""]


def test_json_lines_are_lossless() -> None:
    import base64

    objects = [json.loads(line) for line in written("jsonl", ranking(AWKWARD)).splitlines()]
    back = [os.fsdecode(base64.b64decode(one["path_b64"])) if "path_b64" in one else one["path"] for one in objects]
    assert back == AWKWARD
    assert objects[0] == {"schema": "rankclip.rank/1", "rank": 1, "path": "a\nb.jpg", "score": 0.9, "cosine": 0.5, "percentile": 100.0, "method": "similarity",
                          "instruction": "red first"}  # fmt: skip


def test_json_has_a_heads_values_and_no_nulls() -> None:
    found = ranking(
        ["a", "b"],
        values=np.array([61.0, 12.5], np.float32),
        intervals=np.array([[55, 66], [9, 15]], np.float32),
        applies=np.array([True, False]),
        unit="years",
    )
    objects = [json.loads(line) for line in written("jsonl", found).splitlines()]
    assert [(one["value"], one["unit"], one["interval"], one["applies"]) for one in objects] == [
        (61.0, "years", [55.0, 66.0], True),
        (12.5, "years", [9.0, 15.0], False),
    ]
    assert all(value is not None for one in objects for value in one.values())
    values, intervals = np.array([61.0, np.nan], np.float32), np.array([[55, 66], [np.nan, np.nan]], np.float32)
    read, unread = (
        json.loads(line, parse_constant=pytest.fail) for line in written("jsonl", ranking(["a", "b"], values=values, intervals=intervals)).splitlines()
    )
    assert read["interval"] == [55.0, 66.0] and not {"value", "interval"} & unread.keys(), "what a head could not read has no value"


def test_csv_survives_awkward_names() -> None:
    text = written("csv", ranking(AWKWARD)).decode("utf-8", "surrogateescape")
    assert [row[-1] for row in csv.reader(io.StringIO(text, newline=""))] == ["path", *AWKWARD]


def test_tsv_has_one_line_a_photo() -> None:
    lines = written("tsv", ranking(AWKWARD)).splitlines()
    assert len(lines) == 5 and all(line.count(b"\t") == 5 for line in lines)
    assert lines[1].endswith(rb"a\nb.jpg")


def test_a_table_fits_and_says_what_is_left() -> None:
    lines = written("table", ranking(["a.jpg", "b.jpg"]), width=80).decode().splitlines()
    assert lines[1:] == [
        " rank   cosine   better than   photo", f" {'─' * 35}", "    1   +0.900         100 %   a.jpg", "    2   +0.100          60 %   b.jpg", "",
        " 2 of 10 photos; --all shows every one",
    ]  # fmt: skip
    assert max(map(len, lines)) <= 80


def test_links_only_where_colour_is() -> None:
    assert b"file:///" in written("table", ranking(["a.jpg"]), width=80, colour=True)
    assert b"\x1b" not in written("table", ranking(["a.jpg"]), width=80)


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_ranking_is_no_error(name: str) -> None:
    written(name, Ranking.empty("red", "similarity"))


def test_scores_with_values() -> None:
    assert table.score_text(Hit(1, "a", 0.5, value=61.0, interval=(55.0, 66.0)), with_values=True) == "61 ± 5.5"
    assert table.score_text(Hit(1, "a", 0.5, value=61.0, applies=False), with_values=True) == "does not apply"
    assert table.score_text(Hit(1, "a", 0.5), with_values=True) == "unknown"


def test_rows_are_hits() -> None:
    found = ranking(["a", "b", "c"])
    assert [hit.rank for hit in found] == [1, 2, 3] and found[-1].path == "c" and [hit.path for hit in found[:2]] == ["a", "b"]
    with pytest.raises(IndexError):
        found[3]


def test_printable() -> None:
    assert printable("a\x1b[31mb") == "a\\x1b[31mb"
    assert printable("ünïcode 日本") == "ünïcode 日本"


def test_modules_have_one_writer_each() -> None:
    assert all(callable(one) for one in (paths.write, json_lines.write, csv_lines.write_csv, csv_lines.write_tsv, table.write))
