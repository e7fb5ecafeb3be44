"""Photos for the stories, and a store large enough to be slow."""

from pathlib import Path

import pytest
from benchmarks.synthetic import make_store
from tests.conftest import noise_photo

PHOTOS = 24


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with different pictures."""
    for number in range(PHOTOS):
        noise_photo(tmp_path / f"photos/{number:02}.png", number)
    return tmp_path / "photos"


@pytest.fixture(scope="session")
def large_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 100,000 photos that do not exist, below /photos."""
    folder = tmp_path_factory.mktemp("large") / "store"
    make_store(folder, 100_000, model="toy")
    return folder
