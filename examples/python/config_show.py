"""rankclip config show"""

from rankclip.settings import resolve

print(resolve().settings.model)
