// Which key is which action: the list in the panel, and the keyboard itself.

import { attachButton } from "./controls.js";
import { defaultKeys, label } from "./keys.js";
import { memory } from "./address.js";

const TYPING = "input:not([type=checkbox]), select, textarea";

export class Bindings {
  #list;
  #controls;
  #keys = new Map(); // action -> keys
  #codes = new Map();
  #place = "";
  #down = new Set(); // keys that are held
  #asking = null; // the action whose new key is awaited
  #isDrawing = false; // the list changes under the focus
  #commands;

  // `commands`: key -> function(isDown), for what is no action.
  constructor(list, controls, commands) {
    this.#list = list;
    this.#controls = controls;
    this.#commands = commands;
    addEventListener("keydown", (event) => this.#press(event));
    addEventListener("keyup", (event) => this.#release(event));
    addEventListener("blur", () => this.#down.clear());
  }

  setWorld(world, codes) {
    this.#place = `worldsim.keys.${world.world}`;
    this.#codes = codes;
    this.#keys = new Map([...defaultKeys(codes), ...this.#chosen()]);
    this.#draw();
  }

  reset() {
    memory("localStorage")?.removeItem(this.#place);
    this.#keys = defaultKeys(this.#codes);
    this.#asking = null;
    this.#draw();
  }

  #chosen() {
    try {
      const stored = Object.entries(JSON.parse(memory("localStorage")?.getItem(this.#place)) ?? {});
      return stored.filter(([name, keys]) => this.#codes.has(name) && Array.isArray(keys));
    } catch {
      return []; // somebody else wrote there
    }
  }

  #bind(action, key) {
    const without = [...this.#keys].map(([name, keys]) => [name, keys.filter((k) => k !== key)]);
    this.#keys = new Map(without).set(action, [key]);
    memory("localStorage")?.setItem(this.#place, JSON.stringify(Object.fromEntries(this.#keys)));
  }

  #press(event) {
    if (this.#asking !== null) {
      event.preventDefault();
      const action = this.#asking;
      this.#asking = null;
      if (event.code && event.key !== "Escape") this.#bind(action, event.code);
      this.#draw(action);
      return;
    }
    if (event.target.closest?.(TYPING) || event.altKey || event.metaKey) return;
    const key = event.ctrlKey ? `Control+${event.code}` : event.code;
    const isButton = event.target.closest?.("button, a, input, summary");
    if (isButton && (event.key === " " || event.key === "Enter")) return; // it is for the button
    const isAction = !event.ctrlKey && [...this.#keys.values()].some((keys) => keys.includes(key));
    if (!isAction && !(key in this.#commands)) return;
    event.preventDefault();
    if (event.repeat) return;
    if (isAction) this.#hold(this.#down.add(key));
    else this.#commands[key](true);
  }

  #release(event) {
    if (this.#down.delete(event.code)) this.#hold(this.#down);
    else this.#commands[event.code]?.(false);
  }

  #hold(down) {
    const names = [...this.#keys].filter(([, keys]) => keys.some((key) => down.has(key)));
    this.#controls.hold("keys", names.map(([name]) => name));
  }

  #draw(focused = null) {
    this.#isDrawing = true;
    this.#list.replaceChildren(...[...this.#codes.keys()].map((name) => this.#row(name)));
    this.#isDrawing = false;
    if (focused !== null) this.#list.querySelector(`[data-bind="${CSS.escape(focused)}"]`)?.focus();
  }

  #row(name) {
    const title = name.replaceAll("_", " ");
    const keys = this.#keys.get(name).map(label);
    const act = make("button", { className: "act", textContent: title, type: "button" });
    act.title = "Hold to do it";
    attachButton(act, name, this.#controls);
    const bind = make("button", { className: "bind", type: "button" });
    bind.dataset.bind = name;
    const isAsking = this.#asking === name;
    bind.classList.toggle("asking", isAsking);
    const chips = keys.map((key) => make("kbd", { textContent: key }));
    bind.append(...(isAsking ? ["press a key"] : chips.length ? chips : ["no key"]));
    const said = isAsking ? "press the new key, or Escape" : `${keys.join(" or ") || "no key"}; change`;
    bind.setAttribute("aria-label", `Key of ${title}: ${said}`);
    bind.addEventListener("click", () => {
      this.#asking = isAsking ? null : name;
      this.#draw(name);
    });
    bind.addEventListener("blur", () => {
      if (this.#isDrawing || this.#asking !== name) return;
      this.#asking = null;
      this.#draw();
    });
    const row = make("li", {});
    row.append(act, bind);
    return row;
  }
}

export function make(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}
