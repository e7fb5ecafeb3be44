"""docs/reliability.md: every promise has its test, and every test named there exists."""

import re

from tests.conftest import ROOT

PAGE = (ROOT / "docs/reliability.md").read_text()
PROOF = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def test_every_named_test_exists() -> None:
    found = PROOF.findall(PAGE)
    assert len(found) >= 50
    for path, name in found:
        assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.M), f"{path}::{name}"


def test_every_promise_names_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
    assert len(rows) >= 35 and all(PROOF.search(row) for row in rows)
