"""Fetching backbones: a short list of recommended ones, and anything open_clip publishes on the Hugging Face hub.

Only `models fetch` and an explicitly named model come here; with --offline nothing does. Downloads resume, and what arrived is checked
against the checksum that the hub states.
"""

from __future__ import annotations

import hashlib
import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankclip.backbones.checkpoints import PREFIX, RELEASED
from rankclip.backbones.specs import CARD, installed_folder
from rankclip.errors import InputError, ModelError, NetworkError
from rankclip.registry import load
from rankclip.types import InputSpec

MLLM_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")  # no code and no pickles
CHECKPOINT, CONFIG = "open_clip_model.safetensors", "open_clip_config.json"
HUB = "https://huggingface.co"
REACH_SECONDS = 5.0  # to find out whether the hub answers at all


@dataclass(frozen=True, slots=True)
class Recommended:
    """A backbone worth fetching. Figures as its makers publish them: ImageNet top-1, COCO text-to-image R@1, GMAC of an image."""

    name: str
    repository: str
    megabytes: int
    imagenet: float
    coco: float
    gmac: float
    licence: str


RECOMMENDED = (
    Recommended("ViT-B-32-256/datacomp_s34b_b86k", "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K", 605, 72.8, 39.9, 5.8, "MIT"),
    Recommended("ViT-B-32/laion2b_s34b_b79k", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", 605, 66.6, 39.3, 4.4, "MIT"),
    Recommended("ViT-B-16/datacomp_xl_s13b_b90k", "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K", 599, 73.5, 40.2, 17.6, "MIT"),
    Recommended("ViT-L-14/datacomp_xl_s13b_b90k", "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K", 1711, 79.2, 45.7, 81.0, "MIT"),
    Recommended("convnext_large_d_320/laion2b_s29b_b131k_ft_soup", "laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup", 1407, 76.9, 48.3, 70.1, "MIT"),
    Recommended("MobileCLIP2-S2/dfndr2b", "timm/MobileCLIP2-S2-OpenCLIP", 398, 77.2, 48.8, 7.8, "Apple, research only"),
)
DEFAULT = RECOMMENDED[0]


def choose(name: str) -> Recommended:
    """Resolve "recommended", a recommended name, a hub repository ("owner/name") of an open_clip model, or "mllm:" and a repository of transformers.

    Raises InputError for anything else, with the nearest recommended name.
    """
    from difflib import get_close_matches

    if name == "recommended":
        return DEFAULT
    if name.startswith(PREFIX):
        repository = RELEASED.get(name.removeprefix(PREFIX), name.removeprefix(PREFIX))
        if repository.count("/") != 1:
            raise InputError(f"unknown model {name!r}", hint=f"give mllm:OWNER/NAME, or one of: {', '.join(PREFIX + one for one in RELEASED)}")
        return Recommended(name, repository, 0, 0.0, 0.0, 0.0, "see its page")
    for one in RECOMMENDED:
        if name in (one.name, one.name.split("/")[0], one.repository):
            return one
    names = {short: one.name for one in RECOMMENDED for short in (one.name, one.name.split("/")[0])}
    near = [names[match] for match in get_close_matches(name, names, 1, cutoff=0.75)]
    if near or name.count("/") != 1:
        raise InputError(
            f"unknown model {name!r}",
            hint=f"did you mean {near[0]!r}?" if near else "rankclip models list shows the recommended ones; others by owner/repository",
        )
    return Recommended(name, name, 0, 0.0, 0.0, 0.0, "see its page")


def endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", HUB).rstrip("/")


def reach(offline: bool) -> None:
    """Make sure that the hub can be asked, within seconds.

    Raises NetworkError.
    """
    if offline:
        raise NetworkError("offline: a model cannot be fetched", hint="leave out --offline (or unset HF_HUB_OFFLINE); rankclip-mini needs no network")
    try:
        urllib.request.urlopen(urllib.request.Request(endpoint(), method="HEAD"), timeout=REACH_SECONDS).close()
    except urllib.error.HTTPError:
        pass  # it answers
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise NetworkError(f"{endpoint()} cannot be reached ({reason})", hint="rankclip-mini works without a network; try again later for others") from error


def fetch(name: str, *, offline: bool = False) -> Path:
    """Download a backbone, verify it, and write its card; returns its folder. What is there already is kept, what is half there is resumed."""
    chosen = choose(name)
    reach(offline)
    folder = installed_folder(chosen.name)
    folder.mkdir(parents=True, exist_ok=True)
    hub = load("huggingface_hub")
    config = json.loads(_download(hub, chosen, CONFIG, folder).read_text(encoding="utf-8"))
    check_supported(chosen.name, config)
    checkpoint = _download(hub, chosen, CHECKPOINT, folder)
    digest = sha256(checkpoint)
    stated = _stated_digest(hub, chosen)
    if stated and stated != digest:
        checkpoint.unlink()
        raise NetworkError(
            f"{chosen.name}: what arrived is not what the hub states (sha256 {digest[:12]}, stated {stated[:12]})", hint="run the same command again"
        )
    (folder / CARD).write_text(json.dumps(card(chosen, config, digest), indent=1) + "\n")
    return folder


def fetch_mllm(name: str, *, offline: bool = False) -> Path:
    """Download a multimodal language model as it is on the hub; returns its folder. What is half there is resumed. Raises NetworkError."""
    chosen = choose(name)
    reach(offline)
    folder = installed_folder(chosen.repository)
    hub = load("huggingface_hub")
    try:
        hub.snapshot_download(chosen.repository, local_dir=folder, allow_patterns=list(MLLM_FILES), etag_timeout=REACH_SECONDS, endpoint=endpoint())
    except (OSError, ValueError, hub.errors.HfHubHTTPError) as error:
        raise NetworkError(
            f"{chosen.repository}: {str(error).splitlines()[0][:160]}", hint="run the same command again: it goes on where it stopped"
        ) from error
    return folder


def check_supported(name: str, config: dict[str, Any]) -> None:
    """Refuse what our tokenizer or preprocessing cannot serve."""
    text = config["model_cfg"].get("text_cfg", {})
    mode = config.get("preprocess_cfg", {}).get("resize_mode", "shortest")
    if text.get("hf_tokenizer_name") or text.get("vocab_size", 49408) != 49408:
        raise ModelError(f"{name} needs a tokenizer that rankclip does not have", hint="take one of: rankclip models list")
    if mode not in ("shortest", "squash"):
        raise ModelError(f"{name} needs the preprocessing {mode!r}, which rankclip does not have", hint="take one of: rankclip models list")


def card(chosen: Recommended, config: dict[str, Any], digest: str) -> dict[str, Any]:
    """Describe an open_clip model as a backbone."""
    model, pre = config["model_cfg"], config.get("preprocess_cfg", {})
    size = pre.get("size") or model["vision_cfg"].get("image_size", 224)
    spec = InputSpec(
        size[0] if isinstance(size, list) else size, "squash" if pre.get("resize_mode") == "squash" else "crop", pre.get("interpolation", "bicubic")
    )
    found: dict[str, Any] = {"name": chosen.name, "weights": digest, "input": str(spec), "width": model["embed_dim"], "licence": chosen.licence}
    found |= {name: list(pre[name]) for name in ("mean", "std") if name in pre}
    found["context"] = model.get("text_cfg", {}).get("context_length", 77)
    known = chosen in RECOMMENDED
    found["extra"] = {
        "architecture": chosen.name.split("/")[0] if known else chosen.name.replace("/", "--"),
        "checkpoint": CHECKPOINT,
        "model_cfg": model,
        "fixed_context": True,
    }
    return found


def _download(hub: Any, chosen: Recommended, file: str, folder: Path) -> Path:
    try:
        return Path(hub.hf_hub_download(chosen.repository, file, local_dir=folder, etag_timeout=REACH_SECONDS, endpoint=endpoint()))
    except (OSError, ValueError, hub.errors.HfHubHTTPError) as error:
        raise NetworkError(
            f"{chosen.repository}/{file}: {str(error).splitlines()[0][:160]}", hint="run the same command again: it goes on where it stopped"
        ) from error


def _stated_digest(hub: Any, chosen: Recommended) -> str:
    """The sha256 that the hub states for the checkpoint, empty when it states none."""
    url = f"{endpoint()}/{chosen.repository}/resolve/main/{CHECKPOINT}"
    try:
        etag = hub.get_hf_file_metadata(url, timeout=REACH_SECONDS, endpoint=endpoint()).etag or ""
    except (OSError, ValueError, hub.errors.HfHubHTTPError):
        return ""
    return etag if len(etag) == 64 else ""


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
