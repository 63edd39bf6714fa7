// Keyboard, touch and gamepad: what is held, and the one code that it means.

import { choose } from "./keys.js";

const PATIENCE = 250; // ms that a tap is kept for the frame that shows it
const STICK = 0.45; // of a gamepad's stick: less is its centre
const MIDDLE = 0.2; // of the touch pad's radius
const SLANT = 0.38; // sine of the angle at which a direction counts: eight equal sectors
const BUTTONS = {
  0: "attack",
  7: "attack",
  12: "forward",
  13: "backward",
  14: "turn_left",
  15: "turn_right",
};

export class Controls {
  #held = new Map(); // source -> set of control names
  #codes = new Map();
  #send;
  #code = 0; // what the server knows
  #sentFor = new Set(); // what was held then
  #isUnseen = false; // no frame has shown it yet
  #timer = 0;
  isOn = false;

  // `send(code)`: the player holds this from now on.
  constructor(send) {
    this.#send = send;
    addEventListener("blur", () => this.release());
    addEventListener("visibilitychange", () => document.hidden && this.release());
    addEventListener("gamepadconnected", () => this.#poll());
  }

  // `codes`: name -> code.
  setWorld(codes) {
    this.#codes = codes;
    this.forget();
  }

  hold(source, names) {
    this.#held.set(source, new Set(names));
    this.#update();
  }

  // The releases may have gone to another window.
  release() {
    this.#held.clear();
    this.#update();
  }

  // The server knows of no action any more: tell it what is held, if anything is.
  forget() {
    this.#code = this.idle;
    this.#sentFor = new Set();
    this.seen();
  }

  // A frame has shown what was sent last.
  seen() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#isUnseen = false;
    this.#update();
  }

  get idle() {
    return choose(new Set(), this.#codes);
  }

  get held() {
    return new Set([...this.#held.values()].flatMap((names) => [...names]));
  }

  #update() {
    const held = this.held;
    const code = choose(held, this.#codes);
    if (!this.isOn || code === this.#code) return;
    // the newest action of a tick wins: a key that goes up at once would never be seen
    const isRelease = [...this.#sentFor].some((name) => !held.has(name));
    if (isRelease && this.#isUnseen) {
      this.#timer ||= setTimeout(() => this.seen(), PATIENCE);
      return;
    }
    this.#code = code;
    this.#sentFor = held;
    this.#isUnseen = true;
    this.#send(code);
  }

  #poll() {
    const pads = navigator.getGamepads().filter((pad) => pad?.connected);
    const names = new Set(pads.flatMap(read));
    const before = this.#held.get("gamepad") ?? new Set();
    if (names.size !== before.size || [...names].some((name) => !before.has(name))) {
      this.hold("gamepad", names);
    }
    if (pads.length) requestAnimationFrame(() => this.#poll());
  }
}

function read(pad) {
  const pressed = Object.entries(BUTTONS).filter(([number]) => pad.buttons[number]?.pressed);
  return [...pressed.map(([, name]) => name), ...directions(pad.axes[0], pad.axes[1], STICK)];
}

function directions(x, y, threshold) {
  const names = [];
  if (y < -threshold) names.push("forward");
  if (y > threshold) names.push("backward");
  if (x < -threshold) names.push("turn_left");
  if (x > threshold) names.push("turn_right");
  return names;
}

// A round pad: the direction from its centre, in eight sectors.
export function attachPad(element, controls) {
  const point = (event) => {
    const box = element.getBoundingClientRect();
    const x = (event.clientX - box.left) / (box.width / 2) - 1;
    const y = (event.clientY - box.top) / (box.height / 2) - 1;
    const length = Math.hypot(x, y);
    const names = length < MIDDLE ? [] : directions(x / length, y / length, SLANT);
    element.dataset.held = names.join(" ");
    controls.hold("pad", names);
  };
  const release = () => {
    element.dataset.held = "";
    controls.hold("pad", []);
  };
  attach(element, point, release);
  element.addEventListener("pointermove", (event) => {
    if (element.hasPointerCapture(event.pointerId)) point(event);
  });
}

// A button that holds one control for as long as it is pressed, by finger, mouse or key.
export function attachButton(element, name, controls) {
  const source = `button ${name}`;
  holdable(element, (isHeld) => controls.hold(source, isHeld ? [name] : []));
}

// Tells when an element is pressed and when it no longer is.
export function holdable(element, tell) {
  const set = (isHeld) => {
    element.classList.toggle("held", isHeld);
    tell(isHeld);
  };
  attach(element, () => set(true), () => set(false));
  element.addEventListener("keydown", (event) => {
    if (event.key !== " " && event.key !== "Enter") return;
    event.preventDefault();
    if (!event.repeat) set(true);
  });
  element.addEventListener("keyup", (event) => {
    if (event.key === " " || event.key === "Enter") set(false);
  });
  element.addEventListener("blur", () => element.classList.contains("held") && set(false));
}

function attach(element, press, release) {
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault(); // no focus, no text selection, no click
    element.setPointerCapture(event.pointerId);
    press(event);
  });
  for (const name of ["pointerup", "pointercancel"]) element.addEventListener(name, release);
  element.addEventListener("contextmenu", (event) => event.preventDefault());
}
