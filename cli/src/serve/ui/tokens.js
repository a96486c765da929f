// The answer as text, a token an element: coloured by level, with the horizon and the violation, and one of them chosen.

import { element } from "./element.js";

export class Tokens {
  constructor(box, choose) {
    this.box = box;
    this.spans = new Map();
    this.order = [];
    this.selected = null;
    box.addEventListener("click", ({ target }) => {
      const token = target.closest("[data-index]");
      if (token) choose(Number(token.dataset.index));
    });
    box.addEventListener("keydown", (event) => {
      const place = this.order.indexOf(this.selected);
      const last = this.order.length - 1;
      const go = { ArrowRight: place + 1, ArrowDown: place + 10, ArrowLeft: place - 1, ArrowUp: place - 10, Home: 0, End: last }[event.key];
      if (go === undefined || last < 0) return;
      event.preventDefault();
      choose(this.order[Math.max(0, Math.min(last, go))]);
    });
  }

  clear() {
    this.box.replaceChildren();
    this.spans.clear();
    this.order = [];
    this.selected = null;
  }

  /** Draws the answer with its verdicts; `view` says where horizon and violation are. */
  draw(answer, view) {
    this.order = answer.tokens.map((token) => token.index);
    const horizon = answer.floor(view.horizon);
    const children = [];
    let at = 0;
    let isMarked = false;
    const mark = () => {
      if (isMarked) return;
      isMarked = true;
      const isEnd = horizon >= answer.bytes.length;
      if (!isEnd) children.push(element("span", { class: "horizon", title: `horizon: ${horizon} bytes may be shown` }, element("span", { class: "unseen" }, "[horizon]")));
    };
    const plain = (end, kind) => {
      if (end <= at) return;
      children.push(element("span", { class: kind }, answer.slice(at, end)));
      at = answer.floor(end);
    };
    for (const token of answer.tokens) {
      const [start, end] = [answer.floor(token.byte_start), answer.floor(token.byte_end)];
      plain(start, start > horizon ? "between beyond" : "between");
      if (start >= horizon) mark();
      const span = this.span(token, answer.slice(start, end));
      const { violation } = view;
      span.classList.toggle("beyond", start >= horizon);
      span.classList.toggle("violation", violation !== null && token.index >= violation.first_token && token.index <= violation.confirming_token);
      span.classList.toggle("flagged", view.flags.some((flag) => token.index >= flag.first_token && token.index <= flag.confirming_token));
      children.push(span);
      at = Math.max(at, end);
    }
    mark();
    plain(answer.bytes.length, answer.isComplete ? "between" : "waiting");
    this.box.replaceChildren(...children);
    this.mark(this.selected);
  }

  /** Elements are kept as long as the token's verdict is the same. */
  span(token, text) {
    const known = this.spans.get(token.index);
    if (known?.token === token) return known.span;
    const { verdict, channel } = token;
    const span = element("span", { class: `token ${verdict.risk.toLowerCase()} ${channel}`, id: `token-${token.index}`, role: "option", "aria-selected": "false", "data-index": token.index }, text);
    const doubt = 1 - (verdict.risk_probs.Safe ?? 0);
    span.style.setProperty("--doubt", doubt.toFixed(3));
    this.spans.set(token.index, { token, span });
    return span;
  }

  /** Chooses a token, or none. */
  mark(index) {
    this.spans.get(this.selected)?.span.setAttribute("aria-selected", "false");
    this.selected = index;
    const span = this.spans.get(index)?.span;
    if (!span?.isConnected) {
      this.box.removeAttribute("aria-activedescendant");
      return;
    }
    span.setAttribute("aria-selected", "true");
    this.box.setAttribute("aria-activedescendant", span.id);
    const [inner, outer] = [span.getBoundingClientRect(), this.box.getBoundingClientRect()];
    if (inner.top < outer.top || inner.bottom > outer.bottom) this.box.scrollTop += inner.top - outer.top - outer.height / 3;
  }
}
