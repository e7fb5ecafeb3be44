"""rankclip rank PHOTOS "red first" --top 3"""

import sys

from rankclip import Collection

print(*Collection(sys.argv[1]).rank("red first", top=3).paths, sep="\n")
