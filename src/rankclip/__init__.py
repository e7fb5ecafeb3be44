"""rankclip puts a local photo collection in the order a sentence asks for.

    from rankclip import Collection
    for hit in Collection("./photos").rank("older faces first", top=20):
        print(hit.rank, hit.path)

Names load on demand: `import rankclip` starts neither NumPy nor a model runtime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rankclip import registry

__version__ = "0.1.0"
__all__ = ["Collection", "EmbedReport", "Hit", "RankclipError", "Ranking", "Space", "__version__", "parse_instruction", "tokenize"]

if TYPE_CHECKING:
    from rankclip.backbones.tokens import tokenize
    from rankclip.collection import Collection
    from rankclip.errors import RankclipError
    from rankclip.instructions import parse as parse_instruction
    from rankclip.types import EmbedReport, Hit, Ranking, Space


def __getattr__(name: str) -> Any:
    if name not in registry.PUBLIC:
        raise AttributeError(f"module 'rankclip' has no attribute {name!r}")
    return registry.resolve(registry.PUBLIC, name, what="name")


def __dir__() -> list[str]:
    return sorted(__all__)
