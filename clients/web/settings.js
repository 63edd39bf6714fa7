// What the player wishes to get, kept for the next visit.

const PLACE = "worldsim.settings";

export class Settings {
  #storage;
  figures = true;
  sound = true;
  objects = false;
  quality = 90; // of the JPEG
  changed = () => {};

  constructor(storage) {
    this.#storage = storage;
    try {
      const stored = JSON.parse(storage?.getItem(PLACE)) ?? {};
      for (const name of ["figures", "sound", "objects"]) {
        if (typeof stored[name] === "boolean") this[name] = stored[name];
      }
      if ([60, 90, 98].includes(stored.quality)) this.quality = stored.quality;
    } catch {
      // somebody else wrote there
    }
  }

  // As fields of `start`.
  get wishes() {
    return { sound: this.sound, objects: this.objects, quality: this.quality };
  }

  // Elements by the name of their setting.
  attach(elements) {
    for (const [name, element] of Object.entries(elements)) {
      const isBox = element.type === "checkbox";
      if (isBox) element.checked = this[name];
      else element.value = String(this[name]);
      element.addEventListener("change", () => {
        this[name] = isBox ? element.checked : Number(element.value);
        this.#keep();
        this.changed();
      });
    }
  }

  #keep() {
    const { figures, sound, objects, quality } = this;
    this.#storage?.setItem(PLACE, JSON.stringify({ figures, sound, objects, quality }));
  }
}
