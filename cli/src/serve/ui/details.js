// What the model says at one place: the levels and the categories, with the thresholds of the rules.

import { bar, element, percent } from "./element.js";

/** `rules` are those of the place's channel; `what` and `text` say which place it is. */
export function showVerdict(box, { what, text, verdict, rules }) {
  const custom = rules?.mode?.custom;
  const marks = { Unsafe: custom?.unsafe?.at ?? null, Controversial: custom?.controversial?.at ?? null };
  const levels = Object.entries(verdict.risk_probs).sort(([a], [b]) => ORDER.indexOf(a) - ORDER.indexOf(b));
  const categories = Object.entries(verdict.category_probs).sort(([, a], [, b]) => b - a);
  const isSafe = verdict.risk === "Safe";
  box.replaceChildren(
    element("div", { class: "head" }, element("h3", {}, `${what} `, text && element("q", {}, text)), badge(verdict.risk, verdict.category)),
    element(
      "div",
      { class: "columns" },
      element("div", {}, element("h4", {}, "Levels"), element("ul", { class: "bars" }, levels.map(([name, value]) => bar(name, value, { kind: name.toLowerCase(), mark: marks[name] })))),
      element(
        "div",
        { class: isSafe ? "dim" : "" },
        element("h4", {}, isSafe ? "Categories (they mean nothing while the level is Safe)" : "Categories"),
        element("ul", { class: "bars" }, categories.map(([name, value]) => bar(name, value, { kind: "category", mark: rules?.categories?.[name]?.at ?? null }))),
      ),
    ),
  );
}

const ORDER = ["Safe", "Controversial", "Unsafe"];

export function badge(risk, category) {
  return element("span", { class: `badge ${risk.toLowerCase()}` }, category ? `${risk}, ${category}` : risk);
}

/** What a model says that judges whole conversations. */
export function showAnnotation(box, { safety, categories, category_probs, refusal, refusal_prob, mode }) {
  const levels = safety.probs && Object.fromEntries(ORDER.filter((level) => level in safety.probs).map((level) => [level, safety.probs[level]]));
  const lists = [["Levels", levels, true], ["Categories", category_probs, false]].filter(([, probabilities]) => probabilities);
  const columns = lists.map(([title, probabilities, isLevel]) =>
    element("div", {}, element("h4", {}, title), element("ul", { class: "bars" }, Object.entries(probabilities).map(([name, value]) => bar(name, value, { kind: isLevel ? name.toLowerCase() : "category" })))),
  );
  const refuses = refusal === null ? null : element("p", { class: "hint" }, `Refusal: ${refusal ? "yes" : "no"}${refusal_prob === undefined ? "" : ` (${percent(refusal_prob)} that it is one)`}`);
  box.replaceChildren(
    element("div", { class: "head" }, element("h3", {}, mode === "prompt" ? "The prompt" : "The answer"), badge(safety.label, categories.join(", "))),
    element("div", { class: "columns" }, columns),
    refuses ?? "",
  );
}

/** A table of all tokens. */
export function showTable(table, answer) {
  const head = ["Token", "Text", "Level", "Safe", "Controversial", "Unsafe", "Category"];
  const number = (value) => (value ?? 0).toFixed(3);
  const row = (token) => {
    const { risk, category, risk_probs } = token.verdict;
    const cells = [risk, number(risk_probs.Safe), number(risk_probs.Controversial), number(risk_probs.Unsafe), category ?? "–"];
    return element("tr", {}, element("th", { scope: "row" }, `${token.index}`), element("td", {}, answer.name(token)), cells.map((cell) => element("td", {}, cell)));
  };
  table.replaceChildren(
    element("thead", {}, element("tr", {}, head.map((name) => element("th", { scope: "col" }, name)))),
    element("tbody", {}, answer.tokens.map(row)),
  );
}
