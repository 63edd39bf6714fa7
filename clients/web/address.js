// What the address and the browser's memory hold: the token, the game to take up, the game to watch.
//
// Secrets come in the fragment, which is never sent to a server. They move into the memory of this
// tab and leave the address bar at once.

const PLACE = `${location.pathname}${location.search}`;

export function memory(name) {
  try {
    return window[name]; // "sessionStorage", "localStorage": refused in some private windows
  } catch {
    return undefined;
  }
}

export function remember(key, value) {
  const tab = memory("sessionStorage");
  if (value) tab?.setItem(`worldsim.${key}`, value);
  else tab?.removeItem(`worldsim.${key}`);
}

// {token, resume, watch}, each null if there is none.
export function takeAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const recall = (key) => memory("sessionStorage")?.getItem(`worldsim.${key}`) ?? null;
  const watch = given.get("watch");
  const token = given.get("token") ?? recall("token");
  const resume = watch ? null : given.get("resume") ?? recall("resume");
  remember("token", token);
  history.replaceState(null, "", watch ? `${PLACE}#${new URLSearchParams({ watch })}` : PLACE);
  return { token, resume, watch };
}

// Nobody is watched any more: a reload should not go back there.
export function forgetWatch() {
  history.replaceState(null, "", PLACE);
}

// A link to this page with secrets in its fragment; those that are empty are left out.
export function linkTo(secrets) {
  const given = Object.entries(secrets).filter(([, value]) => value);
  return `${location.origin}${PLACE}#${new URLSearchParams(given)}`;
}
