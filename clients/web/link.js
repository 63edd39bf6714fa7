// One connection to the server that comes back by itself: questions, answers, frames, files.
//
// It calls on.state(name, facts) with "connecting", "open", "waiting" {seconds, why} or "over"
// {why, code}; on.welcome(welcome, isFirst), on.frame(frame), on.error(error).

import { CHUNK_BYTES, MAX_UPLOAD, ProtocolError, decodeBinary, subprotocols } from "./wire.js";

const PAUSES = [0.5, 1, 2, 4, 5]; // seconds before the next attempt
const SEARCH = [0.3, 12]; // the same for a game to watch, at a server of several processes; how often
const SILENCE = 5000; // ms without a message where there should be frames: the line is dead
const STEADY = 5000; // ms of an open connection after which failures are forgotten
const UNASKED = new Set(["bad_action", "model", "recording"]); // errors that answer no question
const TRY_LATER = 1013; // a close code: full, or the game is over
const FINAL = { 1000: "over", 4001: "version", 4002: "taken" }; // close codes

export class ServerError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

export class Link {
  #on;
  #socket = null;
  #asks = [];
  #turn = Promise.resolve();
  #download = null;
  #uploads = 0;
  #failures = 0;
  #timer = 0;
  #attempt = 0; // which one is under way; what belongs to an older one is ignored
  #opened = 0;
  #heard = 0; // when the last message came
  #wasWelcome = false; // on this connection
  #everWelcome = false;
  token = null;
  watch = null; // id of the game that is watched, or null
  expectsFrames = false;

  constructor(on) {
    this.#on = on;
    setInterval(() => this.#listen(), 1000);
    addEventListener("online", () => this.#socket === null && this.#timer && this.open());
    addEventListener("offline", () => this.#drop("the network is gone"));
  }

  get isOpen() {
    return this.#wasWelcome;
  }

  // Connect now, whatever is under way.
  async open() {
    this.#leave();
    const attempt = ++this.#attempt;
    this.#on.state("connecting", {});
    const health = await askHealth();
    if (attempt !== this.#attempt) return;
    if (health === null) return this.#retry("the server does not answer");
    const isFull = health.games >= health.capacity;
    if (isFull && !this.watch) return this.#retry("all places are taken");
    const path = this.watch ? `/watch/${encodeURIComponent(this.watch)}` : "/";
    const url = `${location.origin.replace(/^http/, "ws")}${path}`;
    const socket = new WebSocket(url, subprotocols(this.token));
    socket.binaryType = "arraybuffer";
    socket.onmessage = (event) => this.#take(event.data);
    socket.onclose = (event) => this.#lost(event);
    this.#socket = socket;
  }

  close() {
    this.#leave();
    this.#attempt++;
  }

  say(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  // The answer of type `answer`; rejects with ServerError. One question at a time.
  ask(message, answer = message.type) {
    return this.#next(() => this.#expect(answer, () => this.say(message)));
  }

  // Keep the state by name, and have it as a Blob.
  snapshot(name = "quick") {
    return this.#next(async () => {
      const order = { type: "save", name, download: true };
      const saved = await this.#expect("save", () => this.say(order));
      const parts = await new Promise((resolve, reject) => {
        this.#download = { id: saved.download, left: saved.size, parts: [], resolve, reject };
      });
      return { frame: saved.frame, blob: new Blob(parts, { type: "application/octet-stream" }) };
    });
  }

  // Send a file; the number by which the server knows it.
  async upload(kind, file) {
    if (!file.size || file.size > MAX_UPLOAD) {
      throw new ServerError("bad_upload", "a file must have 1 byte to 16 MiB");
    }
    const bytes = await file.arrayBuffer();
    const id = ++this.#uploads;
    await this.#next(() =>
      this.#expect("upload", () => {
        this.say({ type: "upload", id, kind, size: bytes.byteLength });
        for (let at = 0; at < bytes.byteLength; at += CHUNK_BYTES) {
          this.#socket?.send(bytes.slice(at, at + CHUNK_BYTES));
        }
      }),
    );
    return id;
  }

  #next(task) {
    const done = this.#turn.then(task);
    this.#turn = done.catch(() => {});
    return done;
  }

  #expect(answer, send) {
    return new Promise((resolve, reject) => {
      if (!this.isOpen) return reject(new ServerError("lost", "there is no connection"));
      this.#asks.push({ answer, resolve, reject });
      send();
    });
  }

  #take(data) {
    this.#heard = performance.now();
    try {
      if (typeof data === "string") this.#hear(JSON.parse(data));
      else this.#receive(decodeBinary(data));
    } catch (error) {
      if (!(error instanceof ProtocolError || error instanceof SyntaxError)) throw error;
      this.#drop("the server sent what is no message");
    }
  }

  #receive(item) {
    const download = this.#download;
    if (item.kind === "frame") {
      this.#on.frame(item);
    } else if (download && item.id === download.id) {
      download.parts.push(item.data);
      download.left -= item.data.length;
      if (download.left <= 0) {
        this.#download = null;
        download.resolve(download.parts);
      }
    }
  }

  #hear(message) {
    if (message.type === "error") {
      const error = new ServerError(message.code, message.message);
      const asked = UNASKED.has(message.code) ? undefined : this.#asks.shift();
      if (asked) asked.reject(error);
      else this.#on.error(error);
      return;
    }
    if (message.type === "hello") {
      const isFirst = !this.#wasWelcome;
      if (isFirst) {
        this.#wasWelcome = this.#everWelcome = true;
        this.#opened = performance.now();
      }
      this.#on.welcome(message, isFirst);
      if (isFirst) return;
    }
    if (this.#asks[0]?.answer === message.type) this.#asks.shift().resolve(message);
  }

  // Nothing in a page notices a line that is cut without a word, but for the missing frames.
  #listen() {
    const now = performance.now();
    if (this.isOpen && now - this.#opened > STEADY) this.#failures = 0;
    const isSilent = now - this.#heard > SILENCE;
    if (this.isOpen && this.expectsFrames && isSilent) this.#drop("nothing is heard any more");
  }

  #drop(why) {
    if (this.#socket === null) return;
    this.#leave();
    this.#retry(why);
  }

  #lost({ code, reason }) {
    const wasWelcome = this.#wasWelcome;
    this.#leave();
    if (wasWelcome && code in FINAL) return this.#end(FINAL[code], reason);
    if (code === TRY_LATER && this.watch) return this.#end("over", reason);
    if (code === TRY_LATER || wasWelcome) return this.#retry(reason || "the connection was lost");
    this.#refused();
  }

  // A refused handshake tells a page nothing; what the server says of itself must do.
  async #refused() {
    const attempt = this.#attempt;
    const health = await askHealth();
    if (attempt !== this.#attempt) return;
    if (health === null) return this.#retry("the server does not answer");
    if (this.watch) {
      if (this.#failures < SEARCH[1]) return this.#retry("looking for the game", SEARCH[0]);
      return this.#end("over", "there is no such game, or it wants a token");
    }
    if (health.games >= health.capacity) return this.#retry("all places are taken");
    if (this.#everWelcome) return this.#retry("the server does not let us in");
    this.#end("token", "the server did not let this page in");
  }

  #end(code, why) {
    this.#on.state("over", { code, why });
  }

  #retry(why, pause = PAUSES[Math.min(this.#failures, PAUSES.length - 1)]) {
    this.#failures++;
    const seconds = pause * (0.8 + 0.4 * Math.random()); // not all players at once
    this.#on.state("waiting", { seconds, why });
    this.#timer = setTimeout(() => this.open(), 1000 * seconds);
  }

  #leave() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    const socket = this.#socket;
    this.#socket = null;
    this.#wasWelcome = false;
    if (socket !== null) {
      socket.onmessage = socket.onclose = null;
      socket.close(1000);
    }
    const lost = new ServerError("lost", "the connection was lost");
    const open = [...this.#asks, ...(this.#download ? [this.#download] : [])];
    this.#asks = [];
    this.#download = null;
    for (const asked of open) asked.reject(lost);
  }
}

// What the server says of itself, or null if nothing answers.
async function askHealth() {
  try {
    const answer = await fetch("/healthz", { cache: "no-store" });
    return await answer.json();
  } catch {
    return null;
  }
}
