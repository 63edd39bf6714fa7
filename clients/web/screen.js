// The picture: the newest frame only, scaled by whole numbers.

export class Screen {
  #canvas;
  #context;
  #stage;
  #shown;
  #next = null; // one slot: a newer frame replaces one that is not decoded yet
  #isBusy = false;

  // `shown(frame)` is called when the frame is on the canvas: the moment to acknowledge it.
  constructor(stage, canvas, shown) {
    this.#stage = stage;
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d", { alpha: false });
    this.#shown = shown;
    new ResizeObserver(() => this.fit()).observe(stage);
  }

  resize(width, height) {
    if (this.#canvas.width !== width) this.#canvas.width = width;
    if (this.#canvas.height !== height) this.#canvas.height = height;
    this.fit();
  }

  // The largest whole number of device pixels per pixel; below one, whatever fits.
  fit() {
    const { width, height } = this.#canvas;
    const ratio = window.devicePixelRatio || 1;
    const room = this.#stage.getBoundingClientRect();
    const fitting = Math.min((room.width * ratio) / width, (room.height * ratio) / height);
    const scale = (fitting < 1 ? fitting : Math.floor(fitting)) / ratio;
    const box = this.#canvas.parentElement.style;
    box.width = `${width * scale}px`;
    box.height = `${height * scale}px`;
  }

  put(frame) {
    this.#next = frame;
    if (!this.#isBusy) this.#run();
  }

  async #run() {
    this.#isBusy = true;
    while (this.#next) {
      const frame = this.#next;
      this.#next = null;
      try {
        const picture = new Blob([frame.picture], { type: "image/jpeg" });
        const bitmap = await createImageBitmap(picture);
        this.#context.drawImage(bitmap, 0, 0);
        bitmap.close();
      } catch {
        continue; // a broken picture was not shown; the ack of the next one covers it
      }
      this.#shown(frame);
    }
    this.#isBusy = false;
  }
}

// Object slots as they come: a row for each, a cell for each number, from blue through black to
// orange. What a number means is the world's own business.
export function drawObjects(canvas, frame) {
  const [width, height] = [frame.slotSize, frame.slots];
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  frame.objects.forEach((value, i) => {
    const strength = 255 * Math.tanh(Math.abs(value) || 0);
    const colour = value > 0 ? [1, 0.6, 0.2] : [0.25, 0.6, 1];
    image.data.set([...colour.map((part) => part * strength), 255], 4 * i);
  });
  context.putImageData(image, 0, 0);
}
