// A bounded memory: what has not been asked for longest makes room.

export class Lru {
  #most;
  #map = new Map(); // in the order of use, latest last

  constructor(most) {
    this.#most = most;
  }

  get size() {
    return this.#map.size;
  }

  get(key) {
    const value = this.#map.get(key);
    if (value !== undefined) this.set(key, value);
    return value;
  }

  set(key, value) {
    this.#map.delete(key);
    this.#map.set(key, value);
    if (this.#map.size > this.#most) this.#map.delete(this.#map.keys().next().value);
  }
}
