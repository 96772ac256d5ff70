"""Writes text_metrics_golden.json: what the Python packages say about pairs of texts, and NLTK's stems.

    pip install sacrebleu==2.6.0 nltk==3.10.4 rouge-score==0.1.2 rapidfuzz==3.14.6
    python tests/graders/data/make_text_metrics.py
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from pathlib import Path

import sacrebleu
from nltk.stem.porter import PorterStemmer
from nltk.translate.gleu_score import sentence_gleu
from nltk.translate.meteor_score import single_meteor_score
from rapidfuzz import fuzz
from rouge_score import rouge_scorer

ROUGE = ["rouge1", "rouge2", "rouge3", "rouge4", "rouge5", "rougeL"]

PAIRS = [
    ("", ""), ("", "a word"), ("a word", ""), ("   ", "\n"), ("the cat", "the cat"), ("The Cat", "the cat"),
    ("It is a guide to action which ensures that the military always obeys the commands of the party",
     "It is a guide to action that ensures that the military will forever heed Party commands"),
    ("the the the the the the the", "the cat is on the mat"), ("on the mat the cat sat", "the cat sat on the mat"),
    ("Paris.", "Paris"), ("It's $3.50, or 1,234.5 - maybe.", "It is $3.50 or 1,234.5, maybe!"),
    ("a.b,c 1.2,3 .,. ,,, 5-3 x-y -4-", "a.b , c 1.2 , 3 .,. ,, 5 -3 x - y"), ("&quot;x&quot; &amp; &lt;y&gt; <skipped>z", '"x" & <y> z'),
    ("hyphen-\nated line\nbreak", "hyphenated line break"), ("f(x) = {a: [1, 2]} ~ `code` | \\n", "f(x)={a:[1,2]}"),
    ("na\u00efve caf\u00e9 \u00c9COLE", "Naive CAF\u00c9 \u00e9cole"), ("\u4f60\u597d\u4e16\u754c", "\u4f60\u597d \u4e16\u754c"),
    ("\u0130stanbul \u212aelvin", "istanbul kelvin"), ("\u039f\u0394\u039f\u03a3 \u03a3\u0399\u0393\u039c\u0391", "\u03bf\u03b4\u03bf\u03c2 \u03c3\u03b9\u03b3\u03bc\u03b1"),
    ("a\u00a0b\u2003c\u3000d\x1ce", "a b c d e"), ("\U0001f600 smile", "smile \U0001f600"),
    ("running flies dying happily", "runs fly die happy"), ("the guides were guiding guided guidance", "a guide guides the guidance"),
    ("caf\u00e9s stra\u00dfen na\u00efvely", "caf\u00e9 stra\u00dfe naive"), ("x " * 80 + "y", "y " + "x " * 80),
    ("ab" * 100, "ba" * 100), ("a" * 64, "a" * 65), ("kitten sitting", "sitting kitten"),
]
ROOTS = ("relat", "condition", "ration", "valenc", "hesitanc", "digit", "conform", "radic", "differ", "vile", "analog", "vietnam",
         "predic", "oper", "feud", "decis", "hope", "callous", "formal", "sensit", "sens", "triplic", "form", "electr", "good", "reviv",
         "allow", "infer", "airlin", "gyroscop", "adjust", "defens", "irrit", "replac", "depend", "adopt", "homolog", "commun",
         "activ", "angular", "effect", "bowdler", "probat", "ceas", "controll", "roll", "hopp", "fall", "hiss", "fizz", "fail", "fil",
         "tann", "siz", "sky", "happ", "enjo", "sp", "d", "fl", "t", "yy", "syzyg", "geo", "archaeo", "us", "a", "be", "caf\u00e9", "x*d")
SUFFIXES = ("", "s", "es", "ies", "ied", "ed", "ing", "eed", "y", "ational", "tional", "enci", "izer", "bli", "alli", "entli", "eli",
            "ousli", "ization", "ation", "ator", "alism", "iveness", "fulness", "ousness", "aliti", "iviti", "biliti", "fulli", "logi",
            "icate", "ative", "alize", "iciti", "ical", "ful", "ness", "al", "ance", "er", "ic", "able", "ement", "ment", "ent", "ion",
            "ism", "ate", "iti", "ous", "ive", "ize", "e", "ll", "ically", "fully", "ations", "sses", "logically")
IRREGULAR = ("sky skies dying lying tying news innings inning outings outing canning cannings howe proceed exceed succeed "
             "is be a toy by tree trouble oats ivy private yes syzygy enjoyment generalizations oscillators").split()


class NoSynonyms:
    """A WordNet without words."""

    def synsets(self, word: str) -> list:
        return []


def cosine(candidate: str, reference: str) -> float:
    a, b = Counter(candidate.lower().split()), Counter(reference.lower().split())
    dot = sum(a[word] * b[word] for word in a)
    return dot / math.sqrt(sum(n * n for n in a.values())) / math.sqrt(sum(n * n for n in b.values())) if dot else 0.0


def scores(candidate: str, reference: str) -> dict[str, float]:
    rouge = rouge_scorer.RougeScorer(ROUGE).score(reference, candidate)
    names = dict(zip(ROUGE, ("rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l")))
    return {
        "fuzzy_match": fuzz.ratio(candidate, reference) / 100,
        "bleu": sacrebleu.sentence_bleu(candidate, [reference]).score / 100,
        "gleu": sentence_gleu([reference.split()], candidate.split()),
        "meteor": single_meteor_score(reference.split(), candidate.split(), wordnet=NoSynonyms()),
        "cosine": cosine(candidate, reference),
        **{names[key]: value.fmeasure for key, value in rouge.items()},
    }


def random_pairs(count: int) -> list[tuple[str, str]]:
    rng = random.Random(0)
    words = "the a cat cats sat sits on mat, mat. 3.5 1,000 run running-late (so) Isn't it? \u00fcber GO goes going 42% x=1".split()
    pairs = []
    for _ in range(count):
        reference = rng.choices(words, k=rng.randint(1, 40))
        candidate = [word for word in reference if rng.random() < 0.8]
        for _ in range(rng.randint(0, 6)):
            candidate.insert(rng.randint(0, len(candidate)), rng.choice(words))
        pairs.append((" ".join(candidate), " ".join(reference)))
    return pairs


def main() -> None:
    pairs = PAIRS + random_pairs(60)
    stemmer = PorterStemmer()
    rng = random.Random(1)
    made = [root + suffix for root in ROOTS for suffix in SUFFIXES]
    stems = {word: stemmer.stem(word) for word in [*IRREGULAR, *rng.sample(made, 1500)]}
    cases = [{"candidate": a, "reference": b, "scores": scores(a, b)} for a, b in pairs]
    golden = {"cases": cases, "stems": dict(sorted(stems.items()))}
    path = Path(__file__).with_name("text_metrics_golden.json")
    path.write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
