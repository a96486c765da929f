// The probabilities of the three levels over the tokens, with the horizon, the violation and thresholds.

import { drawn } from "./element.js";

const HEIGHT = 210;
const MARGIN = { left: 38, right: 12, top: 24, bottom: 24 };

export class Chart {
  constructor(box, choose) {
    this.box = box;
    this.answer = null;
    this.view = null;
    this.selected = null;
    const pick = (event) => {
      const tokens = this.answer?.tokens ?? [];
      if (tokens.length === 0) return;
      const { left } = this.box.getBoundingClientRect();
      const place = Math.round((event.clientX - left - MARGIN.left) / this.step() - 0.5);
      choose(tokens[Math.max(0, Math.min(tokens.length - 1, place))].index);
    };
    box.addEventListener("pointerdown", pick);
    box.addEventListener("pointermove", (event) => event.buttons & 1 && pick(event));
    new ResizeObserver(() => this.draw(this.answer, this.view)).observe(box);
  }

  width() {
    return Math.max(260, this.box.clientWidth);
  }

  /** The width of a token. */
  step() {
    return (this.width() - MARGIN.left - MARGIN.right) / Math.max(1, this.answer?.tokens.length ?? 1);
  }

  draw(answer, view) {
    this.answer = answer;
    this.view = view;
    const width = this.width();
    const tokens = answer?.tokens ?? [];
    const picture = drawn("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": describe(tokens) });
    picture.append(...this.axes(width));
    if (tokens.length > 0) picture.append(...this.marks(tokens), ...this.curves(tokens));
    this.cross = drawn("g", { class: "cross" });
    picture.append(this.cross);
    this.box.replaceChildren(picture);
    this.mark(this.selected);
  }

  x(place) {
    return MARGIN.left + (place + 0.5) * this.step();
  }

  y(probability) {
    return MARGIN.top + (1 - probability) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  }

  axes(width) {
    const lines = [0, 0.25, 0.5, 0.75, 1].flatMap((value) => [
      drawn("line", { class: value === 0 ? "axis" : "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: this.y(value), y2: this.y(value) }),
      drawn("text", { class: "tick", x: MARGIN.left - 7, y: this.y(value) + 4, "text-anchor": "end" }, `${value * 100}`),
    ]);
    const count = this.answer?.tokens.length ?? 0;
    const every = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000].find((every) => count / every <= width / 90) ?? 10000;
    for (let place = every; place < count; place += every) {
      lines.push(drawn("text", { class: "tick", x: this.x(place), y: HEIGHT - 7, "text-anchor": "middle" }, `${this.answer.tokens[place].index}`));
    }
    return lines;
  }

  /** The place of the first token that starts at or after a byte. */
  place(byte) {
    const found = this.answer.tokens.findIndex((token) => token.byte_start >= byte);
    return found < 0 ? this.answer.tokens.length : found;
  }

  marks(tokens) {
    const { violation, horizon, before, flags, thresholds } = this.view;
    const [top, bottom] = [this.y(1), this.y(0)];
    const marks = [];
    const band = ({ first_token, confirming_token }, kind) => {
      const first = tokens.findIndex((token) => token.index >= first_token);
      const last = tokens.findIndex((token) => token.index >= confirming_token);
      if (first < 0) return;
      const [from, to] = [this.x(first - 0.5), this.x((last < 0 ? tokens.length - 1 : last) + 0.5)];
      marks.push(drawn("rect", { class: kind, x: from, y: top, width: Math.max(3, to - from), height: bottom - top }));
    };
    flags.forEach((flag) => band(flag, "band flagged"));
    if (violation) band(violation, "band violation");
    for (const { level, at } of thresholds) {
      marks.push(drawn("line", { class: `threshold ${level}`, x1: this.x(-0.5), x2: this.x(tokens.length - 0.5), y1: this.y(at), y2: this.y(at) }));
    }
    const line = (byte, kind, name) => {
      const x = this.x(this.place(byte) - 0.5);
      const isRight = x > this.width() * 0.6;
      marks.push(drawn("line", { class: kind, x1: x, x2: x, y1: top - 8, y2: bottom }));
      marks.push(drawn("text", { class: `${kind} name`, x: isRight ? x - 5 : x + 5, y: top - 10, "text-anchor": isRight ? "end" : "start" }, name));
    };
    if (before !== null && before !== horizon && before < this.answer.received) line(before, "horizon before", "");
    if (horizon < this.answer.received) line(horizon, "horizon", `horizon, byte ${horizon}`);
    return marks;
  }

  curves(tokens) {
    return ["Safe", "Controversial", "Unsafe"].map((level) => {
      const points = tokens.map((token, place) => `${this.x(place).toFixed(1)} ${this.y(token.verdict.risk_probs[level] ?? 0).toFixed(1)}`);
      const path = points.length === 1 ? `M${points[0]} h 0.1` : `M${points.join("L")}`;
      return drawn("path", { class: `curve ${level.toLowerCase()}`, d: path });
    });
  }

  /** Shows a token, or none. */
  mark(index) {
    this.selected = index;
    const place = this.answer?.tokens.findIndex((token) => token.index === index) ?? -1;
    if (place < 0) {
      this.cross?.replaceChildren();
      return;
    }
    const x = this.x(place);
    const { risk_probs } = this.answer.tokens[place].verdict;
    const dots = Object.entries(risk_probs).map(([level, value]) => drawn("circle", { class: level.toLowerCase(), cx: x, cy: this.y(value), r: 3.5 }));
    this.cross.replaceChildren(drawn("line", { x1: x, x2: x, y1: this.y(1), y2: this.y(0) }), ...dots);
  }
}

function describe(tokens) {
  if (tokens.length === 0) return "No token is judged yet.";
  const worst = tokens.reduce((worst, token) => ((token.verdict.risk_probs.Unsafe ?? 0) > (worst.verdict.risk_probs.Unsafe ?? 0) ? token : worst));
  return `Curves over ${tokens.length} tokens. Unsafe is highest at token ${worst.index}, with ${Math.round((worst.verdict.risk_probs.Unsafe ?? 0) * 100)} percent.`;
}
