"""rankclip models info toy"""

from rankclip.collection.models import info

print(info("toy")["embedding"])
