// From what is held to the one action of a tick; the same rules as clients/keys.py.

// Controls that combine, and the keys that they have unless the player chose others.
export const DEFAULTS = {
  forward: ["ArrowUp", "KeyW"],
  backward: ["ArrowDown", "KeyS"],
  turn_left: ["ArrowLeft", "KeyA"],
  turn_right: ["ArrowRight", "KeyD"],
  attack: ["Space"],
};

const NAMES = {
  ArrowUp: "\u2191",
  ArrowDown: "\u2193",
  ArrowLeft: "\u2190",
  ArrowRight: "\u2192",
};

// Controls in the order of preference; the first that a world has is the one. Opposite keys cancel;
// firing wins over walking; a walk with a turn is the combined control, or the turn alone.
export function wanted(held) {
  const has = (name) => Number(held.has(name));
  const walk = { "-1": "backward", 0: "", 1: "forward" }[has("forward") - has("backward")];
  const side = { "-1": "left", 0: "", 1: "right" }[has("turn_right") - has("turn_left")];
  const names = [...held].filter((name) => !(name in DEFAULTS)); // held by a key of its own
  if (has("attack")) names.push("attack");
  if (walk && side) names.push(`${walk}_${side}`);
  if (side) names.push(`turn_${side}`);
  if (walk) names.push(walk);
  return [...names, "noop"];
}

// Every action of a world by name -> code: its bindings, and the codes that have no control.
export function codesOf(world) {
  const bound = new Set(Object.values(world.bindings));
  const nameless = world.actions.map((name, code) => [name, code]);
  return new Map([
    ...Object.entries(world.bindings),
    ...nameless.filter(([, code]) => !bound.has(code)),
  ]);
}

export function choose(held, codes) {
  const name = wanted(held).find((one) => codes.has(one));
  return name === undefined ? 0 : codes.get(name);
}

// Action -> keys: the defaults where there are some, digits for the first nine others.
export function defaultKeys(codes) {
  const others = [...codes].filter(([name]) => !(name in DEFAULTS));
  const digits = (code) => (code < 9 ? [`Digit${code + 1}`] : []);
  const named = [...codes.keys()].filter((name) => name in DEFAULTS);
  return new Map([
    ...named.map((name) => [name, DEFAULTS[name]]),
    ...others.map(([name, code]) => [name, digits(code)]),
  ]);
}

// What is printed on a key, as far as its code tells.
export function label(key) {
  return NAMES[key] ?? key.replace(/^(Key|Digit)/, "").replace(/^Numpad/, "Num ");
}
