"""rankclip store compact"""

from rankclip import Collection
from rankclip.store.store import Store
from rankclip.store.upkeep import compact

with Store.open(Collection().folder, write=True) as store:
    print(compact(store))
