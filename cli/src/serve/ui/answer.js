// An answer and what was said about it: verdicts as updates tell them, and places in bytes as places in the text.

/** Pieces as a model would write them: words, and of long words parts. */
export function pieces(text) {
  return text.match(/\s*\S{1,24}|\s+$/gu) ?? [];
}

export class Answer {
  constructor(prompt, text) {
    this.prompt = prompt;
    this.text = text;
    this.bytes = new TextEncoder().encode(text);
    this.check = null;
    this.tokens = [];
    this.flags = [];
    this.horizon = 0;
    this.received = 0;
    this.violation = null;
    this.decision = "continue";
    this.isComplete = false;
  }

  /** Adds an update up, by the rule of the library: what is void goes, and the new tokens take its place. */
  take(update) {
    this.tokens = this.tokens.filter((token) => token.index < update.void_from).concat(update.tokens);
    this.flags = this.flags.filter((flag) => flag.confirming_token < update.void_from).concat(update.flags);
    ({ horizon: this.horizon, received: this.received, violation: this.violation, decision: this.decision } = update);
  }

  /** The last place at or before a byte that is between characters. */
  floor(byte) {
    let place = Math.min(byte, this.bytes.length);
    while (place > 0 && place < this.bytes.length && (this.bytes[place] & 0xc0) === 0x80) place -= 1;
    return place;
  }

  /** The text between two bytes. */
  slice(start, end) {
    return new TextDecoder().decode(this.bytes.subarray(this.floor(start), this.floor(end)));
  }

  /** What a token stands for, with visible blanks where there is nothing else. */
  name(token) {
    const text = this.slice(token.byte_start, token.byte_end);
    return text.trim() === "" ? text.replaceAll("\n", "⏎").replaceAll(" ", "␣") || "∅" : text.trim();
  }
}

/** Judges an answer piece by piece. `told` is called after each. Ends when all is judged, or the signal says so. */
export async function judge(answer, openStream, { pace, signal, told }) {
  const stream = await openStream();
  const cancel = () => stream.close();
  signal.addEventListener("abort", cancel);
  try {
    answer.check = await stream.call({ prompt: [{ role: "user", content: answer.prompt }] });
    told();
    let next = performance.now();
    for (const piece of pieces(answer.text)) {
      // What comes after a stop is judged too: other rules may let it go on.
      answer.take(await stream.call({ text: piece }));
      told();
      if (pace > 0) {
        next = Math.max(next + 1000 / pace, performance.now());
        await new Promise((resolve) => setTimeout(resolve, Math.max(0, next - performance.now())));
      }
      if (signal.aborted) return;
    }
    answer.take(await stream.call({ finish: true }));
    answer.isComplete = true;
    told();
  } finally {
    signal.removeEventListener("abort", cancel);
    stream.close();
  }
}
