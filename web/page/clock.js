// The server's clock from its Date headers, which tell whole seconds: each answer says that the difference between the
// two clocks lies in an interval a little over a second wide; what all answers agree on is much narrower.

export class Clock {
  #low = -Infinity; // milliseconds to add to the local clock
  #high = Infinity;

  /** An answer with this Date header was asked for at local time before and had arrived at local time after. */
  observe(date, before, after) {
    const second = Date.parse(date ?? '');
    if (Number.isNaN(second)) return;
    const low = second - after;
    const high = second + 1000 - before;
    if (low > this.#high || high < this.#low) { // one of the clocks was set
      this.#low = low;
      this.#high = high;
      return;
    }
    this.#low = Math.max(this.#low, low);
    this.#high = Math.min(this.#high, high);
  }

  /** The server's time in milliseconds; the local time as long as nothing is known. */
  now() {
    const offset = (this.#low + this.#high) / 2;
    // A local clock that already fits needs no correction.
    if (!Number.isFinite(offset) || (this.#low <= 0 && this.#high >= 0)) return Date.now();
    return Date.now() + offset;
  }
}
