// The rules as a form. What they make of verdicts the server says.

import { element } from "./element.js";

const CHANNELS = { answer: "Answer", thinking: "Thinking", prompt: "Prompt" };
const MODES = { strict: "Strict: Controversial counts", loose: "Loose: only Unsafe counts", custom: "Thresholds of your own" };
const ACTIONS = { stop: "stop", flag: "flag", ignore: "ignore" };
const DEBOUNCES = { consecutive: "tokens in a row", window: "tokens of a window", eval: "as the official script" };

export class PolicyForm {
  /** `changed` is called with the rules when somebody changes them. */
  constructor(box, { policy, labels, changed }) {
    this.box = box;
    this.labels = labels;
    this.original = policy;
    this.changed = changed;
    this.channel = "answer";
    box.addEventListener("submit", (event) => event.preventDefault());
    this.reset();
  }

  reset() {
    this.policy = structuredClone(this.original);
    this.draw();
  }

  isOriginal() {
    return JSON.stringify(this.policy) === JSON.stringify(this.original);
  }

  rules() {
    return this.policy[this.channel];
  }

  /** Takes a change, and draws the form anew if other fields belong to it. */
  change(apply, redraw = false) {
    apply(this.policy, this.rules());
    if (redraw) {
      const focused = document.activeElement?.id;
      this.draw();
      if (focused) document.getElementById(focused)?.focus();
    }
    this.changed(this.policy);
  }

  draw() {
    const rules = this.rules();
    const tabs = Object.entries(CHANNELS).map(([channel, name]) => {
      const go = () => {
        this.channel = channel;
        this.draw();
        document.getElementById(`rules-of-${channel}`).focus();
        this.changed(null);
      };
      return element("button", { type: "button", id: `rules-of-${channel}`, "aria-pressed": `${channel === this.channel}`, onclick: go }, name);
    });
    const shadow = checkbox("shadow", "Shadow: report, and never stop", this.policy.shadow, (isOn) => this.change((policy) => (policy.shadow = isOn)));
    this.box.replaceChildren(
      element("div", { class: "segments", role: "group", "aria-label": "Rules for" }, tabs),
      this.mode(rules),
      rules.mode.custom ? this.levels(rules.mode.custom) : "",
      this.channel === "prompt" ? "" : this.debounce(rules.debounce),
      this.categories(rules),
      shadow,
    );
  }

  mode(rules) {
    const chosen = rules.mode.custom ? "custom" : rules.mode;
    const set = (name) =>
      this.change((_, rules) => {
        rules.mode = name === "custom" ? { custom: { unsafe: { at: 0.5, action: "stop" }, controversial: { at: 0.5, action: "stop" } } } : name;
      }, true);
    return field("mode", "What counts", select("mode", MODES, chosen, set));
  }

  levels(custom) {
    return element("div", { class: "group" }, ["unsafe", "controversial"].map((level) => this.level(level, custom[level])));
  }

  level(level, rule) {
    const name = level === "unsafe" ? "Unsafe" : "Controversial or worse";
    const value = rule.at === null || rule.at === undefined ? 0.5 : short(rule.at);
    const output = element("output", { for: `at-${level}` }, `${Math.round(value * 100)} %`);
    const slide = ({ target }) => {
      output.textContent = `${Math.round(target.value * 100)} %`;
      this.change((_, rules) => (rules.mode.custom[level].at = Number(target.value)));
    };
    const range = element("input", { id: `at-${level}`, type: "range", min: "0.01", max: "1", step: "0.01", value, oninput: slide, class: level, disabled: rule.at === null || rule.at === undefined });
    const likeliest = checkbox(`top-${level}`, "where it is likeliest", range.disabled, (isOn) => this.change((_, rules) => (rules.mode.custom[level].at = isOn ? null : 0.5), true));
    const act = select(`action-${level}`, ACTIONS, rule.action, (action) => this.change((_, rules) => (rules.mode.custom[level].action = action)));
    act.setAttribute("aria-label", `What ${name} does`);
    return element("div", { class: "level" }, element("label", { for: `at-${level}` }, `${name} from`), output, act, range, likeliest);
  }

  debounce(debounce) {
    const kind = debounce === "eval" ? "eval" : Object.keys(debounce)[0];
    const begin = { consecutive: { consecutive: 2 }, window: { window: { hits: 3, of: 5 } }, eval: "eval" };
    const kinds = select("debounce", DEBOUNCES, kind, (kind) => this.change((_, rules) => (rules.debounce = structuredClone(begin[kind])), true));
    const count = (name, value, label, set) =>
      element("input", { id: `debounce-${name}`, type: "number", min: "1", max: "64", value, "aria-label": label, oninput: ({ target }) => target.validity.valid && target.value && this.change((_, rules) => set(rules, Number(target.value))) });
    const numbers = {
      consecutive: () => [count("count", debounce.consecutive, "How many tokens in a row", (rules, n) => (rules.debounce = { consecutive: n }))],
      window: () => [
        count("hits", debounce.window.hits, "How many tokens that count", (rules, n) => (rules.debounce.window.hits = n)),
        element("span", {}, "of"),
        count("of", debounce.window.of, "Of how many tokens", (rules, n) => (rules.debounce.window.of = n)),
      ],
      eval: () => [],
    }[kind]();
    return field("debounce", "It takes", element("div", { class: "row" }, numbers, kinds));
  }

  categories(rules) {
    const names = this.labels[this.channel === "prompt" ? "prompt" : "answer"].categories;
    const rows = names.map((name, place) => {
      const rule = rules.categories[name] ?? {};
      const set = (change) =>
        this.change((_, rules) => {
          const changed = { action: null, mode: null, at: null, ...rules.categories[name], ...change };
          if (changed.action === null && changed.mode === null && changed.at === null) delete rules.categories[name];
          else rules.categories[name] = changed;
        });
      const act = select(`category-${place}`, { "": "as all", ...ACTIONS }, rule.action ?? "", (action) => set({ action: action || null }));
      act.setAttribute("aria-label", `${name}: what it does`);
      const input = ({ target }) => target.validity.valid && set({ at: target.value === "" ? null : Number(target.value) });
      const at = element("input", { id: `category-at-${place}`, type: "number", min: "0.01", max: "1", step: "0.01", placeholder: "top", value: rule.at ? short(rule.at) : "", oninput: input, "aria-label": `${name}: also from this probability on, 0 to 1` });
      return element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, act), element("td", {}, at));
    });
    const isSet = Object.keys(rules.categories).length > 0;
    const head = element("thead", {}, element("tr", {}, ["Category", "Action", "Also from"].map((name) => element("th", { scope: "col" }, name))));
    return element("details", { open: this.isOpen ?? isSet, ontoggle: ({ target }) => (this.isOpen = target.open) }, element("summary", {}, "By category"), element("table", { class: "categories" }, head, element("tbody", {}, rows)));
  }
}

/** The thresholds of rules, to be drawn. */
export function thresholds(rules) {
  const custom = rules?.mode?.custom;
  if (!custom) return [];
  return ["unsafe", "controversial"].filter((level) => custom[level].at && custom[level].action !== "ignore").map((level) => ({ level, at: custom[level].at }));
}

/** Numbers of 32 bits as they were written. */
const short = (value) => Number(value.toPrecision(6));

function field(id, label, control) {
  return element("div", { class: "field" }, element("label", { for: id }, label), control);
}

function select(id, options, chosen, set) {
  const made = element("select", { id, onchange: ({ target }) => set(target.value) });
  made.append(...Object.entries(options).map(([value, name]) => element("option", { value, selected: value === chosen }, name)));
  return made;
}

function checkbox(id, label, isOn, set) {
  return element("label", { class: "check" }, element("input", { id, type: "checkbox", checked: isOn, onchange: ({ target }) => set(target.checked) }), label);
}

/** Rules as TOML, as the program reads them with --policy. */
export function toToml(policy) {
  const text = (value) => JSON.stringify(value);
  const inline = (fields) => {
    const set = Object.entries(fields).filter(([, value]) => value !== null && value !== undefined);
    return set.length === 0 ? "{}" : `{ ${set.map(([name, value]) => `${name} = ${written(value)}`).join(", ")} }`;
  };
  const written = (value) => {
    if (typeof value === "number") return Number.isInteger(value) ? `${value}` : `${short(value)}`;
    if (typeof value === "object") return inline(value);
    return typeof value === "boolean" ? `${value}` : text(value);
  };
  const probability = (value) => (Number.isInteger(value) ? value.toFixed(1) : `${short(value)}`);
  const rule = ({ at, action }) => `{ ${[at ? `at = ${probability(at)}` : null, `action = ${text(action)}`].filter(Boolean).join(", ")} }`;
  const mode = (mode) => (mode.custom ? `{ custom = { unsafe = ${rule(mode.custom.unsafe)}, controversial = ${rule(mode.custom.controversial)} } }` : text(mode));
  const lines = policy.shadow ? ["shadow = true", ""] : [];
  for (const channel of ["prompt", "answer", "thinking"]) {
    const rules = policy[channel];
    lines.push(`[${channel}]`, `mode = ${mode(rules.mode)}`);
    if (rules.roles) lines.push(`roles = [${rules.roles.map(text).join(", ")}]`);
    if (rules.debounce) lines.push(`debounce = ${written(rules.debounce)}`);
    for (const [name, { action, mode: ofCategory, at }] of Object.entries(rules.categories)) {
      lines.push("", `[${channel}.categories.${text(name)}]`);
      if (action) lines.push(`action = ${text(action)}`);
      if (ofCategory) lines.push(`mode = ${mode(ofCategory)}`);
      if (at) lines.push(`at = ${probability(at)}`);
    }
    const second = rules.second_opinion;
    if (second && (second.violation || second.uncertain)) {
      lines.push("", `[${channel}.second_opinion]`);
      if (second.violation) lines.push(`violation = ${text(second.violation)}`);
      if (second.uncertain) lines.push(`uncertain = { at = ${probability(second.uncertain.at)}, word = ${text(second.uncertain.word)} }`);
      lines.push(`interval_tokens = ${second.interval_tokens}`);
    }
    lines.push("");
  }
  return `${lines.join("\n").trim()}\n`;
}
