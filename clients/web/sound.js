// Sound: each frame's samples are scheduled right behind those of the frame before.

const LEAD = 0.06; // seconds of delay at the start: more than frames jitter
const LONGEST = 0.25; // seconds of delay after which samples are dropped to catch up

export class Sound {
  #context = null;
  #rate;
  #end = 0; // when the last scheduled sample ends, on the context's clock
  isOn = true;
  played = 0; // samples

  // `rate`: samples per second, or null for a silent world.
  constructor(rate) {
    this.#rate = rate;
  }

  // Browsers allow sound only after a gesture: call this in the handler of one.
  wake() {
    if (!this.#rate || !this.isOn) return;
    // at the world's own rate: chunks that are resampled one by one click where they join
    this.#context ??= new AudioContext({ latencyHint: "interactive", sampleRate: this.#rate });
    if (this.#context.state === "suspended") this.#context.resume().catch(() => {});
  }

  play(samples) {
    const context = this.#context;
    if (!this.isOn || context?.state !== "running") return;
    const now = context.currentTime;
    if (this.#end > now + LONGEST) return;
    const start = this.#end < now ? now + LEAD : this.#end;
    const buffer = context.createBuffer(1, samples.length, this.#rate);
    buffer.copyToChannel(samples, 0);
    const source = new AudioBufferSourceNode(context, { buffer });
    source.connect(context.destination);
    source.start(start);
    this.#end = start + buffer.duration;
    this.played += samples.length;
  }

  close() {
    this.#context?.close();
    this.#context = null;
  }
}
