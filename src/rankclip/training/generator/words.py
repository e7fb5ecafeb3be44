"""The closed word lists of words.txt, and the forms of words: singular, plural, -ing, article."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

VOWELS = "aeiou"
DOUBLING = re.compile(r"^[^aeiou]*[aeiou][bdgmnprt]$")  # run -> running, but play -> playing
IRREGULAR_VERBS = {  # base -> past and participle
    "run": "ran", "sit": "sat", "stand": "stood", "lie": "lay lain", "ride": "rode ridden", "drive": "drove driven", "fly": "flew flown", "swim": "swam swum",
    "hold": "held", "catch": "caught", "hit": "hit", "eat": "ate eaten", "drink": "drank drunk", "make": "made", "build": "built", "draw": "drew drawn",
    "write": "wrote written", "wear": "wore worn", "throw": "threw thrown", "swing": "swung", "take": "took taken", "give": "gave given", "go": "went gone",
    "come": "came", "leave": "left", "hang": "hung", "fall": "fell fallen", "lead": "led", "bring": "brought", "put": "put", "set": "set", "stick": "stuck",
    "get": "got", "have": "had", "be": "is are was were been am", "do": "did done", "see": "saw seen", "keep": "kept", "let": "let", "blow": "blew blown",
    "sing": "sang sung", "read": "read", "speak": "spoke spoken", "begin": "began begun", "bite": "bit bitten", "hide": "hid hidden", "shoot": "shot",
    "sell": "sold", "buy": "bought", "win": "won", "lose": "lost", "sleep": "slept", "bend": "bent", "feed": "fed", "sink": "sank sunk", "rise": "rose risen",
    "spin": "spun", "kneel": "knelt", "leap": "leapt", "dig": "dug", "cut": "cut", "shut": "shut", "meet": "met", "tear": "tore torn", "wake": "woke woken",
}  # fmt: skip


@cache
def sections() -> dict[str, str]:
    """Return the text of each section of words.txt, comments removed."""
    text = resources.files(__package__).joinpath("words.txt").read_text(encoding="utf-8")
    text = re.sub(r"#.*", "", text)
    parts = re.split(r"^\[(\w+)\]$", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@cache
def words(section: str) -> frozenset[str]:
    """Return the words of a section; `_` joins the words of a phrase with hyphens."""
    return frozenset(sections()[section].replace("_", "-").split())


@cache
def scale(section: str) -> dict[str, int]:
    """Return word -> step of a section whose lines are ordered; a word on two lines keeps the first."""
    found: dict[str, int] = {}
    for step, line in enumerate(line for line in sections()[section].splitlines() if line.strip()):
        for word in line.split():
            found.setdefault(word, step)
    return found


@cache
def table(section: str) -> dict[str, str]:
    """Return the `word=value` entries of a section."""
    return dict(entry.split("=", 1) for entry in sections()[section].split())


@dataclass(frozen=True, slots=True)
class Range:
    """How many there may be, both ends included."""

    low: int
    high: int

    def joined(self, other: Range) -> Range:
        return Range(min(self.low, other.low), max(self.high, other.high))


@cache
def numbers() -> dict[str, Range]:
    return {word: Range(*map(int, value.split("-"))) for word, value in table("numbers").items()}


# ---------------------------------------------------------------- nouns


@cache
def singular(noun: str) -> str:
    """Return the singular.

    >>> singular("dogs"), singular("benches"), singular("women"), singular("grass"), singular("berries")
    ('dog', 'bench', 'woman', 'grass', 'berry')
    """
    stem, dash, last = noun.rpartition("-")
    if dash:
        return f"{stem}-{singular(last)}" if last else noun
    if noun in table("irregular_plurals"):
        return table("irregular_plurals")[noun]
    if noun in words("not_plural") or len(noun) < 4 or not noun.endswith("s") or noun.endswith(("ss", "us", "is")):
        return noun
    if noun.endswith("men"):
        return noun[:-3] + "man"
    if noun.endswith("ies"):
        return noun[:-3] + "y"
    return noun[:-2] if noun.endswith(("ches", "shes", "xes", "sses", "zzes")) else noun[:-1]


def is_plural(noun: str) -> bool:
    return singular(noun) != noun or noun in ("people", "police", "cattle")


@cache
def _plurals() -> dict[str, str]:
    found: dict[str, str] = {}
    for many, one in table("irregular_plurals").items():
        found.setdefault(one, many)
    return found


def plural(noun: str) -> str:
    """Return the plural of a singular.

    >>> plural("dog"), plural("bench"), plural("woman"), plural("berry"), plural("boy")
    ('dogs', 'benches', 'women', 'berries', 'boys')
    """
    if noun in _plurals():
        return _plurals()[noun]
    if noun in words("not_plural") and singular(noun + "es") != noun:
        return noun
    if noun.endswith("man") and noun not in ("human", "german", "caiman"):
        return noun[:-3] + "men"
    if noun.endswith("y") and len(noun) > 2 and noun[-2] not in VOWELS:
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "z", "ch", "sh")) else "s")


def article(noun: str) -> str:
    """Return the noun with a or an, or bare where it has no singular.

    >>> article("dog"), article("umbrella"), article("jeans"), article("unicycle")
    ('a dog', 'an umbrella', 'jeans', 'a unicycle')
    """
    if noun in words("mass") or (noun in words("not_plural") and noun.endswith("s") and not noun.endswith("ss")):
        return noun
    silent = noun.startswith(("hour", "honest", "heir"))
    vowel = noun[:1] in VOWELS and not re.match(r"(?:uni(?!n)|use|eur|one|ut)", noun)
    return f"{'an' if vowel or silent else 'a'} {noun}"


# ---------------------------------------------------------------- verbs


def ing(base: str) -> str:
    """Return the -ing form.

    >>> ing("run"), ing("ride"), ing("play"), ing("lie"), ing("see")
    ('running', 'riding', 'playing', 'lying', 'seeing')
    """
    if base in ("lie", "die", "tie"):
        return base[:-2] + "ying"
    if base.endswith("e") and not base.endswith(("ee", "ye", "oe")) and base != "be":
        return base[:-1] + "ing"
    return base + (base[-1] if DOUBLING.match(base) or base in ("squat", "unwrap") else "") + "ing"


def _forms(base: str) -> dict[str, str]:
    """Return form -> which: base, s, ed, ing."""
    third = base[:-1] + "ies" if base.endswith("y") and base[-2:-1] not in VOWELS else base + ("es" if base.endswith(("s", "x", "z", "ch", "sh", "o")) else "s")
    doubled = base + base[-1] if DOUBLING.match(base) else base
    past = base[:-1] + "ied" if base.endswith("y") and base[-2:-1] not in VOWELS else doubled + ("d" if base.endswith("e") else "ed")
    found = {base: "base", third: "s", ing(base): "ing"}
    for form in IRREGULAR_VERBS.get(base, past).split():
        found.setdefault(form, "ed")
    return found


@dataclass(frozen=True, slots=True)
class VerbForm:
    """A form of a verb: which one, and the verb's -ing form."""

    which: str  # base | s | ed | ing
    state: str


@cache
def verbs() -> dict[str, VerbForm]:
    """Return every form of every listed verb."""
    found: dict[str, VerbForm] = {}
    for base in sorted(words("verbs")):
        for form, which in _forms(base).items():
            found.setdefault(form, VerbForm(which, ing(base)))
    return found


# no action that tells two photos apart: grammar, and what every caption may say of anybody
EMPTY_STATES = frozenset(
    (
        "being having doing getting using showing wearing taking making going putting looking posing appearing seeming including featuring containing "
        "trying attempting beginning "
        "starting preparing displaying letting keeping surrounding lining covering filling facing topping wining "
        "giving belonging following seeing enjoying viewing "
    ).split()
)


def state_of(word: str) -> str:
    """Return the -ing form of a word that is a form of a verb, or of an unlisted word in -ing; else an empty text.

    >>> state_of("runs"), state_of("whirling"), state_of("building"), state_of("dog")
    ('running', 'whirling', '', '')
    """
    if word in words("not_verbs"):
        return ""
    known = verbs().get(word)
    if known is not None:
        return known.state
    return word if word.endswith("ing") and len(word) > 5 else ""


def lemma(word: str) -> str:
    """Return one form for all forms of a word: what two captions are compared by."""
    return state_of(word) or singular(word)
