"""rankclip classify PHOTOS --classes classes.txt"""

import sys

from rankclip import Collection

found = Collection(sys.argv[1]).classify(["red", "green", "blue"])
print(*(f"{found.classes[best]} {path}" for best, path in zip(found.best, found.paths, strict=True)), sep="\n")
