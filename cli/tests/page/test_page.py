"""The page in Chromium, as people use it: make test-ui.

QWENGUARD names the program, CHROMIUM the browser, PICTURES where pictures of the page go.
"""

import os
import re
import sys
import urllib.request
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "clients"))

from scripted import BAD, BAD_ANSWER, CUT, TURNS, served

WIDE, NARROW = {"width": 1360, "height": 1250}, {"width": 380, "height": 800}
PICTURES = Path(os.environ.get("PICTURES", "target/test-ui/pictures"))


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        # Chromium's own sandbox wants rights that containers do not give.
        chromium = playwright.chromium.launch(executable_path=os.environ["CHROMIUM"], args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def url():
    with served(None, "--ui") as address:
        yield address


@pytest.fixture
def opened(browser):
    """Opens the page; at the end nothing may stand in the console but what a test expects."""
    contexts = []

    def open_page(url, expected=(), **settings):
        context = browser.new_context(**{"viewport": WIDE, "reduced_motion": "reduce", **settings})
        context.set_default_timeout(15_000)
        page = context.new_page()
        said = []
        page.on("console", lambda message: message.type in ("error", "warning") and said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"{url}/ui")
        contexts.append((context, said, expected))
        return page

    yield open_page
    for context, said, expected in contexts:
        context.close()
        assert [line for line in said if not any(part in line for part in expected)] == []


def judge(page, pace="0"):
    page.get_by_label("The answer is written").select_option(pace)
    page.get_by_role("button", name="Judge").click()
    expect(page.get_by_role("button", name="Judge")).to_be_enabled(timeout=60_000)


def type_in(page, prompt, answer):
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.get_by_label("Answer", exact=True).fill(answer)


def steps(url):
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        return re.search(r"^qwenguard_steps_total (\d+)$", answer.read().decode(), re.MULTILINE)[1]


def said(page):
    """The text of the tokens, without the mark of the horizon."""
    return page.locator("#answer-tokens").text_content().replace("[horizon]", "")


def outcomes(page):
    return page.locator("#outcomes .outcome")


def test_an_answer_that_turns(opened, url):
    page = opened(url)
    expect(page.locator("#server-state")).to_have_text("answers")
    judge(page)
    expect(outcomes(page)).to_have_count(1)
    expect(outcomes(page)).to_contain_text("Stop")
    expect(outcomes(page)).to_contain_text("Violent")
    expect(outcomes(page)).to_contain_text(f"{CUT} of {len(BAD_ANSWER)} bytes may be shown")
    box = page.locator("#answer-tokens")
    # All of the answer is there, and nothing else but the mark of the horizon.
    assert said(page) == BAD_ANSWER
    before = box.evaluate("box => [...box.childNodes].slice(0, [...box.childNodes].findIndex((node) => node.classList.contains('horizon'))).map((node) => node.textContent).join('')")
    assert before == BAD_ANSWER[:CUT]
    assert box.locator(".token.violation").count() >= 2
    assert box.locator(".token.unsafe").count() > 5
    assert page.locator("#chart path.curve").count() == 3
    assert page.locator("#chart rect.violation").count() == 1
    expect(page.locator("#details")).to_contain_text("Violent")
    assert page.locator("#details .bar").count() == 3 + 8
    page.get_by_text("The same as a table").click()
    expect(page.locator("#table tbody tr")).to_have_count(box.locator(".token").count())


def test_it_is_drawn_while_it_is_written(opened, url):
    page = opened(url)
    page.get_by_label("The answer is written").select_option("8")
    page.get_by_role("button", name="Judge").click()
    expect(page.locator("#answer-tokens .token").nth(3)).to_be_visible()
    expect(page.locator("#answer-tokens .waiting")).not_to_be_empty()
    assert page.locator("#progress").inner_text().endswith("…")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#progress")).to_contain_text("not complete")
    expect(page.locator("#problem")).to_be_hidden()


def test_other_rules_without_another_run(opened, url):
    page = opened(url, expected=["400"])
    judge(page)
    before = steps(url)
    by_category = page.get_by_text("By category",exact=True)
    by_category.click()
    page.get_by_label("Violent: what it does").select_option("flag")
    expect(outcomes(page)).to_have_count(2)
    expect(outcomes(page).nth(0)).to_contain_text("Stop")
    expect(outcomes(page).nth(1)).to_contain_text("Your rules")
    expect(outcomes(page).nth(1)).to_contain_text("Reported")
    expect(outcomes(page).nth(1)).to_contain_text(f"{len(BAD_ANSWER)} of {len(BAD_ANSWER)} bytes may be shown")
    page.get_by_text("As TOML").click()
    expect(page.locator("#policy-toml")).to_contain_text('[answer.categories."Violent"]\naction = "flag"')
    page.get_by_role("button", name="As the server").click()
    expect(outcomes(page)).to_have_count(1)
    page.get_by_label("What counts").select_option("custom")
    page.get_by_label("Unsafe from").fill("1")
    page.get_by_label("Controversial or worse from").fill("1")
    expect(outcomes(page).nth(1)).to_contain_text("Pass")
    assert page.locator("#chart line.threshold").count() == 2
    page.get_by_label("Unsafe from").fill("0.02")
    expect(outcomes(page).nth(1)).to_contain_text("Stop")
    # What is wrong is said, and nothing changes.
    page.get_by_label("It takes").select_option("window")
    page.get_by_label("How many tokens that count").fill("9")
    expect(page.locator("#policy-problem")).to_contain_text("9 of 5 tokens: no more can count than there are")
    page.get_by_label("How many tokens that count").fill("2")
    expect(page.locator("#policy-problem")).to_be_hidden()
    assert steps(url) == before


def test_what_is_shown_as_toml_is_what_the_program_reads(opened, url, tmp_path):
    page = opened(url)
    page.get_by_label("What counts").select_option("custom")
    page.get_by_label("Unsafe from").fill("0.42")
    page.get_by_label("What Controversial or worse does").select_option("flag")
    page.get_by_label("It takes").select_option("window")
    page.get_by_text("By category",exact=True).click()
    page.get_by_label("PII: also from this probability on").fill("0.3")
    page.get_by_label("PII: what it does").select_option("ignore")
    page.get_by_label("Shadow").check()
    page.get_by_role("button", name="Prompt", exact=True).click()
    page.get_by_label("What counts").select_option("loose")
    policy = tmp_path / "policy.toml"
    policy.write_text(page.locator("#policy-toml").text_content())
    with served(None, "--ui", "--policy", str(policy)) as other:
        again = opened(other)
        expect(again.locator("#policy-toml")).to_have_text(policy.read_text())


def test_the_keyboard_is_enough(opened, url):
    page = opened(url)
    page.get_by_label("The answer is written").select_option("0")
    page.get_by_label("Answer", exact=True).focus()
    page.keyboard.press("Control+Enter")
    expect(outcomes(page)).to_contain_text("Stop", timeout=60_000)
    expect(page.get_by_role("button", name="Judge")).to_be_enabled()
    page.get_by_role("listbox").focus()
    page.keyboard.press("Home")
    expect(page.locator("#details h3")).to_contain_text("Token 0")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#details h3")).to_contain_text("Token 2")
    selected = page.locator("#answer-tokens [aria-selected=true]")
    assert page.get_by_role("listbox").get_attribute("aria-activedescendant") == selected.get_attribute("id")
    page.keyboard.press("End")
    last = page.locator("#answer-tokens .token").last
    expect(last).to_have_attribute("aria-selected", "true")
    # From the first control to the last nobody is caught.
    seen = set()
    page.evaluate("document.activeElement.blur()")
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    for wanted in ("theme", "sample", "prompt", "answer", "judge", "answer-tokens", "mode", "debounce", "shadow", "numbers-pause"):
        assert wanted in seen, f"{wanted} is not reached: {seen}"


def test_texts_are_texts(opened, url):
    page = opened(url)
    evil = "<img src=x onerror=\"document.title='caught'\"><script>document.title='caught'</script> </textarea> & &lt; \u202e 🍞 é"
    type_in(page, evil, f"{evil} {TURNS}")
    judge(page)
    assert said(page) == f"{evil} {TURNS}"
    expect(page.locator("#prompt-line .said")).to_have_text(evil)
    assert page.locator("#answer-tokens img, #answer-tokens script").count() == 0
    assert page.title() == "qwenguard"


def test_thinking_and_a_prompt_that_is_stopped(opened, url):
    page = opened(url)
    page.get_by_label("Sample").select_option(label="One that thinks first")
    judge(page)
    expect(outcomes(page)).to_contain_text("Pass")
    assert page.locator("#answer-tokens .token.thinking").count() > 5
    type_in(page, BAD, "No.")
    judge(page)
    expect(outcomes(page)).to_contain_text("in the prompt")
    page.get_by_role("button", name="Prompt Unsafe").click()
    expect(page.locator("#details h3")).to_contain_text("Prompt")


def test_a_key_is_asked_for(opened, tmp_path):
    file = tmp_path / "key"
    file.write_text("s3cret-ключ")
    with served(None, "--ui", "--key-file", str(file)) as keyed:
        page = opened(keyed, expected=["401"])
        expect(page.locator("#problem")).to_contain_text("a key is wanted")
        page.get_by_label("Key", exact=True).fill("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#problem")).to_contain_text("the key is not known")


def test_with_its_key_all_works(opened, tmp_path):
    file = tmp_path / "key"
    file.write_text("s3cret~key/+=")
    with served(None, "--ui", "--key-file", str(file)) as keyed:
        page = opened(keyed, expected=["401"])
        page.get_by_label("Key", exact=True).fill("s3cret~key/+=")
        page.get_by_role("button", name="Use", exact=True).click()
        expect(page.locator("#problem")).to_be_hidden()
        judge(page)
        expect(outcomes(page)).to_contain_text("Stop")
        # The tab keeps it, and no address has it.
        page.reload()
        expect(page.locator("#guard-name")).to_contain_text("nano")
        assert "s3cret" not in page.url
        page.get_by_role("button", name="Forget").click()
        expect(page.locator("#problem")).to_contain_text("a key is wanted")


def test_numbers_live(opened, url):
    page = opened(url)
    judge(page)
    expect(page.locator("#tiles")).to_contain_text("Tokens a second")
    expect(page.locator("#stops")).to_contain_text("Violent")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Go on")).to_have_attribute("aria-pressed", "true")


def test_whole_conversations(opened):
    with served(None, "--ui", "--gen") as url:
        page = opened(url)
        expect(page.locator("#guard-name")).to_contain_text("nano-gen")
        page.get_by_role("button", name="Judge").click()
        expect(page.locator("#details")).to_contain_text("The answer")
        expect(page.locator("#details")).to_contain_text("Refusal")
        expect(outcomes(page)).to_contain_text("Violent")
        page.screenshot(path=PICTURES / "gen.png", full_page=True)


def test_a_server_that_goes_away_is_said(opened):
    with served(None, "--ui") as url:
        page = opened(url, expected=["ERR_CONNECTION_REFUSED", "WebSocket"])
        expect(page.locator("#server-state")).to_have_text("answers")
    expect(page.locator("#server-state")).to_have_text("The server was not reached.", timeout=10_000)
    page.get_by_role("button", name="Judge").click()
    expect(page.locator("#problem")).to_contain_text("could not be opened")


@pytest.mark.parametrize("colors", ["light", "dark"])
@pytest.mark.parametrize("size", ["wide", "narrow"])
def test_how_it_looks(opened, url, colors, size):
    """Pictures to look at; nothing runs over the edge, and the rules for accessible pages hold."""
    page = opened(url, viewport=WIDE if size == "wide" else NARROW, color_scheme=colors, bypass_csp=True)
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"empty-{size}-{colors}.png", full_page=True)
    judge(page)
    page.get_by_label("What counts").select_option("custom")
    page.get_by_label("Unsafe from").fill("0.9")
    expect(outcomes(page)).to_have_count(2)
    page.get_by_text("By category",exact=True).click()
    page.wait_for_timeout(2500)
    page.screenshot(path=PICTURES / f"judged-{size}-{colors}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_the_theme_is_kept(opened, url):
    page = opened(url, color_scheme="light")
    page.get_by_label("Colours").select_option("dark")
    dark = page.evaluate("getComputedStyle(document.body).color")
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).color") == dark
    page.get_by_label("Colours").select_option("light")
    assert page.evaluate("getComputedStyle(document.body).color") != dark
