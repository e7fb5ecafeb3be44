"""rankclip compose-search photos photos/red.png "the same but blue" --top 3"""

from rankclip import Collection

print(*Collection("photos").compose_search("photos/red.png", "the same but blue", top=3).paths, sep="\n")
