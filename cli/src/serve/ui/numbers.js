// The server's numbers, as it tells them to Prometheus.

import { bar, byId, drawn, element } from "./element.js";
import { metrics } from "./server.js";

const EVERY = 2000;
const KEPT = 60;

/** Lines of Prometheus' text as name, labels and value. */
export function read(text) {
  const samples = [];
  for (const line of text.split("\n")) {
    const parts = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!parts) continue;
    const labels = {};
    for (const [, name, value] of (parts[2] ?? "").matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)) labels[name] = value.replace(/\\(.)/g, (_, letter) => (letter === "n" ? "\n" : letter));
    samples.push({ name: parts[1], labels, value: Number(parts[3]) });
  }
  return samples;
}

const sum = (samples, name) => samples.filter((sample) => sample.name === `qwenguard_${name}`).reduce((sum, { value }) => sum + value, 0);

/** Of what came between two readings: the bound below which this part of the values is. */
function quantile(samples, before, name, part) {
  const buckets = (samples) => samples.filter((sample) => sample.name === `qwenguard_${name}_bucket`);
  const earlier = new Map(buckets(before ?? []).map(({ labels, value }) => [labels.le, value]));
  const counts = buckets(samples).map(({ labels, value }) => [labels.le, value - (earlier.get(labels.le) ?? 0)]);
  const all = counts.at(-1)?.[1] ?? 0;
  if (all === 0) return null;
  return Number(counts.find(([, count]) => count >= all * part)[0].replace("+Inf", "Infinity"));
}

export class Numbers {
  constructor(failed) {
    this.failed = failed;
    this.last = null;
    this.rates = [];
    this.isPaused = false;
    const pause = byId("numbers-pause");
    pause.addEventListener("click", () => {
      this.isPaused = !this.isPaused;
      pause.setAttribute("aria-pressed", `${this.isPaused}`);
      pause.textContent = this.isPaused ? "Go on" : "Pause";
    });
    setInterval(() => this.ask(), EVERY);
    document.addEventListener("visibilitychange", () => this.ask());
  }

  async ask() {
    if (this.isPaused || document.hidden || this.isAsking) return;
    this.isAsking = true;
    try {
      this.show(read(await metrics()));
      this.failed(null);
    } catch (error) {
      this.failed(error);
    } finally {
      this.isAsking = false;
    }
  }

  show(samples) {
    const now = performance.now();
    const tokens = sum(samples, "tokens_total");
    if (this.last) this.rates.push(Math.max(0, (tokens - this.last.tokens) / ((now - this.last.now) / 1000)));
    this.rates = this.rates.slice(-KEPT);
    const wait = quantile(samples, this.last?.samples, "queue_seconds", 0.95);
    this.last = { now, tokens, samples };
    const rate = this.rates.at(-1) ?? 0;
    const tiles = [
      ["Streams", sum(samples, "open_streams"), `${sum(samples, "waiting_streams")} wait`],
      ["Tokens a second", rate < 10 ? rate.toFixed(1) : Math.round(rate), spark(this.rates)],
      ["Oldest wait", seconds(sum(samples, "oldest_wait_seconds")), wait === null ? "no calls just now" : wait === Infinity ? "95 % wait longer than 25 s" : `95 % wait up to ${seconds(wait)}`],
      ["Requests", sum(samples, "http_requests"), `${sum(samples, "http_requests_total")} so far`],
    ];
    byId("tiles").replaceChildren(...tiles.map(([name, value, more]) => element("div", { class: "tile" }, element("dt", {}, name), element("dd", {}, `${value}`), element("dd", { class: "more" }, more))));
    this.stops(samples);
  }

  stops(samples) {
    const counts = new Map();
    for (const { name, labels, value } of samples) {
      if (name === "qwenguard_stops_total") counts.set(labels.category, (counts.get(labels.category) ?? 0) + value);
    }
    const sorted = [...counts].sort(([, a], [, b]) => b - a);
    const most = sorted[0]?.[1] ?? 1;
    const bars = sorted.map(([name, count]) => bar(name, 0, { kind: "unsafe", label: `${count}`, part: count / most }));
    const flags = sum(samples, "flags_total");
    byId("stops").replaceChildren(
      bars.length > 0 ? element("ul", { class: "bars" }, bars) : element("p", { class: "hint" }, "None yet."),
      flags > 0 ? element("p", { class: "hint" }, `${flags} more flagged.`) : "",
    );
  }
}

function seconds(value) {
  return value >= 1 ? `${value.toFixed(1)} s` : `${Number((value * 1000).toPrecision(2))} ms`;
}

/** The last minutes as a line. */
function spark(values) {
  const [width, height] = [96, 22];
  const most = Math.max(1, ...values);
  const points = values.map((value, place) => `${(width - (values.length - 1 - place) * (width / (KEPT - 1))).toFixed(1)} ${(height - 2 - (value / most) * (height - 4)).toFixed(1)}`);
  const picture = drawn("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
  if (points.length > 1) picture.append(drawn("path", { d: `M${points.join("L")}` }));
  return picture;
}
