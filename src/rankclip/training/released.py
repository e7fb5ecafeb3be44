"""Take over a checkpoint that the ranking-aware adapter's authors released: their names -> ours, then a head pack.

Names as in the public repository uynaes/RankingAwareCLIP, file clip_model_adapter.py (commit 05fc5c5). Loading is weights-only.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rankclip.collection import Collection
from rankclip.engines import torch_engine
from rankclip.engines.base import text_states
from rankclip.errors import ModelError
from rankclip.heads import packs
from rankclip.heads.adapter import GRAPH, Task
from rankclip.heads.packs import HeadCard, Pack
from rankclip.training import adapter
from rankclip.training.labelled import slug
from rankclip.training.models.adapter import AdapterFull, Config

BLOCK = {"ln_1": "norm1", "ln_2": "norm2", "ln_1_kv": "norm_text", "attn.out_proj": "attention.out", "mlp.c_fc": "mlp.0", "mlp.c_proj": "mlp.2"}
PREFIXES = {
    "crossmodal_block.ln_final": "fusion.norm",
    "reg_ln": "regression.norm",
    "regressor.output_head": "regression.mlp.6",
    "regressor.pre_linear_block": "regression.mlp",
    "pair_regressor.output_head": "pairs.head.10",
    "pair_regressor.pre_linear_block": "pairs.head",
    "reg_token_pooler.q_proj": "pairs.query",
    "reg_token_pooler.kv_proj": "pairs.key",
    "reg_token_pooler.out_proj": "pairs.out",
    "reg_token_pooler.ln_q": "pairs.norm_query",
    "reg_token_pooler.ln_kv": "pairs.norm_key",
    "post_fuse_block.layers": "post",
}
WHOLE = {"learnable_text_tokens": "fusion.prompts", "crossmodal_block.text_projection": "fusion.out", "reg_tokens": "pairs.relational"}
BLOCKS = re.compile(r"crossmodal_block\.(resblocks|cross_attn)\.(\d+)\.(.+)")


def convert(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the adapter's tensors; packed attention inputs are cut into query, key and value.

    Raises ModelError for a checkpoint without an adapter, or with a tensor that has no place.
    """
    ours: dict[str, Tensor] = {}
    prefix = next((name[: name.index("adapter.") + 8] for name in found if "adapter." in name), None)
    if prefix is None:
        raise ModelError("the checkpoint holds no adapter", hint="give a file that the authors of the ranking-aware adapter released")
    for name, value in found.items():
        if name.startswith(prefix):
            ours |= renamed(name.removeprefix(prefix), value)
    return ours


def renamed(name: str, value: Tensor) -> dict[str, Tensor]:
    """Our name (or three, for packed attention inputs) of one tensor."""
    if name in WHOLE:
        return {WHOLE[name]: value}
    if (match := BLOCKS.fullmatch(name)) is not None:
        stack, number, rest = match.groups()
        start = f"fusion.{'selves' if stack == 'resblocks' else 'crosses'}.{number}"
        if rest.startswith("attn.in_proj_"):
            kind = rest.removeprefix("attn.in_proj_")
            return {f"{start}.attention.{part}.{kind}": third for part, third in zip(("query", "key", "value"), value.chunk(3), strict=True)}
        module, _, leaf = rest.rpartition(".")
        if module in BLOCK:
            return {f"{start}.{BLOCK[module]}.{leaf}": value}
    for theirs, our in PREFIXES.items():
        if name.startswith(theirs + "."):
            return {our + name.removeprefix(theirs): value}
    raise ModelError(f"the checkpoint's tensor {name!r} has no place in the adapter", hint="only the released dual-head adapters are known")


def read(path: Path) -> AdapterFull:
    """Read a checkpoint (weights only) into the released architecture; every tensor must fit."""
    try:
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's own errors have no common base
        raise ModelError(f"{path}: cannot be read as weights only ({str(error).splitlines()[0][:120]})", hint="give the released .pt file itself") from error
    tensors = convert(found.get("state_dict", found))
    model = AdapterFull(Config.released(tensors["fusion.out"].shape[0]))
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelError(f"{path}: {str(error).splitlines()[-1].strip()[:200]}", hint="only the released dual-head adapters are known") from error
    return model.eval()


def install(path: Path, collection: Collection, instruction: str, name: str) -> Pack:
    """Write the adapter as a head pack for the collection's backbone, which must give tokens of its width.

    An open_clip model gives patch tokens from then on: photos that were embedded before need `embed --force`.
    """
    model, backbone = read(path), collection.backbone
    silent = not backbone.patches and "architecture" in backbone.extra
    backbone = torch_engine.with_tokens(backbone) if silent else backbone
    states, mask = text_states(collection.text_engine, [instruction])  # [1, S, V]
    width = model.config.width
    if not (backbone.token_width == states.shape[-1] == width):
        raise ModelError(
            f"{path}: an adapter of width {width}; {backbone.name} gives image tokens of {backbone.token_width} and text tokens of {states.shape[-1]}",
            hint="name the backbone it was trained on: --model NAME",
        )
    graph = adapter.export_graph(model, np.zeros((2, backbone.patches, width), np.float32), states[0], mask[0], np.zeros((2, 7), np.float32),
                                 np.zeros((2, backbone.width), np.float32))  # fmt: skip
    task = Task(slug(instruction), instruction)
    config = {"tasks": [asdict(task)], "size": "released", "fact_mean": [], "parameters": sum(p.numel() for p in model.parameters())}
    card = HeadCard(
        name, "adapter", backbone.name, backbone.space.fingerprint, config, licence="see the authors' repository", data=("as published by the authors",)
    )
    if silent:
        torch_engine.declare_tokens(backbone)
    return packs.write(packs.user_packs() / name, card, {GRAPH: graph})
