// What is seen besides the picture: the state of the connection, the part one plays, the figures.

import { DEFAULTS } from "./keys.js";

const ENDS = {
  over: "The game is over",
  taken: "Played from elsewhere",
  token: "This world may want a token",
  version: "Another version",
};

export const $ = (id) => document.getElementById(id);

let countdown = 0;

// Over the middle of the picture; nothing for an empty text.
export function hint(text) {
  $("hint").textContent = text;
  $("hint").hidden = !text;
}

// The curtain lies over the picture until the connection is there. `isFirst`: it never was.
export function showState(state, { seconds = 0, why = "", code = "" }, isFirst) {
  document.body.dataset.state = state;
  clearInterval(countdown);
  $("curtain").hidden = state === "open";
  $("token-form").hidden = code !== "token";
  $("again").hidden = !(state === "waiting" || code === "token" || code === "taken");
  $("own").hidden = !(code === "over" || code === "taken");
  for (const button of $("tools").querySelectorAll("button")) button.disabled = state !== "open";
  const title = {
    open: "Connected",
    connecting: isFirst ? "Connecting" : "Reconnecting",
    waiting: isFirst ? "No connection yet" : "Connection lost",
    over: ENDS[code],
  }[state];
  $("status-text").textContent = state === "over" ? "Not connected" : title;
  $("curtain-title").textContent = title;
  const until = performance.now() + 1000 * seconds;
  const tick = () => {
    const left = Math.max(0, Math.ceil((until - performance.now()) / 1000));
    const next = state === "waiting" ? ` Next try in ${left} s.` : "";
    $("curtain-text").textContent = why ? sentence(why) + next : "";
  };
  tick();
  if (state === "waiting") countdown = setInterval(tick, 250);
  if (code === "token") $("token").focus();
}

// What the server's hello says about the world and about us.
export function showRole(world) {
  const isDriver = world.role === "driver";
  document.body.dataset.role = world.role;
  document.title = `${world.world} \u00b7 worldsim`;
  $("world").textContent = world.world;
  $("screen").setAttribute("aria-label", `The world ${world.world}, generated as you play`);
  $("record").hidden = !world.can_record;
  $("rewind").title = `Hold to go back, up to ${Math.round(world.rewind)} s (Backspace)`;
  const canWalk = Object.keys(DEFAULTS).some((name) => name in world.bindings);
  document.body.dataset.pads = canWalk ? "all" : "none";
  const people = world.viewers === 1 ? "1 viewer" : `${world.viewers} viewers`;
  $("company").textContent = isDriver ? `You play. ${people}.` : `You watch. ${people}.`;
  $("hand-over").hidden = !isDriver || world.viewers === 0;
  $("watching-text").textContent = world.asking ? "Asked for the controls." : "You are watching.";
  $("extras").textContent = world.sample_rate ? "" : "This world is silent.";
  $("show-sound").disabled = !world.sample_rate;
}

export function showFigures({ fps, p50, p99, missed }) {
  const milliseconds = (value) => (value === null ? "\u2013" : `${Math.round(value)} ms`);
  $("fps").textContent = fps === null ? "\u2013" : fps.toFixed(1);
  $("p50").textContent = milliseconds(p50);
  $("p99").textContent = milliseconds(p99);
  $("missed").textContent = missed;
}

export function showPanel(isOpen) {
  document.body.dataset.panel = isOpen ? "open" : "closed";
  $("menu").setAttribute("aria-expanded", isOpen);
  $(isOpen ? "close" : "menu").focus();
}

export function isPanelOpen() {
  return document.body.dataset.panel === "open";
}

// Messages come in small letters and without a full stop.
export function sentence(text) {
  return `${text[0].toUpperCase()}${text.slice(1)}.`;
}
