// What the overlay says: measured in this page, never hoped for.

const FRAMES = 180;
const LATENCIES = 300;
const SHORTEST = 500; // ms: a rate over less than that says nothing

export class Meter {
  #times = []; // when frames were shown, ms
  #sent = []; // [sequence number, when it was sent], oldest first
  #latencies = [];
  #number = null;
  missed = 0; // ticks that the server dropped, as it says
  skipped = 0; // frames that it made and this page never got or never showed

  // An action leaves with number `seq`; the clock of its latency starts.
  acted(seq, now) {
    this.#sent.push([seq, now]);
    if (this.#sent.length > LATENCIES) this.#sent.shift();
  }

  shown(frame, now) {
    this.#times.push(now);
    if (this.#times.length > FRAMES) this.#times.shift();
    while (this.#sent.length && this.#sent[0][0] <= frame.actionSeq) {
      this.#latencies.push(now - this.#sent.shift()[1]);
      if (this.#latencies.length > LATENCIES) this.#latencies.shift();
    }
    if (this.#number !== null) this.skipped += Math.max(0, frame.number - this.#number - 1);
    this.#number = frame.number;
    this.missed = frame.missed;
  }

  // What comes next has no frame before it, and no action is under way.
  pause() {
    this.#times = [];
    this.#sent = [];
    this.#number = null;
  }

  // Another story begins: what was dropped before does not count.
  restart() {
    this.pause();
    this.missed = this.skipped = 0;
  }

  figures() {
    const [first, last] = [this.#times[0], this.#times.at(-1)];
    const isLong = last - first >= SHORTEST; // false without any
    return {
      fps: isLong ? (1000 * (this.#times.length - 1)) / (last - first) : null,
      p50: quantile(this.#latencies, 0.5),
      p99: quantile(this.#latencies, 0.99),
      missed: this.missed,
      skipped: this.skipped,
      actions: this.#latencies.length,
    };
  }
}

function quantile(values, q) {
  if (!values.length) return null;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.ceil(q * sorted.length) - 1];
}
