// Puts the page together: what the server says becomes what is seen, and the other way round.

import { forgetWatch, linkTo, memory, remember, takeAddress } from "./address.js";
import { Bindings, make } from "./bindings.js";
import { Controls, attachButton, attachPad, holdable } from "./controls.js";
import { DEFAULTS, codesOf } from "./keys.js";
import { Link } from "./link.js";
import { Meter } from "./meter.js";
import { rewindWhile } from "./rewind.js";
import { Screen, drawObjects } from "./screen.js";
import { Settings } from "./settings.js";
import { Sound } from "./sound.js";
import { Toast } from "./toast.js";
import { RESET, VERSION } from "./wire.js";

const OVERLAY_EVERY = 500; // ms
const AGENT = "worldsim web";
const ENDS = {
  over: "The game is over",
  taken: "Played from elsewhere",
  token: "This world wants a token",
  version: "Another version",
};

const $ = (id) => document.getElementById(id);
const address = takeAddress();
const toast = new Toast($("toast"));
const settings = new Settings(memory("localStorage"));
const screen = new Screen($("stage"), $("screen"), shown);
const controls = new Controls(act);
const link = new Link({ state: showState, welcome, frame: receive, error: complain });

let world = null; // the server's hello
let resume = address.resume;
let meter = new Meter();
let sound = new Sound(null);
let isPaused = false;
let isRewinding = false;
let isRecording = false;
let seq = 0;
let countdown = 0;

// From the server -----------------------------------------------------------------------------

function welcome(hello, isFirst) {
  const before = world;
  world = hello;
  if (isFirst) {
    const codes = codesOf(world);
    controls.setWorld(codes);
    bindings.setWorld(world, codes);
    screen.resize(world.width, world.height);
    sound.close();
    sound = new Sound(world.sample_rate);
    sound.isOn = settings.sound;
    seq = 0;
    meter.pause();
    begin().catch(complain);
  } else if (before.role !== world.role) {
    seq = 0; // a new driver counts from 1
    controls.forget();
  }
  showRole(before);
}

// Take up the game that was lost, if there is one; else begin one.
async function begin() {
  if (link.watch === null && !(await tookUp())) await start({ seed: newSeed() });
  else await start({ keep: true });
  showState("open", {});
}

async function tookUp() {
  if (!resume) return false;
  try {
    await link.ask({ type: "hello", protocol: VERSION, agent: AGENT, resume });
    return true;
  } catch (error) {
    if (error.code === "lost") throw error;
    if (error.code === "elsewhere") {
      link.open(); // another process of the server has it
      throw error;
    }
    keepResume(world.resume);
    toast.say("The game before is gone; this is a new one.");
    return false;
  }
}

function start(options) {
  if (world.role === "viewer") {
    link.say({ type: "start", keep: true, ...settings.wishes }); // a viewer's own; no answer
    return Promise.resolve();
  }
  const clock = isPaused || isRewinding ? "step" : "open";
  return link.ask({ type: "start", clock, ...settings.wishes, ...options });
}

function receive(frame) {
  if (frame.sound) sound.play(frame.sound);
  screen.put(frame);
}

function shown(frame) {
  link.say({ type: "ack", frame: frame.number });
  if (frame.flags & RESET) meter.restart();
  meter.shown(frame, performance.now());
  if (frame.actionSeq >= seq) controls.seen();
  const hasObjects = frame.objects !== null && settings.objects;
  $("objects").hidden = !hasObjects;
  if (hasObjects) drawObjects($("objects"), frame);
}

function complain(error) {
  if (error.code !== "lost") toast.say(`${error.message[0].toUpperCase()}${error.message.slice(1)}.`);
}

// What the player does ------------------------------------------------------------------------

function act(code) {
  if (world?.role !== "driver" || isRewinding || !link.isOpen) return;
  link.say({ type: "action", seq: ++seq, action: code });
  if (!isPaused) meter.acted(seq, performance.now());
}

// A world that waits for actions makes one frame.
function nudge() {
  link.say({ type: "action", seq: ++seq, action: controls.idle });
}

const order = (task) => () => {
  if (link.isOpen && world.role === "driver") task().catch(complain);
};

const save = order(async () => {
  const { frame, blob } = await link.snapshot();
  const url = URL.createObjectURL(blob);
  make("a", { href: url, download: `${world.world}-${frame}.state` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
  toast.say("Saved as a file.");
});

async function load(file) {
  const isPicture = file.type.startsWith("image/");
  const upload = await link.upload(isPicture ? "picture" : "snapshot", file);
  if (isPicture) await start({ seed: newSeed(), upload });
  else await link.ask({ type: "load", upload });
  if (isPaused) nudge();
  toast.say(isPicture ? "The world begins from your picture." : "The world goes on from the file.");
}

const fork = order(async () => {
  const forked = await link.ask({ type: "fork" });
  const href = linkTo({ token: link.token, resume: forked.resume });
  const open = make("a", { href, target: "_blank", rel: "noopener", textContent: "Open it" });
  toast.say(`A second game waits for ${forked.seconds} s.`, open, 1000 * forked.seconds);
});

const reset = order(() => setPaused(false).then(() => start({ seed: newSeed() })));
const pause = order(() => setPaused(!isPaused).then(() => start({ keep: true })));

const record = order(async () => {
  const answer = await link.ask({ type: "record", on: !isRecording });
  isRecording = answer.on;
  $("record").setAttribute("aria-pressed", isRecording);
  toast.say(isRecording ? "Recording on the server." : `Recorded as ${answer.name}.`);
});

async function setPaused(value) {
  isPaused = value;
  link.expectsFrames = !value;
  meter.pause();
  $("pause").setAttribute("aria-pressed", value);
  hint(value ? "paused" : "");
}

const isBackHeld = { current: false };

async function rewind(isHeld) {
  isBackHeld.current = isHeld;
  if (!isHeld || isRewinding || !link.isOpen || world.role !== "driver") return;
  isRewinding = true;
  try {
    await start({ keep: true });
    const tell = (seconds) => hint(`\u2212${seconds.toFixed(1)} s`);
    await rewindWhile(() => isBackHeld.current, link, world.rate, nudge, tell);
  } catch (error) {
    complain(error);
  } finally {
    isRewinding = false;
    hint(isPaused ? "paused" : "");
    meter.pause();
    if (link.isOpen) await start({ keep: true }).catch(complain);
    controls.forget();
  }
}

function newSeed() {
  return Math.floor(Math.random() * 2 ** 31);
}

function keepResume(token) {
  resume = token;
  remember("resume", token);
}

// What is seen ----------------------------------------------------------------------------------

function hint(text) {
  $("hint").textContent = text;
  $("hint").hidden = !text;
}

function showState(state, { seconds, why, code }) {
  document.body.dataset.state = state;
  clearInterval(countdown);
  const isOpen = state === "open";
  const isFirst = world === null;
  link.expectsFrames = isOpen && !isPaused && world.role === "driver";
  controls.isOn = isOpen;
  if (isOpen) controls.forget();
  $("curtain").hidden = isOpen;
  $("token-form").hidden = code !== "token";
  $("again").hidden = !["waiting", "over"].includes(state) || code === "token" || code === "over";
  $("own").hidden = !(code === "over" || code === "taken");
  for (const button of $("tools").querySelectorAll("button")) button.disabled = !isOpen;
  const titles = {
    open: "Connected",
    connecting: isFirst ? "Connecting" : "Reconnecting",
    waiting: isFirst ? "No connection yet" : "Connection lost",
    over: ENDS[code],
  };
  $("status-text").textContent = state === "over" ? "Not connected" : titles[state];
  $("curtain-title").textContent = titles[state];
  $("curtain-text").textContent = why ? `${why[0].toUpperCase()}${why.slice(1)}.` : "";
  if (state === "waiting") {
    const until = performance.now() + 1000 * seconds;
    const tick = () => {
      const left = Math.max(0, Math.ceil((until - performance.now()) / 1000));
      $("curtain-text").textContent = `${why[0].toUpperCase()}${why.slice(1)}. Next try in ${left} s.`;
    };
    tick();
    countdown = setInterval(tick, 250);
  }
  if (code === "token") $("token").focus();
}

function showRole(before) {
  const isDriver = world.role === "driver";
  document.body.dataset.role = world.role;
  document.title = `${world.world} \u00b7 worldsim`;
  $("world").textContent = world.world;
  $("screen").setAttribute("aria-label", `The world ${world.world}, generated as you play`);
  $("record").hidden = !world.can_record;
  $("rewind").title = `Hold to go back, up to ${Math.round(world.rewind)} s (Backspace)`;
  const canWalk = Object.keys(DEFAULTS).some((name) => name in world.bindings);
  document.body.dataset.pads = canWalk ? "all" : "none";
  if (isDriver) {
    link.watch = null;
    forgetWatch();
    if (!resume || before?.role === "viewer") keepResume(world.resume);
    else if (before !== null && before.game === world.game) keepResume(world.resume);
  } else {
    link.watch = world.game;
    keepResume(null);
  }
  link.expectsFrames = isDriver && document.body.dataset.state === "open" && !isPaused;
  const [count, asking] = [world.viewers, world.asking];
  const people = count === 1 ? "1 viewer" : `${count} viewers`;
  $("company").textContent = isDriver ? `You play. ${people}.` : `You watch. ${people}.`;
  $("hand-over").hidden = !isDriver || count === 0;
  $("watching-text").textContent = asking ? "Asked for the controls." : "You are watching.";
  $("extras").textContent = world.sample_rate ? "" : "This world is silent.";
  $("show-sound").disabled = !world.sample_rate;
  if (isDriver && asking && (before?.asking ?? 0) < asking) {
    const give = make("button", { textContent: "Hand over", type: "button" });
    give.addEventListener("click", handOver);
    toast.say("A viewer asks for the controls.", give, 15000);
  }
  if (!isDriver && before?.role === "driver") toast.say("You gave the controls away.");
  if (isDriver && before?.role === "viewer") toast.say("You have the controls.");
}

function handOver() {
  link.say({ type: "hello", protocol: VERSION, agent: AGENT, role: "viewer" });
}

function showFigures() {
  const { fps, p50, p99, missed } = meter.figures();
  $("fps").textContent = fps === null ? "\u2013" : fps.toFixed(1);
  $("p50").textContent = p50 === null ? "\u2013" : `${Math.round(p50)} ms`;
  $("p99").textContent = p99 === null ? "\u2013" : `${Math.round(p99)} ms`;
  $("missed").textContent = missed;
}

function showPanel(isOpen) {
  document.body.dataset.panel = isOpen ? "open" : "closed";
  $("menu").setAttribute("aria-expanded", isOpen);
  $(isOpen ? "close" : "menu").focus();
}

// What is pressed -------------------------------------------------------------------------------

const once = (task) => (isDown) => isDown && task();
const choose = () => link.isOpen && world.role === "driver" && $("file").click();
const bindings = new Bindings($("actions"), controls, {
  KeyR: once(reset),
  KeyP: once(pause),
  Backspace: rewind,
  "Control+KeyS": once(save),
  "Control+KeyO": once(choose),
  Escape: once(() => document.body.dataset.panel === "open" && showPanel(false)),
});

attachPad($("pad"), controls);
attachButton($("fire"), "attack", controls);
holdable($("rewind"), rewind);

const clicks = {
  save,
  load: choose,
  fork,
  pause,
  reset,
  record,
  "hand-over": handOver,
  ask: () => link.say({ type: "hello", protocol: VERSION, agent: AGENT, role: "driver" }),
  "default-keys": () => bindings.reset(),
  menu: () => showPanel(document.body.dataset.panel !== "open"),
  close: () => showPanel(false),
  again: () => link.open(),
  own: () => {
    link.watch = null;
    keepResume(null);
    link.open();
  },
  invite: () => {
    const href = linkTo({ token: link.token, watch: world?.game });
    const open = make("a", { href, target: "_blank", rel: "noopener", textContent: href });
    toast.say(link.token ? "This link carries the token:" : "Whoever opens this watches:", open, 30000);
  },
};
for (const [id, task] of Object.entries(clicks)) $(id).addEventListener("click", () => task());

// a button that was clicked must not catch the space bar of the game
addEventListener("click", (event) => {
  if (event.detail > 0) event.target.closest?.("button:not(.bind, .plain)")?.blur();
});

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  link.token = $("token").value;
  remember("token", link.token);
  link.open();
});

const take = (files) => files[0] && order(() => load(files[0]))();
$("file").addEventListener("change", () => {
  take([...$("file").files]);
  $("file").value = "";
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  $("stage").classList.add("dropping");
});
for (const name of ["dragleave", "drop"]) {
  addEventListener(name, () => $("stage").classList.remove("dropping"));
}
addEventListener("drop", (event) => {
  event.preventDefault();
  take([...event.dataTransfer.files]);
});

settings.attach({ figures: $("show-figures"), sound: $("show-sound"), objects: $("show-objects") });
settings.attach({ quality: $("quality") });
settings.changed = () => {
  sound.isOn = settings.sound;
  $("figures").hidden = !settings.figures;
  if (link.isOpen && world) start({ keep: true }).catch(complain);
};
settings.changed();

for (const name of ["keydown", "pointerdown"]) addEventListener(name, () => sound.wake());
addEventListener("hashchange", () => location.reload()); // a link was pasted over this page
setInterval(showFigures, OVERLAY_EVERY);

link.token = address.token;
link.watch = address.watch;
link.open();
