"""The lazy seam: every row resolves, wrong names are answered with the nearest one, missing runtimes with the pip line."""

import sys

import pytest

from rankclip import registry
from rankclip.errors import InputError, RuntimeMissing

TABLES = {"engine": registry.ENGINES, "format": registry.FORMATS, "method": registry.METHODS, "name": registry.PUBLIC}


def test_every_row_resolves() -> None:
    seen = 0
    for what, table in TABLES.items():
        for name in table:
            if name != "torch":
                assert callable(registry.resolve(table, name, what=what))
                seen += 1
    assert seen >= 18


def test_a_wrong_name_suggests_the_nearest() -> None:
    with pytest.raises(InputError) as error:
        registry.resolve(registry.METHODS, "similarty", what="method")
    assert error.value.hint == "did you mean 'similarity'?"


def test_a_missing_package_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "rankclip.engines.torch_engine", raising=False)
    with pytest.raises(RuntimeMissing) as error:
        registry.resolve(registry.ENGINES, "torch", what="engine")
    assert error.value.exit_code == 6
    assert "python -m pip install torch open_clip_torch" in error.value.hint


def test_the_public_names_are_what_the_package_exports() -> None:
    import rankclip

    assert sorted([*registry.PUBLIC, "__version__"]) == sorted(rankclip.__all__)
    assert set(rankclip.__all__) <= set(dir(rankclip))
    with pytest.raises(AttributeError):
        _ = rankclip.nothing
