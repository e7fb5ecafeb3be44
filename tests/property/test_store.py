"""The store keeps what it is given: any finite array, any file name, any order of batches."""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rankclip.store.store import Batch, NewFile, Store
from rankclip.store.vectors import quantize
from rankclip.types import FileStamp, PhotoFacts, PixelFacts, Space

WIDTH = 6
SPACE = Space("toy", "0" * 64, "squash-32-bicubic/1", WIDTH, 2, 3)
SETTINGS = settings(
    max_examples=int(os.environ.get("RANKCLIP_TEST_EXAMPLES", "25")), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
FACTS = PhotoFacts(4, 3, "PNG", "2020-01-02T03:04:05", "cam", 1.5, -2.5, PixelFacts(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7), True)

names = st.binary(min_size=1, max_size=40).filter(lambda b: b"/" not in b and b"\0" not in b and b not in (b".", b"..")).map(os.fsdecode)
arrays = hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.just(WIDTH)), elements=st.floats(-1, 1, width=16))


def batch(pooled: np.ndarray, first: int, file_names: list[str]) -> Batch:
    files = [NewFile("/photos", name, FileStamp(first + i, 5, 1, first + i), (first + i).to_bytes(16, "big"), FACTS) for i, name in enumerate(file_names)]
    tokens = np.repeat(pooled[:, None, :3], 2, axis=1)
    return Batch(files, pooled, tokens, [file.digest for file in files], pooled[:, ::-1])


@SETTINGS
@given(st.lists(arrays, min_size=1, max_size=4), st.data())
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list[np.ndarray], data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("s") / "store"
    count = sum(len(part) for part in rows)
    file_names = data.draw(st.lists(names, min_size=count, max_size=count, unique_by=os.fsencode))
    with Store.open(folder, write=True) as store:
        first = 0
        for part in rows:
            store.add(SPACE, batch(part, first, file_names[first : first + len(part)]))
            first += len(part)
    whole = np.concatenate(rows)
    with Store.open(folder) as store:
        view = store.view(SPACE)
        assert np.array_equal(view.master, whole.astype(np.float16))
        small, scales = quantize(whole.astype(np.float16).astype(np.float32))
        assert np.array_equal(view.small, small) and np.array_equal(view.scales, scales)
        assert view.token_rows == count and np.allclose(view.read_tokens(np.arange(count)), np.repeat(whole[:, None, :3], 2, axis=1), atol=1 / 127)
        assert np.allclose(view.read_stages(view.contents), whole[:, ::-1], atol=1 / 127)
        known = store.catalogue.files_in("/photos")
        assert set(known) == set(file_names)
        contents = np.array([known[name].content for name in file_names])
        assert view.rows_of(contents).tolist() == list(range(count))
        assert store.catalogue.facts(contents.tolist())[int(contents[0])] == FACTS


@SETTINGS
@given(arrays, st.lists(names, min_size=5, max_size=5, unique_by=os.fsencode))
def test_twice_is_once(tmp_path_factory: pytest.TempPathFactory, rows: np.ndarray, file_names: list[str]) -> None:
    folder = tmp_path_factory.mktemp("s") / "store"
    with Store.open(folder, write=True) as store:
        store.add(SPACE, batch(rows, 0, file_names[: len(rows)]))
        again = batch(rows, 0, file_names[: len(rows)])
        store.add(SPACE, Batch([NewFile(f.folder, f.name, f.stamp, f.digest, None) for f in again.files]))
    with Store.open(folder) as store:
        assert store.view(SPACE).rows == len(rows)
        assert len(store.catalogue.files_in("/photos")) == len(rows)


@SETTINGS
@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=5, unique=True))
def test_texts_come_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    folder = tmp_path_factory.mktemp("s") / "store"
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    vectors = {text: np.full(WIDTH, i, np.float32) for i, text in enumerate(texts)}
    with Store.open(folder, write=True) as store:
        store.cache_texts(SPACE, vectors)
        found = store.cached_texts(SPACE, [*texts, "never seen\0"])
    assert found.keys() == vectors.keys() and all(np.array_equal(found[text], vectors[text]) for text in vectors)
