"""rankclip store verify"""

from rankclip import Collection
from rankclip.store.store import Store
from rankclip.store.upkeep import verify

with Store.open(Collection().folder) as store:
    print(verify(store).sound)
