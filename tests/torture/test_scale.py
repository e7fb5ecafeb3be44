"""The catalogue and the scan are linear: what a photo costs does not grow with the number of photos. Processor time, the least of several tries."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarks.synthetic import make_store
from tests.conftest import Run

from rankclip import scoring
from rankclip.backbones.specs import find
from rankclip.collection.collection import Collection
from rankclip.store import snapshot
from rankclip.store.store import Store

ALLOWED = 2.5  # a photo may cost so many times as much in the largest store: caches end, trees get deeper; a square law would give 8 (in the long form 100)
FOLDER = "/photos/2000/00001"


def least(work: Callable[[], object], tries: int = 3) -> float:
    """Processor seconds."""
    seconds = []
    for _ in range(tries):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds)


def costs(folder: Path, rows: int) -> dict[str, float]:
    """Processor seconds a photo, for everything that touches all of them; and of a look at one folder, which must not know how many others there are."""
    filling = least(lambda: make_store(folder, rows, model="toy"), tries=1)
    with Store.open(folder) as store:
        view = store.view(find("toy").space)
        query = scoring.unit(view.master[0].astype("float32"))
        scan = least(lambda: scoring.scan(view.small, view.scales, query), tries=9)
        files = least(lambda: snapshot.build(store.catalogue))
        one_folder = least(lambda: [store.catalogue.files_in(FOLDER) for _ in range(20)])
        known = len(store.catalogue.files_in(FOLDER))
    collection = Collection("/photos", model="toy", store=str(folder))
    seen = least(lambda: collection.rank("from dark to bright", scan=False))
    assert known == 500 and len(collection.rank("from dark to bright", scan=False)) == rows
    return {"filling": filling / rows, "files": files / rows, "scan": scan / rows, "seen instruction": seen / rows, "one folder": one_folder}


def check(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    found = [costs(tmp_path / f"store{rows}", rows) for rows in sizes]
    for later in found[1:]:
        assert all(later[what] <= ALLOWED * found[0][what] for what in later), (sizes, found)


def test_a_photo_costs_the_same_among_many(run: Run, tmp_path: Path) -> None:
    check(tmp_path, (2_000, 16_000))


@pytest.mark.torture
def test_a_photo_costs_the_same_among_a_million(run: Run, tmp_path: Path) -> None:
    check(tmp_path, (10_000, 100_000, 1_000_000))
