"""rankclip store prune"""

from rankclip import Collection
from rankclip.store.store import Store
from rankclip.store.upkeep import prune

with Store.open(Collection().folder, write=True) as store:
    print(len(prune(store)))
