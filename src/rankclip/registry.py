"""The one lazy seam: names of things that load on demand.

A table maps a name to "module:object"; `resolve` imports it. Nothing heavy is imported before somebody needs it, so `--help` and a
repeated query never start a model runtime. A new engine, head, format or method is one file and one row here.
"""

from __future__ import annotations

import importlib
import importlib.util
from difflib import get_close_matches
from typing import Any

from rankclip.errors import InputError, RuntimeMissing

PUBLIC = {
    "Collection": "rankclip.collection:Collection",
    "Ranking": "rankclip.types:Ranking",
    "Hit": "rankclip.types:Hit",
    "Space": "rankclip.types:Space",
    "EmbedReport": "rankclip.types:EmbedReport",
    "RankclipError": "rankclip.errors:RankclipError",
    "parse_instruction": "rankclip.instructions:parse",
    "tokenize": "rankclip.backbones.tokens:tokenize",
}
ENGINES = {
    "onnx": "rankclip.engines.onnx_engine:OnnxEngine",
    "torch": "rankclip.engines.torch_engine:TorchEngine",
    "toy": "rankclip.engines.toy:ToyEngine",
    "mllm": "rankclip.engines.mllm_engine:MllmEngine",
}
FORMATS = {
    "table": "rankclip.formats.table:write",
    "paths": "rankclip.formats.paths:write",
    "tsv": "rankclip.formats.csv_lines:write_tsv",
    "csv": "rankclip.formats.csv_lines:write_csv",
    "jsonl": "rankclip.formats.json_lines:write",
    "html": "rankclip.formats.contact_sheet:write",
}
METHODS = {
    "similarity": "rankclip.scoring:similarity_query",
    "direction": "rankclip.scoring:direction_query",
    "difference": "rankclip.contrast:difference_query",
    "adapter": "rankclip.collection.adapting:rank",
    "date": "rankclip.collection.dating:rank",
}

COMPOSERS = {
    "sum": "rankclip.composing:sum_composition",
    "slerp": "rankclip.composing:slerp_composition",
    "product": "rankclip.composing:product_composition",
    "head": "rankclip.composing:head_composition",
}

HEADS = {
    "adapter": "rankclip.heads.adapter:Adapter",
    "difference": "rankclip.heads.difference:DifferenceHead",
    "composer": "rankclip.heads.composer:ComposerHead",
    "mllm": "rankclip.engines.mllm_engine:MllmEngine",
}

PIP_LINES = {
    "torch": 'python -m pip install torch open_clip_torch',
    "open_clip": 'python -m pip install torch open_clip_torch',
    "onnxruntime": 'python -m pip install onnxruntime',
    "scipy": 'python -m pip install "rankclip[train]"',
    "pyarrow": 'python -m pip install "rankclip[parquet]"',
    "rawpy": 'python -m pip install "rankclip[raw]"',
    "transformers": 'python -m pip install "rankclip[mllm]"',
    "peft": 'python -m pip install "rankclip[mllm]"',
    "accelerate": 'python -m pip install "rankclip[mllm]"',
    "skimage": 'python -m pip install "rankclip[demo]"',
}  # fmt: skip


def resolve(table: dict[str, str], name: str, *, what: str) -> Any:
    """Import what a table's row names.

    Raises InputError for an unknown name (with the nearest valid one), RuntimeMissing when a package it needs does not load.

    >>> resolve(METHODS, "similarity", what="method").__name__
    'similarity_query'
    """
    check_name(table, name, what=what)
    module, _, attribute = table[name].partition(":")
    return getattr(load(module), attribute)


def check_name(table: dict[str, str], name: str, *, what: str) -> None:
    """Raise InputError, with the nearest valid spelling, unless the table has the name."""
    if name not in table:
        near = get_close_matches(name, table, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"valid: {', '.join(table)}"
        raise InputError(f"unknown {what} {name!r}", hint=hint)


def load(module: str) -> Any:
    """Import a module; turn a missing or broken runtime into RuntimeMissing with the exact pip line."""
    try:
        return importlib.import_module(module)
    except (ImportError, OSError, RuntimeError) as error:  # a broken torch or torchvision raises any of the three
        name = (getattr(error, "name", None) or "").partition(".")[0]
        if name.startswith("rankclip"):
            raise
        package = name if name in PIP_LINES else _needed_by(module)
        raise RuntimeMissing(
            f"this needs {package}, which does not load here ({_first_line(error)})", hint=f"run: {PIP_LINES.get(package, package)}"
        ) from error


def _needed_by(module: str) -> str:
    return "onnxruntime" if "onnx" in module else "torch"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def available(package: str) -> bool:
    """Tell whether a package is installed, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False
