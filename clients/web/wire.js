// The wire format worldsim.v1, as docs/protocol.md has it: pure functions, no I/O.

export const VERSION = 1;
export const SUBPROTOCOL = "worldsim.v1";
export const CHUNK_BYTES = 16 * 1024; // of an upload, per message
export const MAX_UPLOAD = 16 * 1024 * 1024;
export const RESET = 8; // a flag of a frame: another story begins here

const FRAME_BYTES = 72;
const CHUNK_HEADER = 12;
const JPEG = 1;

export class ProtocolError extends Error {}

// The sub-protocols to offer: a browser cannot set headers, so the token travels as one of them.
export function subprotocols(token) {
  if (!token) return [SUBPROTOCOL];
  const bytes = new TextEncoder().encode(token);
  const base64 = btoa(String.fromCharCode(...bytes));
  const name = base64.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return [SUBPROTOCOL, `worldsim.token.${name}`];
}

// A binary message: {kind: "frame", ...} or {kind: "chunk", id, offset, data}.
export function decodeBinary(buffer) {
  const view = new DataView(buffer);
  const magic = buffer.byteLength < 4 ? "" : String.fromCharCode(...new Uint8Array(buffer, 0, 4));
  if (magic === "WSF1") return decodeFrame(buffer, view);
  if (magic === "WSC1" && buffer.byteLength > CHUNK_HEADER) {
    const data = new Uint8Array(buffer, CHUNK_HEADER);
    return { kind: "chunk", id: view.getUint32(4, true), offset: view.getUint32(8, true), data };
  }
  throw new ProtocolError(`neither a frame nor a chunk: ${buffer.byteLength} bytes`);
}

function decodeFrame(buffer, view) {
  if (buffer.byteLength < FRAME_BYTES) throw new ProtocolError("a frame without its header");
  const u32 = (offset) => view.getUint32(offset, true);
  const [picture, sound, objects] = [u32(56), u32(60), u32(64)];
  const [slots, size] = [view.getUint16(68, true), view.getUint16(70, true)];
  const fits = FRAME_BYTES + picture + sound + objects === buffer.byteLength;
  if (!fits || sound % 2 || objects !== 4 * slots * size) {
    throw new ProtocolError("lengths of a frame do not add up");
  }
  if (view.getUint8(4) !== VERSION || view.getUint8(5) !== JPEG) {
    throw new ProtocolError("a frame of another version");
  }
  const soundAt = FRAME_BYTES + picture;
  return {
    kind: "frame",
    flags: view.getUint16(6, true),
    number: u32(8),
    actionSeq: u32(12),
    missed: u32(16),
    width: view.getUint16(20, true),
    height: view.getUint16(22, true),
    picture: new Uint8Array(buffer, FRAME_BYTES, picture),
    sound: numbers(sound / 2, (i) => view.getInt16(soundAt + 2 * i, true) / 32767),
    objects: numbers(slots * size, (i) => view.getFloat32(soundAt + sound + 4 * i, true)),
    slots,
    slotSize: size,
  };
}

// A picture may have an odd length, and typed arrays want aligned offsets: copied one by one.
function numbers(count, read) {
  return count ? Float32Array.from({ length: count }, (_, i) => read(i)) : null;
}
