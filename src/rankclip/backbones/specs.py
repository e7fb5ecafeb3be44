"""The table of backbones: what each needs to be run and recognised.

Four kinds: bundled (rankclip-mini, toy: always there), recommended (a short list that `models fetch` offers), installed or local ones,
described by the `card.json` beside their weights, and multimodal language models ("mllm:NAME"), described by their own files. Reading the table
loads no runtime.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path

from rankclip.backbones import checkpoints
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
    padded: bool = True  # batches are filled up, so that an embedding is bit-equal whatever its neighbours; False where a photo costs seconds
    null: tuple[float, float] = (0.0, 0.05)  # mean and spread of the cosine between photos and neutral sentences
    extra: dict[str, object] = field(default_factory=dict)  # what only its engine reads

    @property
    def space(self) -> Space:
        return Space(self.name, self.weights, str(self.input), self.width, self.patches, self.token_width)

    def check_torch(self) -> None:
        """Raise ModelError where the torch engine has no architecture to build."""
        if self.folder is None or "architecture" not in self.extra:
            raise ModelError(f"{self.name} cannot run in torch", hint=f"use --engine {self.image_engine}")


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
    if name.startswith(checkpoints.PREFIX):
        return find_mllm(name.removeprefix(checkpoints.PREFIX))
    folder = Path(name.removeprefix("local-dir:")).expanduser() if name.startswith("local-dir:") else installed_folder(name)
    if (folder / CARD).is_file():
        return read_card(folder)
    known = ", ".join(["toy", DEFAULT_MODEL, *installed()])
    raise ModelError(f"model {name!r} is not installed", hint=f"run: rankclip models fetch {name}   (here now: {known})")


def find_mllm(name: str) -> Backbone:
    """Return a multimodal language model: a folder, a trained LoRA, one that was used before, or one that was fetched, by its name.

    Its card is kept among the installed models, so that the weights are hashed once and the last part of a folder's name is enough next time.
    Raises ModelError when it is nowhere, or is no such model.
    """
    name = checkpoints.RELEASED.get(name, name)
    known = installed_folder(f"{checkpoints.PREFIX}{Path(name).name}")
    trained, fetched = user_folder("data") / "heads" / name, installed_folder(name)
    if Path(name).expanduser().is_dir():
        checkpoint = checkpoints.at(Path(name).expanduser().resolve())
    elif (trained / checkpoints.ADAPTER).is_file():
        checkpoint = checkpoints.at(trained)
    elif (fetched / checkpoints.CONFIG).is_file():
        checkpoint = checkpoints.at(fetched)
    elif (known / CARD).is_file():
        extra = json.loads((known / CARD).read_text(encoding="utf-8"))["extra"]
        checkpoint = checkpoints.at(Path(extra["adapter"] or extra["base"]))
    else:
        raise ModelError(
            f"model 'mllm:{name}' is not here", hint=f"give its folder, or run: rankclip models fetch mllm:{name}   (an owner/name on the Hugging Face hub)"
        )
    if (known / CARD).is_file():
        card = read_card(known)
        if card.extra["stamps"] == checkpoint.stamps():
            return card
    row = checkpoints.row(f"{checkpoints.PREFIX}{Path(name).name}", checkpoint)
    known.mkdir(parents=True, exist_ok=True)
    (known / CARD).write_text(json.dumps({**row, "input": str(row["input"])}, indent=1) + "\n", encoding="utf-8")
    return Backbone(**row, folder=known)


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
