// Puts the page together: what the server says becomes what is seen, and the other way round.

import { forgetWatch, linkTo, memory, remember, takeAddress } from "./address.js";
import { Bindings, make } from "./bindings.js";
import { Controls, attachButton, attachPad, holdable } from "./controls.js";
import { codesOf } from "./keys.js";
import { Link } from "./link.js";
import { Meter } from "./meter.js";
import { rewindWhile } from "./rewind.js";
import { Screen, drawObjects } from "./screen.js";
import { Settings } from "./settings.js";
import { Sound } from "./sound.js";
import { Toast } from "./toast.js";
import * as view from "./view.js";
import { RESET, VERSION } from "./wire.js";

const { $ } = view;
const OVERLAY_EVERY = 500; // ms
const HELLO = { type: "hello", protocol: VERSION, agent: "worldsim web" };
const STILL = 2000; // ms without a frame after which the player is told
const ELSEWHERE = [100, 80]; // ms before the next try for the process that has our game; how many

const address = takeAddress();
const toast = new Toast($("toast"));
const settings = new Settings(memory("localStorage"));
const meter = new Meter();
const screen = new Screen($("stage"), $("screen"), shown);
const controls = new Controls(act);
const link = new Link({ state: setState, welcome, frame: receive, error: complain });

let world = null; // the server's hello
let resume = address.resume;
let sound = new Sound(null);
let isOpen = false; // the game goes on
let isPaused = false;
let isRewinding = false;
let isBackHeld = false;
let isRecording = false;
let seq = 0;
let lastShown = 0; // ms
let misses = 0; // connections to a process that does not have our game

// From the server -----------------------------------------------------------------------------

function setState(state, facts) {
  isOpen = state === "open";
  controls.isOn = isOpen;
  if (isOpen) controls.forget();
  expect();
  view.showState(state, facts, world === null);
}

// Frames come by themselves only while the clock runs and somebody drives.
function expect() {
  link.expectsFrames = isOpen && !isPaused && !isRewinding && world.role === "driver";
}

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
    if (world.axes?.length) toast.say("Continuous controls: steer it with worldsim play --server.");
    begin().catch(giveUp);
  } else {
    keepPlace(before);
    if (before.role !== world.role) changeRole();
  }
  expect();
  view.showRole(world);
  if (world.role === "driver" && world.asking > (isFirst ? 0 : before.asking)) offerControls();
}

// Take up the game that was lost, if there is one; else begin one.
async function begin() {
  const isBack = link.watch === null && resume !== null && (await tookUp());
  if (isBack) comeBack();
  else keepPlace(world);
  const isNew = !isBack && world.role === "driver";
  await start(isNew ? { seed: newSeed() } : { keep: true });
  misses = 0;
  lastShown = performance.now();
  setState("open", {});
}

async function tookUp() {
  try {
    await link.ask({ ...HELLO, resume });
    return true;
  } catch (error) {
    if (error.code === "lost") throw error;
    if (error.code === "elsewhere" && ++misses < ELSEWHERE[1]) {
      setTimeout(() => link.open(), ELSEWHERE[0]);
      throw error;
    }
    toast.say("The game before is gone; this is a new one.");
    return false;
  }
}

// The token is another one if the server that had the game is gone.
function comeBack() {
  remember("resume", (resume = world.resume));
  if (typeof world.restored !== "number") return;
  const age = Math.round(world.restored);
  toast.say(`The server that had this game is gone; it goes on from a save ${age} s old.`);
}

function giveUp(error) {
  if (error.code === "lost" || error.code === "elsewhere") return; // the link tries again
  link.close();
  setState("over", { code: "over", why: error.message });
}

// What a reload or a new connection comes back to.
function keepPlace(before) {
  const isDriver = world.role === "driver";
  if (isDriver && before.role === "driver" && before.game !== world.game) return; // taken up
  link.watch = isDriver ? null : world.game;
  if (isDriver) forgetWatch();
  resume = isDriver ? world.resume : null;
  remember("resume", resume);
}

function changeRole() {
  seq = 0; // a new driver counts from 1
  controls.forget();
  setPaused(false);
  if (world.role === "driver") start({ keep: true }).catch(complain); // the clock may stand still
  toast.say(world.role === "driver" ? "You have the controls." : "You gave the controls away.");
}

function offerControls() {
  const give = make("button", { textContent: "Hand over", type: "button" });
  give.addEventListener("click", handOver);
  toast.say("A viewer asks for the controls.", give, 15000);
}

function start(options) {
  if (world.role === "viewer") {
    link.say({ type: "start", keep: true, ...settings.wishes }); // one's own; there is no answer
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
  lastShown = performance.now();
  meter.shown(frame, lastShown);
  if (frame.actionSeq >= seq) controls.seen();
  const hasObjects = frame.objects !== null && settings.objects;
  $("objects").hidden = !hasObjects;
  if (hasObjects) drawObjects($("objects"), frame);
}

function complain(error) {
  if (error.code !== "lost") toast.say(view.sentence(error.message));
}

// What the player does ------------------------------------------------------------------------

function act(code) {
  if (world?.role !== "driver" || isRewinding || !link.isOpen) return;
  if (world.axes?.length) return; // the page does not steer yet
  link.say({ type: "action", seq: ++seq, action: code });
  if (!isPaused) meter.acted(seq, performance.now());
}

// A world that waits for actions makes one frame.
function nudge() {
  const rest = ({ low, high }) => Math.min(Math.max(0, low), high);
  const idle = world.axes?.length ? { axes: world.axes.map(rest) } : { action: controls.idle };
  link.say({ type: "action", seq: ++seq, ...idle });
}

const order = (task) => () => {
  if (isOpen && world.role === "driver") task().catch(complain);
};

const save = order(async () => {
  const { frame, blob } = await link.snapshot();
  const href = URL.createObjectURL(blob);
  make("a", { href, download: `${world.world}-${frame}.state` }).click();
  setTimeout(() => URL.revokeObjectURL(href), 10000);
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
  const open = newTab(linkTo({ token: link.token, resume: forked.resume }), "Open it");
  toast.say(`A second game waits for ${forked.seconds} s.`, open, 1000 * forked.seconds);
});

const reset = order(() => {
  setPaused(false);
  return start({ seed: newSeed() });
});

const pause = order(() => {
  setPaused(!isPaused);
  return start({ keep: true });
});

const record = order(async () => {
  const answer = await link.ask({ type: "record", on: !isRecording });
  isRecording = answer.on;
  $("record").setAttribute("aria-pressed", isRecording);
  toast.say(isRecording ? "Recording on the server." : `Recorded as ${answer.name}.`);
});

function setPaused(value) {
  isPaused = value;
  expect();
  meter.pause();
  $("pause").setAttribute("aria-pressed", value);
  view.hint(value ? "paused" : "");
}

async function rewind(isHeld) {
  isBackHeld = isHeld;
  if (!isHeld || isRewinding || !isOpen || world.role !== "driver") return;
  isRewinding = true;
  expect();
  try {
    await start({ keep: true });
    const tell = (seconds) => view.hint(`\u2212${seconds.toFixed(1)} s`);
    await rewindWhile(() => isBackHeld, link, world.rate, nudge, tell);
  } catch (error) {
    complain(error);
  }
  isRewinding = false;
  setPaused(isPaused);
  if (isOpen) await start({ keep: true }).catch(complain);
  controls.forget();
}

function handOver() {
  link.say({ ...HELLO, role: "viewer" });
}

function invite() {
  const href = linkTo({ token: link.token, watch: world?.game });
  const text = link.token ? "This link carries the token:" : "Whoever opens this watches:";
  toast.say(text, newTab(href, href), 30000);
}

function newTab(href, textContent) {
  return make("a", { href, textContent, target: "_blank", rel: "noopener" });
}

function newSeed() {
  return Math.floor(Math.random() * 2 ** 31);
}

// What is pressed -------------------------------------------------------------------------------

const once = (task) => (isDown) => isDown && task();
const choose = () => isOpen && world.role === "driver" && $("file").click();
const bindings = new Bindings($("actions"), controls, {
  KeyR: once(reset),
  KeyP: once(pause),
  Backspace: rewind,
  "Control+KeyS": once(save),
  "Control+KeyO": once(choose),
  Escape: once(() => view.isPanelOpen() && view.showPanel(false)),
});

attachPad($("pad"), controls);
attachButton($("fire"), "attack", controls);
holdable($("rewind"), rewind);
addEventListener("blur", () => rewind(false));

const clicks = {
  save,
  load: choose,
  fork,
  pause,
  reset,
  record,
  invite,
  "hand-over": handOver,
  ask: () => link.say({ ...HELLO, role: "driver" }),
  "default-keys": () => bindings.reset(),
  menu: () => view.showPanel(!view.isPanelOpen()),
  close: () => view.showPanel(false),
  again: () => link.open(),
  own: () => {
    link.watch = resume = null;
    link.open();
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

settings.attach({ figures: $("show-figures"), sound: $("show-sound") });
settings.attach({ objects: $("show-objects"), quality: $("quality") });
settings.changed = () => {
  sound.isOn = settings.sound;
  $("figures").hidden = !settings.figures;
  if (isOpen) start({ keep: true }).catch(complain);
};
settings.changed();

for (const name of ["keydown", "pointerdown"]) addEventListener(name, () => sound.wake());
addEventListener("hashchange", () => location.reload()); // a link was pasted over this page
setInterval(() => {
  view.showFigures(meter.figures());
  if (!isOpen || isPaused || isRewinding) return;
  const isStill = performance.now() - lastShown > STILL; // paused by the driver, or a slow server
  view.hint(isStill ? "waiting for a frame" : "");
}, OVERLAY_EVERY);

link.token = address.token;
link.watch = address.watch;
link.open();
