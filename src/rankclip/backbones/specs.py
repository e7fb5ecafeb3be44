"""The table of backbones: what each needs to be run and recognised.

Three kinds: bundled (rankclip-mini, toy: always there), recommended (a short list that `models fetch` offers), and installed or local
ones, described by the `card.json` beside their weights. Reading the table loads no runtime.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path

from rankclip.errors import ModelError
from rankclip.settings import DEFAULT_MODEL, user_folder
from rankclip.types import InputSpec, Space

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CARD = "card.json"


@dataclass(frozen=True, slots=True)
class Backbone:
    """A named pair of towers. Lengths in tokens, widths in channels, sizes in px."""

    name: str
    weights: str  # sha256 of the weights
    input: InputSpec
    width: int  # D
    patches: int = 0  # P of the patch tokens it gives, 0: none
    token_width: int = 0  # W
    context: int = 77
    logit_scale: float = 100.0
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    licence: str = ""
    image_engine: str = "torch"
    text_engine: str = "onnx"
    folder: Path | None = None
    null: tuple[float, float] = (0.0, 0.05)  # mean and spread of the cosine between photos and neutral sentences
    extra: dict[str, object] = field(default_factory=dict)  # what only its engine reads

    @property
    def space(self) -> Space:
        return Space(self.name, self.weights, str(self.input), self.width, self.patches, self.token_width)


TOY = Backbone("toy", "0" * 64, InputSpec(32, "squash"), 16, 4, 16, logit_scale=20.0, licence="MIT", image_engine="toy", text_engine="toy", null=(0.3, 0.2))


@cache
def find(name: str = DEFAULT_MODEL) -> Backbone:
    """Return a backbone by name.

    Raises ModelError when it is neither bundled nor installed, with the command that brings it.

    >>> find("toy").space.width
    16
    """
    name = name.strip()
    if name == "toy":
        return TOY
    if name == DEFAULT_MODEL:
        return read_card(bundled_folder())
    folder = Path(name.removeprefix("local-dir:")).expanduser() if name.startswith("local-dir:") else installed_folder(name)
    if (folder / CARD).is_file():
        return read_card(folder)
    known = ", ".join(["toy", DEFAULT_MODEL, *installed()])
    raise ModelError(f"model {name!r} is not installed", hint=f"run: rankclip models fetch {name}   (here now: {known})")


def bundled_folder() -> Path:
    """Return the folder of rankclip-mini inside the package."""
    return Path(str(resources.files(__package__).joinpath("mini")))


def models_folder() -> Path:
    return user_folder("data") / "models"


def installed_folder(name: str) -> Path:
    return models_folder() / name.replace("/", "--").replace(":", "--")


def installed() -> list[str]:
    """Return the names of the models that were fetched."""
    return sorted(json.loads(card.read_text())["name"] for card in models_folder().glob(f"*/{CARD}"))


def read_card(folder: Path) -> Backbone:
    """Read a backbone's card.json; unknown or missing keys are an error that names them."""
    path = folder / CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        card["input"] = InputSpec.parse(card["input"])
        for name in ("mean", "std", "null"):
            if name in card:
                card[name] = tuple(card[name])
        return Backbone(**card, folder=folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: not a model's card ({error})", hint="fetch or install the model again") from error
