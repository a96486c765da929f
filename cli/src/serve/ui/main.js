// The page: what is typed goes to the server, what it says is shown.

import { Answer, judge } from "./answer.js";
import { Chart } from "./chart.js";
import { badge, showAnnotation, showTable, showVerdict } from "./details.js";
import { byId, element, onceAFrame, percent } from "./element.js";
import { Numbers } from "./numbers.js";
import { PolicyForm, thresholds, toToml } from "./policy.js";
import { SAMPLES } from "./samples.js";
import { Refused, info, key, openStream, post } from "./server.js";
import { Tokens } from "./tokens.js";

const THEME = "qwenguard-theme";

/** All that is shown. `replayed` is what other rules make of the same verdicts. */
const state = { info: null, answer: null, replayed: null, selected: null, running: null, hasEnded: false, followed: true };

const tokens = new Tokens(byId("answer-tokens"), choose);
const chart = new Chart(byId("chart"), choose);
const redraw = onceAFrame(draw);
let form = null;
let numbers = null;

function theme() {
  const select = byId("theme");
  const apply = (name) => (name === "auto" ? document.documentElement.removeAttribute("data-theme") : document.documentElement.setAttribute("data-theme", name));
  select.value = localStorage.getItem(THEME) ?? "auto";
  apply(select.value);
  select.addEventListener("change", () => {
    localStorage.setItem(THEME, select.value);
    apply(select.value);
  });
}

/** Says what went wrong, or that nothing does any more. */
function problem(error) {
  const box = byId("problem");
  box.hidden = !error;
  box.textContent = error?.message ?? "";
  if (error?.status === 401) {
    byId("key-form").hidden = false;
    byId("key").focus();
  }
}

function keys() {
  const [field, forget] = [byId("key"), byId("key-forget")];
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    key.set(field.value.trim());
    field.value = "";
    forget.hidden = !key.get();
    connect();
  });
  forget.addEventListener("click", () => {
    key.set("");
    location.reload();
  });
  if (key.get()) {
    byId("key-form").hidden = false;
    forget.hidden = false;
  }
}

async function connect() {
  try {
    state.info = await info();
  } catch (error) {
    return problem(error);
  }
  problem(null);
  const { guard, policy, labels } = state.info;
  const isGen = guard.variant === "gen";
  byId("guard-name").textContent = `${guard.source} · ${guard.architecture.replace(/^Qwen3(For)?/, "Qwen3 ")} · ${guard.weights} · ${guard.provider}`;
  form = new PolicyForm(byId("policy-form"), { policy, labels, changed: (changed) => (changed ? replay() : redraw()) });
  for (const id of ["streamed", "policy", "pace-field"]) byId(id).hidden = isGen;
  toml();
  numbers ??= new Numbers(serverState);
  numbers.ask();
  redraw();
}

function serverState(error) {
  const box = byId("server-state");
  const text = error ? error.message : "answers";
  if (box.textContent !== text) box.textContent = text;
  box.className = error ? "bad" : "good";
  if (error?.status === 401) problem(error);
}

function samples() {
  const select = byId("sample");
  select.append(...SAMPLES.map(({ name }, place) => element("option", { value: place }, name)));
  const use = () => {
    const { prompt, answer } = SAMPLES[select.value];
    byId("prompt").value = prompt;
    byId("answer").value = answer;
  };
  select.addEventListener("change", use);
  use();
}

async function start() {
  if (state.running) return;
  if (!state.info) return connect();
  const running = new AbortController();
  state.running = running;
  problem(null);
  byId("judge").disabled = true;
  byId("cancel").hidden = false;
  try {
    await (state.info.guard.variant === "gen" ? judgeWhole(running.signal) : judgeStream(running.signal));
  } catch (error) {
    if (!running.signal.aborted) problem(error instanceof Refused ? error : new Refused(0, `The page failed: ${error.message}`));
  } finally {
    state.running = null;
    state.hasEnded = true;
    byId("judge").disabled = false;
    byId("cancel").hidden = true;
    redraw();
  }
}

async function judgeStream(signal) {
  const answer = new Answer(byId("prompt").value, byId("answer").value);
  Object.assign(state, { answer, replayed: null, selected: null, followed: true });
  tokens.clear();
  chart.mark(null);
  await judge(answer, openStream, { pace: Number(byId("pace").value), signal, told: redraw });
  replay();
}

async function judgeWhole(signal) {
  const [prompt, answer] = [byId("prompt").value, byId("answer").value];
  const messages = [{ role: "user", content: prompt }];
  if (answer) messages.push({ role: "assistant", content: answer });
  const { annotation, decision, finding } = await post(`v1/guard/${answer ? "answer" : "prompt"}`, { messages }, signal);
  const said = finding ? `${finding.risk}${finding.category ? `, ${finding.category}` : ""}, ${percent(finding.probability)} · ${finding.rule}` : "nothing was found";
  byId("outcomes").replaceChildren(banner(decision === "stop" ? "stop" : finding ? "flag" : "pass", "The server's rules", said));
  showAnnotation(byId("details"), annotation);
}

/** Asks the server what the rules of the form make of the verdicts. The last question counts. */
let asked = null;
let waiting = 0;
function replay() {
  toml();
  byId("policy-reset").disabled = form.isOriginal();
  clearTimeout(waiting);
  waiting = setTimeout(async () => {
    asked?.abort();
    const { answer } = state;
    if (!answer?.check || state.running) return;
    if (form.isOriginal()) {
      state.replayed = null;
      policyProblem(null);
      return redraw();
    }
    asked = new AbortController();
    try {
      const body = { policy: form.policy, prompt: answer.check.verdict, tokens: answer.tokens };
      state.replayed = await post("v1/guard/replay", body, asked.signal);
      policyProblem(null);
    } catch (error) {
      if (error.name === "AbortError") return;
      policyProblem(error);
    }
    redraw();
  }, 120);
}

function policyProblem(error) {
  byId("policy-problem").hidden = !error;
  byId("policy-problem").textContent = error?.message ?? "";
}

function toml() {
  byId("policy-toml").textContent = toToml(form.policy);
}

/** Shows a token, or the prompt. */
function choose(index) {
  state.selected = index;
  state.followed = false;
  tokens.mark(index);
  chart.mark(index);
  details();
}

function draw() {
  const { answer, replayed } = state;
  if (state.info?.guard.variant === "gen") return;
  if (!answer) {
    chart.draw(null, null);
    return empty();
  }
  const live = { horizon: answer.horizon, violation: answer.violation, flags: answer.flags };
  const shown = replayed?.answer ? { ...replayed.answer, horizon: answer.floor(replayed.answer.horizon) } : live;
  tokens.draw(answer, shown);
  chart.draw(answer, { ...shown, before: replayed?.answer ? live.horizon : null, thresholds: thresholds(form.policy[form.channel === "prompt" ? "answer" : form.channel]) });
  outcomes();
  promptLine();
  byId("progress").textContent = progress(answer);
  if (byId("table-details").open) showTable(byId("table"), answer);
  details();
}

function empty() {
  byId("outcomes").replaceChildren(element("p", { class: "hint" }, "Nothing is judged yet."));
}

function progress({ tokens, received, bytes, isComplete }) {
  const judged = `${tokens.length} tokens, ${received} of ${bytes.length} bytes`;
  return isComplete ? judged : `${judged}${state.running ? " …" : ", not complete"}`;
}

/** What the server's rules say, and what others do. */
function outcomes() {
  const { answer, replayed } = state;
  const live = outcome("The server's rules", answer.check, answer);
  const others = replayed && outcome("Your rules", replayed.prompt, replayed.answer);
  const shown = [live, others].filter(Boolean);
  // Read aloud is what is new, once all is judged.
  const box = byId("outcomes");
  box.setAttribute("aria-live", state.running ? "off" : "polite");
  if (state.hasEnded || box.textContent !== shown.map((line) => line.textContent).join("")) box.replaceChildren(...shown);
  state.hasEnded = false;
}

function outcome(whose, check, said) {
  if (!check) return null;
  const { bytes } = state.answer;
  const promptStops = check.decision === "stop";
  const found = promptStops ? check.finding : said?.violation;
  const flags = said?.flags?.length ?? 0;
  const isStop = promptStops || said?.decision === "stop";
  const kind = isStop ? "stop" : found || flags > 0 || check.finding ? "flag" : "pass";
  const parts = [];
  if (found) parts.push(`${found.risk}, ${found.category}, ${percent(found.probability)}${promptStops ? ", in the prompt" : `, tokens ${found.first_token} to ${found.confirming_token}`}`);
  if (!found && check.finding) parts.push(`prompt: ${check.finding.risk}, ${check.finding.category}`);
  if (flags > 0) parts.push(`${flags} flagged`);
  if (said) parts.push(promptStops ? "nothing of the answer may be shown" : `${state.answer.floor(said.horizon)} of ${bytes.length} bytes may be shown`);
  if (found?.rule) parts.push(found.rule);
  return banner(kind, whose, parts.join(" · "), state.answer.isComplete);
}

function banner(kind, whose, text, isComplete = true) {
  const name = { stop: "Stop", flag: "Reported", pass: isComplete ? "Pass" : "Clear so far" }[kind];
  return element("div", { class: `outcome ${kind}` }, element("strong", {}, name), element("span", { class: "whose" }, whose), element("span", {}, text));
}

function promptLine() {
  const { check } = state.answer;
  if (!check) return;
  const { risk, category, risk_probs } = check.verdict;
  const show = () => choose("prompt");
  byId("prompt-line").replaceChildren(
    element("button", { type: "button", class: "prompt-chip", onclick: show, "aria-pressed": `${state.selected === "prompt"}` }, "Prompt ", badge(risk, category), ` ${percent(risk_probs[risk])}`),
    element("span", { class: "said" }, state.answer.prompt),
  );
}

function details() {
  const { answer, selected, replayed } = state;
  const policy = form?.policy;
  if (!answer?.check) return;
  const found = (replayed?.answer ?? answer).violation;
  let token = answer.tokens.find(({ index }) => index === selected);
  if (selected === "prompt" || answer.tokens.length === 0) {
    return showVerdict(byId("details"), { what: "Prompt", text: "", verdict: answer.check.verdict, rules: policy.prompt });
  }
  if (!token && state.followed) {
    token = answer.tokens.find(({ index }) => index === found?.confirming_token) ?? answer.tokens.at(-1);
    // While it is written, the newest token is not for reading aloud.
    byId("details").setAttribute("aria-live", "off");
    chart.mark(token.index);
  } else {
    byId("details").setAttribute("aria-live", "polite");
  }
  token ??= answer.tokens.at(-1);
  const what = `Token ${token.index}${token.channel === "thinking" ? ", thinking" : ""}`;
  showVerdict(byId("details"), { what, text: answer.name(token), verdict: token.verdict, rules: policy[token.channel] });
}

function actions() {
  byId("judge").addEventListener("click", start);
  byId("cancel").addEventListener("click", () => state.running?.abort());
  document.addEventListener("keydown", (event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && start());
  byId("policy-reset").addEventListener("click", () => {
    form.reset();
    replay();
  });
  byId("policy-copy").addEventListener("click", async ({ target }) => {
    await navigator.clipboard.writeText(byId("policy-toml").textContent);
    target.textContent = "Copied";
    setTimeout(() => (target.textContent = "Copy"), 1500);
  });
  byId("table-details").addEventListener("toggle", redraw);
}

theme();
keys();
samples();
actions();
connect();
