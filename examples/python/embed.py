"""rankclip embed PHOTOS"""

import sys

from rankclip import Collection

print(Collection(*sys.argv[1:]).embed().new)
