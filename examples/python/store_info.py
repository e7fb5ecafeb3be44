"""rankclip store info"""

from rankclip import Collection
from rankclip.store.store import Store
from rankclip.store.upkeep import info

with Store.open(Collection().folder) as store:
    print(info(store).files)
