"""rankclip config path"""

from rankclip.settings import config_file

print(config_file())
