"""rankclip models list"""

from rankclip.collection.models import rows

print(*(row.name for row in rows()), sep="\n")
