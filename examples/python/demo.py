"""rankclip demo DIR (the photos and one of its rankings)"""

import sys
from pathlib import Path

from rankclip import Collection
from rankclip.photos.samples import make_demo

make_demo(Path(sys.argv[1]))
print(*Collection(sys.argv[1]).rank("from dark to bright", top=3).paths, sep="\n")
