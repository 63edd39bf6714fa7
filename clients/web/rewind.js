// Going back for as long as a button is held: steps of a quarter second, faster than they were made.
//
// The clock waits for actions meanwhile, so the world does not run forward between two steps; after
// each of them one idle action makes the frame that shows where we are.

const STEP = 0.25; // seconds; the server keeps a state that often
const EVERY = 150; // ms between two steps: below what the server accepts per second

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// `nudge()` makes one frame, `tell(seconds)` is called with how far back it is by now.
export async function rewindWhile(isHeld, link, rate, nudge, tell) {
  const ticks = Math.max(2, Math.round(STEP * rate));
  let undone = 0;
  while (isHeld()) {
    const began = performance.now();
    const answer = await link.ask({ type: "rewind", ticks });
    undone += answer.ticks - 1;
    tell(undone / rate);
    nudge();
    await sleep(Math.max(0, EVERY - (performance.now() - began)));
  }
}
