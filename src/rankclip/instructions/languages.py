"""Tell texts that are not English, so that a model which reads nothing else can say so instead of ordering by noise.

By other scripts; by words that order or compare in six languages, none of them an English word or a part of common names; and by function words where
they are more than the English ones. A single noun ("Hund") is not told.
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
FUNCTION = {
    name: frozenset(words.split())
    for name, words in {
        "German": "der das den dem ein eine einen einem einer und mit ohne nicht kein keine auf im ist sind aber gleiche gleichen nur von",
        "French": "le la les un une du avec et est sur mais dans même",
        "Spanish": "el los las una unos con y es en pero mismo misma",
        "Italian": "il gli uno di del della senza ma stesso stessa",
        "Portuguese": "os um uma com sem mas mesmo",
        "Dutch": "de het een met zonder maar niet",
        "Swedish": "och med utan samma på ett",
        "Polish": "jest bez ale taki sam nie",
    }.items()
}  # words that English has, too, are left out
ENGLISH = frozenset("the a an is are with without and but in on at of no not same has have more less it this that to from photo".split())
FEWEST, SHARE = 2, 0.15  # so many of the words, and this share of them, must be such words: one is in "Los Angeles"
KANA = ("HIRAGANA", "KATAKANA")
SCRIPTS = {"CJK": "Chinese", "HANGUL": "Korean"} | dict.fromkeys(KANA, "Japanese")
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
    if name := _by_function_words(words):
        return name
    scripts = [unicodedata.name(letter, "LATIN").split()[0] for word in words for letter in word]
    foreign = [name for name in scripts if name != "LATIN"]
    if 2 * len(foreign) <= len(scripts):
        return ""
    script = next((kana for kana in KANA if kana in foreign), None) or max(sorted(set(foreign)), key=foreign.count)
    return SCRIPTS.get(script, script.capitalize())


def _by_function_words(words: list[str]) -> str:
    """Name the language that has most of the words, where they are more than the English ones."""
    hits = {name: [word in known for word in words] for name, known in FUNCTION.items()}  # bool [words] for each language
    foreign = sum(map(any, zip(*hits.values(), strict=True)))
    told = foreign >= FEWEST and foreign > max(sum(word in ENGLISH for word in words), SHARE * len(words))
    return max(hits, key=lambda name: sum(hits[name])) if told else ""
