"""Flag > environment > file > default, and where each value came from."""

import dataclasses
from pathlib import Path

import pytest

from rankclip.errors import InputError
from rankclip.settings import Settings, resolve


def test_each_source_overrides_the_next(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('engine = "onnx"\nthreads = 3\nbatch-size = 8\n')
    found = resolve({"threads": 1, "model": None}, {"RANKCLIP_ENGINE": "toy", "RANKCLIP_THREADS": "2"}, file)
    assert (found.settings.threads, found.settings.engine, found.settings.batch_size, found.settings.model) == (1, "toy", 8, "rankclip-mini")
    assert found.sources["threads"] == "flag"
    assert found.sources["engine"] == "RANKCLIP_ENGINE"
    assert found.sources["batch_size"] == str(file)
    assert found.sources["model"] == "default"


def test_other_tools_offline_variable_counts(tmp_path: Path) -> None:
    assert resolve({}, {"HF_HUB_OFFLINE": "1"}, tmp_path / "none").settings.offline is True
    assert resolve({}, {"HF_HUB_OFFLINE": "1", "RANKCLIP_OFFLINE": "no"}, tmp_path / "none").settings.offline is False


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANKCLIP_THREADS": "many"}, "RANKCLIP_THREADS: 'many' is not a valid threads (int)"),
        ({"RANKCLIP_ENGINE": "onx"}, "RANKCLIP_ENGINE: unknown engine 'onx'"),
        ({"RANKCLIP_BATCH_SIZE": "0"}, "RANKCLIP_BATCH_SIZE: batch size must be at least 1, got 0"),
        ({"RANKCLIP_WORKERS": "-1"}, "RANKCLIP_WORKERS: workers must not be negative, got -1"),
        ({"RANKCLIP_OFFLINE": "perhaps"}, "RANKCLIP_OFFLINE: 'perhaps' is not a valid offline (bool)"),
    ],
)
def test_a_wrong_value_names_its_source(environment: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        resolve({}, environment, tmp_path / "none")
    assert error.value.message == message


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("treads = 2\n")
    with pytest.raises(InputError, match=r"config\.toml: unknown setting 'treads'") as error:
        resolve({}, {}, file)
    assert error.value.hint == "did you mean 'threads'?"
    file.write_text("threads =\n")
    with pytest.raises(InputError, match=r"config\.toml"):
        resolve({}, {}, file)


def test_names_are_trimmed() -> None:
    assert resolve({}, {"RANKCLIP_MODEL": " toy "}, Path("none")).settings.model == "toy"


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().threads = 2  # type: ignore[misc]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read .is a directory"):
        resolve({}, {}, tmp_path)


@pytest.mark.parametrize("name", ["time_limit_photo", "memory_limit_photo", "max_megapixels"])
def test_limits_of_nothing_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')}: "):
        resolve({name: 0}, {}, tmp_path / "none")
