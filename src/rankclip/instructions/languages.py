"""Tell texts that are not English, so that a model which reads nothing else can say so instead of ordering by noise.

By other scripts, and by words that order or compare in six languages; none of them is an English word or a part of common names. A single noun
("Hund") is not told.
"""

from __future__ import annotations

import re
import unicodedata

SAID = {
    "German": "nach zuerst zuletzt sortiere sortieren ordne ordnen älteste ältesten ältere älterer jüngste jüngsten jüngere hellste hellsten dunkelste "
              "dunkelsten schärfste schärfsten schönste schönsten größte größten neueste neuesten meisten wenigsten absteigend aufsteigend gesichter leute",
    "French": "trier trie triez classer d'abord vieux jeune jeunes visages nettes floues croissant décroissant meilleures du_plus au_plus",
    "Spanish": "ordenar ordena primero primeros primera más menos viejo viejos vieja viejas joven jóvenes mejores oscuro personas ascendente descendente",
    "Italian": "ordina ordinare più meno vecchio vecchi giovane giovani volti crescente decrescente migliori",
    "Portuguese": "ordene mais velho velhos velha velhas jovem jovens primeiro primeiros melhores",
    "Dutch": "sorteer sorteren naar eerst laatst oudste jongste scherpste helderste donkerste gezichten oplopend aflopend",
}  # fmt: skip
SCRIPTS = {"CJK": "Chinese", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean"}
WORDS = {word.replace("_", " "): language for language, words in reversed(SAID.items()) for word in words.split()}


def language(text: str) -> str:
    """Name the language or script that a text seems to be in, "" where it may be English.

    >>> language("von alt nach jung"), language("du plus vieux au plus jeune"), language("от старых к молодым"), language("older faces first")
    ('German', 'French', 'Cyrillic', '')
    """
    words = re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", unicodedata.normalize("NFC", text).lower())
    for one in (*words, *(" ".join(pair) for pair in zip(words, words[1:], strict=False))):
        if one in WORDS:
            return WORDS[one]
    scripts = [unicodedata.name(letter, "LATIN").split()[0] for word in words for letter in word]
    foreign = [name for name in scripts if name != "LATIN"]
    if 2 * len(foreign) <= len(scripts):
        return ""
    script = max(sorted(set(foreign)), key=foreign.count)
    return SCRIPTS.get(script, script.capitalize())
