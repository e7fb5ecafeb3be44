"""rankclip diff A B --ask "which is redder?" """

import sys

from rankclip import Collection

found = Collection().diff(sys.argv[1], sys.argv[2], ask="which is redder?")
print(found.answer, *(one.text for one in found.attributes), sep="\n")
