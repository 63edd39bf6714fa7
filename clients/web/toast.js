// One short message at a time, over the page so that nothing moves.

const SHOWN = 4000; // ms

export class Toast {
  #element;
  #timer = 0;

  constructor(element) {
    this.#element = element;
    element.addEventListener("click", (event) => {
      if (event.target.closest("a, button")) this.hide();
    });
  }

  // `extra`: a link or a button beside the text.
  say(text, extra = null, duration = SHOWN) {
    clearTimeout(this.#timer);
    const words = document.createElement("span");
    words.textContent = text;
    this.#element.replaceChildren(words, ...(extra ? [extra] : []));
    this.#element.classList.add("shown");
    this.#timer = setTimeout(() => this.hide(), duration);
  }

  hide() {
    this.#element.classList.remove("shown");
  }
}
