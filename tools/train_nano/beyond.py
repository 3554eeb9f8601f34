"""Clauses that ask for what nano can not do, and clauses that do not, from `beyond.yaml` and the motions' wordings."""

from __future__ import annotations

import random
import re
import string
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from i2v.families.nano.clauses import clauses
from i2v.families.nano.life import LIVING
from i2v.families.nano.reader import CAMERA
from tools.train_nano.prompts import STRENGTHS, phrase, sentence, wordings

LANGUAGES = ("en", "zh")
UNHEARD_OF = 0.35  # of what is beyond has a verb that means nothing
UNNAMED = 0.3  # of the things that are named are called by a word that means nothing
DOERS = (("who", "acts", 0.5), ("machines", "runs", 0.15), ("things", "happens", 0.12))
KEPT_APART = 8  # every eighth phrase sets the threshold and is not trained on
# The sounds of words that nobody knows.
_BEGINS = "b bl br c ch cl cr d dr f fl fr g gl gr h j k l m n p pl pr qu r s sc sh sk sl sm sn sp st str sw t tr v w z"
_MIDDLES = "a e i o u ai ea ee oa oo ou"
_ENDS = "b ck d dge ft g l ll m mp n nd ng nk nt p r rk rl sh sp ss st t tch ve ze x"
_VOWEL, _CONSONANT = "[aeiou]", "[^aeiouwxy]"


@cache
def phrases() -> dict[str, Any]:
    return yaml.safe_load(Path(__file__).with_name("beyond.yaml").read_text(encoding="utf-8"))


def beyond(language: str, rng: random.Random, *, apart: bool = False) -> str:
    """A clause that asks for something nano can not do; with `apart`, of the phrases that are not trained on."""
    known, pick = phrases()[language], rng.random()
    if rng.random() < UNHEARD_OF and not apart:
        return _unheard_of(known, language, rng)
    for who, does, share in DOERS:
        if pick < share:
            return _doing(known, who, does, rng, apart)
        pick -= share
    if pick < 0.03:
        return _typed_at_random(language, rng)
    names = ("events", "orders", "nonsense")
    part = rng.choices(names, [len(known[name]) for name in names])[0]
    return rng.choice(_part(known[part], apart))


def _doing(known: dict[str, list[str]], who: str, does: str, rng: random.Random, apart: bool) -> str:
    return _framed(known, rng.choice(known[who]), rng.choice(_part(known[does], apart)), rng)


def _framed(known: dict[str, list[str]], subject: str, verb: str, rng: random.Random) -> str:
    frames = [frame for frame in known["frames"] if "{s}" in frame or verb not in known["not_alone"]]
    several = subject in ("they", "everyone") or (subject.endswith("s") and subject != "he's")
    forms = {"v": verb, "vs": verb if several else third_person(verb), "ving": continuous(verb)}
    return rng.choice(frames).format(s=subject, **forms)


def _unheard_of(known: dict[str, list[str]], language: str, rng: random.Random) -> str:
    """A clause around a verb that means nothing."""
    verb, order = new_word(language, rng), rng.random() < 0.4
    frame = rng.choice(known["new_orders" if order else "new_acts"])
    if order:
        return _filled(frame.replace("{vs}", third_person(verb)).replace("{v}", verb), known, language, rng)
    who = rng.choice(known[rng.choice(("who", "machines", "things"))])
    if rng.random() < 0.4:
        who = _filled("the {n}" if language == "en" else "{n}", known, language, rng)
    return _framed(known, who, _filled(frame.replace("{v}", verb), known, language, rng), rng)


def new_word(language: str, rng: random.Random) -> str:
    """A word that means nothing, as a language might have it."""
    if language == "zh":
        pool = characters()
        return "".join(rng.choice(pool) for _ in range(rng.choice((1, 2, 2))))
    begins, middles, ends = (sounds.split() for sounds in (_BEGINS, _MIDDLES, _ENDS))
    syllable = rng.choice(begins) + rng.choice(middles) + rng.choice(ends)
    return syllable if rng.random() < 0.7 else rng.choice(begins) + rng.choice(middles) + syllable


@cache
def characters() -> list[str]:
    """The Chinese characters of all phrases."""
    trained = [part for name, part in phrases()["zh"].items() if not name.startswith("held_out")]
    return sorted({c for c in str(trained) if "\u4e00" <= c <= "\u9fff"})


def _filled(frame: str, known: dict[str, list[str]], language: str, rng: random.Random, apart: bool = False) -> str:
    """The frame with words in its places, a different one in each; some of the things have names nobody knows."""

    def word(place: re.Match[str]) -> str:
        if place[1] == "n" and not apart and rng.random() < UNNAMED:
            return new_word(language, rng)
        return rng.choice(_part(known[place[1]], apart))

    return re.sub(r"{(\w)}", word, frame)


def fine(language: str, rng: random.Random, *, apart: bool = False) -> str:
    """A clause that asks for a motion nano has, or for nothing."""
    known, pick = phrases()[language], rng.random()
    if pick < 0.2:
        return rng.choice(_part(known["can"], apart))
    if pick < 0.24:
        return rng.choice(wordings()["subjects"][language])
    if pick < 0.5:
        return rng.choice(clauses(_filled(rng.choice(known["calm"]), known, language, rng, apart)))
    if pick < 0.7:
        return rng.choice(clauses(_filled(rng.choice(known["can_about"]), known, language, rng, apart)))
    motion = rng.choice((*CAMERA, *LIVING))
    text, _ = phrase(motion, rng.choice(list(STRENGTHS)), language, rng)
    around = {name[0]: rng.choice(wordings()[name][language]) for name in ("subjects", "styles")}
    framed = rng.choice(wordings()["frames"][language]).format(m=text, s=around["s"], style=around["s"])
    return rng.choice(clauses(framed))


def _part(choices: list[str], apart: bool) -> list[str]:
    """Those set apart, or the others."""
    chosen = [one for one in choices if (zlib.crc32(one.encode()) % KEPT_APART == 0) == apart]
    return chosen or choices


def _typed_at_random(language: str, rng: random.Random) -> str:
    if language == "zh" and rng.random() < 0.5:
        return "".join(chr(rng.randrange(0x4E00, 0x9FA5)) for _ in range(rng.randint(4, 8)))
    letters = rng.choice((string.ascii_lowercase, "asdfghjkl", "qwertzuiop", string.digits))
    return " ".join("".join(rng.choices(letters, k=rng.randint(3, 8))) for _ in range(rng.randint(1, 3)))


def third_person(verb: str) -> str:
    """ "wag its tail" becomes "wags its tail"; Chinese stays as it is."""
    first, space, rest = verb.partition(" ")
    if not first.isascii():
        return verb
    if first == "have":
        first = "has"
    elif re.search("(s|sh|ch|x|z|o)$", first):
        first += "es"
    elif re.search("[^aeiou]y$", first):
        first = f"{first[:-1]}ies"
    else:
        first += "s"
    return f"{first}{space}{rest}"


def continuous(verb: str) -> str:
    """ "wag its tail" becomes "wagging its tail"; Chinese stays as it is."""
    first, space, rest = verb.partition(" ")
    if not first.isascii():
        return verb
    if first.endswith("ie"):
        first = f"{first[:-2]}y"
    elif re.search("[^e]e$", first):
        first = first[:-1]
    elif re.fullmatch(f"[^aeiou]*{_VOWEL}{_CONSONANT}", first):
        first += first[-1]
    return f"{first}ing{space}{rest}"


def held_out_beyond(language: str) -> list[str]:
    """The sentences nano can not do that are never trained on."""
    return [one.replace("*", "") for one in phrases()["held_out"][language]]


def held_out_verbs(language: str) -> list[str]:
    """The words that are marked in them."""
    return [verb for one in phrases()["held_out"][language] for verb in re.findall(r"\*(.+?)\*", one)]


def held_out_fine(language: str, count: int = 200) -> list[str]:
    """Sentences it can do that are never trained on: those written by hand, and others from the held-out wordings."""
    rng, found = random.Random(5), list(phrases()["held_out_can"][language])
    while len(found) < count:
        camera, living = rng.choice((*CAMERA, None)), rng.choice((*LIVING, None, None))
        found.append(sentence(camera, living, rng, held_out=True, language=language, nonsense=False).text)
    return found
