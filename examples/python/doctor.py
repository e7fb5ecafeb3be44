"""rankclip doctor --quick"""

from rankclip.collection.doctor import examine
from rankclip.settings import resolve

print(*(f"{finding.what}: {finding.state}" for finding in examine(resolve().settings, quick=True)), sep="\n")
