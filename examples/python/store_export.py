"""rankclip store export embeddings.npz"""

from pathlib import Path

from rankclip import Collection
from rankclip.store.store import Store
from rankclip.store.upkeep import export

with Store.open(Collection().folder) as store:
    print(export(store, Collection().backbone.space, Path("embeddings.npz")))
