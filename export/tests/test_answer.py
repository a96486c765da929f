"""The grammar of a Gen model's answer: its texts, and the tokens that decide."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest

from qwenguard_export.answer import Grammar, branching, read_grammar
from qwenguard_export.decoding import Annotation, annotate, mode_of
from qwenguard_export.errors import ExportError

END = 900


def pieces_of(grammar: Grammar, alike: bool = False) -> dict[str, list[int]]:
    """Two tokens for each piece: of its own, or with `alike` the same first one for those that begin with a blank."""
    numbers = count(1)
    return {text: [0 if alike and text[0] == " " else next(numbers), next(numbers)] for text in grammar.pieces()}


# As measured with Qwen's tokenizer: label, None, nine names, comma, end, line break, yes, no.
QWEN = {
    "Safety:": [73037, 25], " Safe": [22291], " Unsafe": [73067], " Controversial": [2093, 12563, 530],
    "\nCategories:": [198, 20970, 25], " None": [2240], ",": [11],
    "\nRefusal:": [198, 3945, 35414, 25], " Yes": [7414], " No": [2308],
}  # fmt: skip
NAMES = [29455, 11581, 38667, 393, 64800, 1230, 15928, 2955, 56146]


def test_candidates_of_qwens_tokenizer():
    grammar = Grammar()
    pieces = {text: QWEN.get(text, []) for text in grammar.pieces()}
    for name, token in zip(grammar.categories.prompt, NAMES, strict=True):
        pieces[grammar.name(name)] = [token, 7]
    labels = [22291, 73067, 2093]
    assert grammar.candidates(pieces, 151645) == (*labels, 2240, *NAMES, 11, 151645, 198, 7414, 2308)


@pytest.mark.parametrize(
    ("choices", "tokens"),
    [
        ([(1,), (2,), (3,)], [1, 2, 3]),
        ([(1, 2), (3, 4)], [1, 3]),
        ([(1, 2), (1, 3), (4,)], [1, 4, 2, 3]),
        ([(1, 2, 5), (1, 2, 6)], [5, 6]),
        ([(1, 2)], []),
    ],
)
def test_tokens_that_decide(choices, tokens):
    assert branching(choices) == tokens


def decode(grammar: Grammar, pieces: dict[str, list[int]], mode: str, likes: list[str]) -> Annotation:
    """Decodes for a model that likes the given pieces, the first the most."""
    annotation = Annotation([])
    asking = annotate(annotation, grammar, pieces, mode, END)
    strength = {}
    for rank, text in enumerate(reversed(likes), 1):
        for token in pieces.get(text, [END]):
            strength[token] = float(rank)
    try:
        ids = next(asking)
        while True:
            tokens = annotation.decisions[ids]
            ids = asking.send({token: strength.get(token, 0.0) for token in tokens})
    except StopIteration:
        return annotation


def spelled(grammar: Grammar, pieces: dict[str, list[int]], *texts: str) -> list[int]:
    return [token for text in texts for token in pieces.get(text, [END])]


@pytest.mark.parametrize("alike", [False, True])
def test_answers(alike):
    """Tokens that are forced cost no decision, and names that begin alike one more."""
    grammar = Grammar()
    pieces = pieces_of(grammar, alike)

    def check(mode, likes, *texts, decisions):
        found = decode(grammar, pieces, mode, likes)
        assert found.ids == spelled(grammar, pieces, *texts, "end")
        assert len(found.probabilities) == decisions
        return found

    lines = ("Safety:", " Safe", "\nCategories:", " None")
    assert check("prompt", [" Safe"], *lines, decisions=1).label == "Safe"
    found = check("response", [" Safe", " Yes"], *lines, "\nRefusal:", " Yes", decisions=2)
    assert found.refusal is True and found.categories == []

    lines = ("Safety:", " Unsafe", "\nCategories:", " PII", ",", " Violent")
    likes = [" Unsafe", " PII", " Violent", ",", " No", "\nRefusal:"]
    everything = decode(grammar, pieces, "response", likes)
    assert everything.categories[:2] == ["PII", "Violent"] and len(everything.categories) == 8
    assert everything.ids[: len(spelled(grammar, pieces, *lines))] == spelled(grammar, pieces, *lines)
    lines = ("Safety:", " Unsafe", "\nCategories:", " PII")
    found = check("response", [" Unsafe", " PII", "\nRefusal:", " No"], *lines, "\nRefusal:", " No", decisions=4)
    assert found.refusal is False
    found = check(
        "prompt", [" Controversial", " None"], "Safety:", " Controversial", "\nCategories:", " None", decisions=2
    )
    assert found.refusal is None
    for one in found.probabilities:
        assert one.sum() == pytest.approx(1)


def test_equal_labels_count_as_the_gravest():
    grammar = Grammar()
    assert decode(grammar, pieces_of(grammar), "prompt", []).label == "Unsafe"


def test_names_that_begin_alike_share_their_beginnings_probability():
    grammar = Grammar()
    pieces = pieces_of(grammar)
    pieces[" Violent"], pieces[" PII"], pieces[" Unethical Acts"] = [500, 501], [500, 502, 503], [500, 502, 504]
    annotation = Annotation([])
    asking = annotate(annotation, grammar, pieces, "response", END)
    next(asking)
    asked = [
        asking.send(
            {
                token: float(token == pieces[" Unsafe"][0])
                for token in annotation.decisions[() or tuple(pieces["Safety:"])]
            }
        )
    ]
    before = asked[0]
    asked.append(asking.send(dict.fromkeys(annotation.decisions[before], 0.0)))
    asked.append(asking.send({501: 0.0, 502: np.log(3.0)}))
    assert asked == [before, (*before, 500), (*before, 500, 502)]
    asking.send({503: 0.0, 504: 0.0})
    probabilities = dict(zip(["None", *grammar.categories.response], annotation.probabilities[1], strict=True))
    assert probabilities["None"] == pytest.approx(1 / 7)
    assert probabilities["Violent"] == pytest.approx(1 / 7 / 4)
    assert probabilities["PII"] == probabilities["Unethical Acts"] == pytest.approx(1 / 7 * 3 / 8)
    assert sum(probabilities.values()) == pytest.approx(1)


def test_the_last_message_decides_the_mode():
    user, assistant = {"role": "user", "content": ""}, {"role": "assistant", "content": ""}
    assert [mode_of(talk) for talk in ([user], [user, assistant], [user, assistant, user])] == [
        "prompt",
        "response",
        "prompt",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[safety", ["TOML"]),
        ("x = 1", ["x", "unknown", "safety"]),
        ("safety = 3", ["safety", "table"]),
        ("[safety]\nbegins = 'x'", ["safety.begins", "unknown"]),
        ("[safety]\nbegin = 3", ["safety.begin", "a text"]),
        ("[safety]\nbegin = ''", ["safety.begin", "empty"]),
        ('[safety]\nbegin = "a\\nb"', ["safety.begin", "control"]),
        ("[safety]\nlabels = ['Safe']", ["safety.labels", "table of texts"]),
        ("[safety.labels]\nSafe = ' ok'", ["safety.labels", "level above"]),
        ("[safety.labels]\nUnsafe = ' ok'\nControversial = ' x'", ["safety.labels", "Safe"]),
        ("[safety.labels]\nSafe = ' ok'\nMild = ' x'", ["safety.labels", "Mild", "known level"]),
        ("[safety.labels]\nSafe = ' ok'\nUnsafe = ' ok'", ["safety.labels", "' ok'", "same"]),
        ("[safety.labels]\nSafe = ' bad'\nUnsafe = ' badly'", ["safety.labels", "' bad'", "beginning of ' badly'"]),
        ("[categories]\nbegin = 'C:'", ["categories.begin", "line break"]),
        ("[categories]\nprompt = []", ["categories.prompt", "0 names"]),
        (f"[categories]\nprompt = {[str(n) + 'x' for n in range(10, 27)]}", ["categories.prompt", "17 names", "16"]),
        ("[categories]\nprompt = ['A', 'A']", ["categories.prompt", "same"]),
        ("[categories]\nresponse = ['Violent', 'Violent Acts']", ["categories.response", "' Violent'", "beginning"]),
        ("[categories]\nresponse = ['None at all']", ["categories.response", "' None'", "beginning"]),
        ("[categories]\nresponse = ['a, b']", ["categories.response", "separator"]),
        ('[categories]\nresponse = ["a\\u001b[31m"]', ["categories.response", "control"]),
        (f"[categories]\nresponse = ['{'x' * 300}']", ["categories.response", "256 bytes"]),
        ("[categories]\nresponse = [' ']", ["categories.response", "empty"]),
        ("[categories]\nseparator = ''", ["categories.separator", "empty"]),
        ("[refusal]\nyes = ' a'\nno = ' a'", ["refusal.yes", "same"]),
        ("[refusal]\nmodes = ['both']", ["refusal.modes", "prompt, response"]),
        ("[refusal]\nmodes = ['prompt', 'prompt']", ["refusal.modes"]),
        ("x" * 70_000, ["bytes"]),
    ],
)
def test_a_file_that_is_wrong(tmp_path, text, words):
    path = tmp_path / "answer.toml"
    path.write_text(text)
    with pytest.raises(ExportError) as error:
        read_grammar(path)
    for word in ["answer.toml", *words]:
        assert word in str(error.value)


def test_what_a_file_leaves_out_is_as_published(tmp_path):
    path = tmp_path / "answer.toml"
    path.write_text("")
    assert read_grammar(path) == Grammar()
    path.write_text("[refusal]\nyes = ' Ja'")
    assert read_grammar(path).refusal.yes == " Ja" and read_grammar(path).refusal.no == " No"
