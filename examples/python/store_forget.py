"""rankclip store forget PHOTOS"""

import sys

from rankclip import Collection
from rankclip.store.store import Store
from rankclip.store.upkeep import forget

with Store.open(Collection().folder, write=True) as store:
    print(forget(store, sys.argv[1:]))
