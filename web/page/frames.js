// Pictures of moments of the stream, from its I-frame playlist: the least of its renditions that this browser decodes, and
// of that only what is looked at. Nothing is fetched until somebody wants a picture.

import { configurationOf, mediaOf } from './boxes.js';
import { FrameDecoder } from './decoder.js';
import { nearestFrame, parseIFrames, parseVariants } from './iframes.js';
import { Lru } from './lru.js';

const kept = 60; // pictures
const mapsKept = 4;
const widest = 384; // pixels of a picture that is kept: about its size on a screen of two pixels to a point
const highest = 216;
const patience = 10_000; // milliseconds for one picture
const staleAfter = 1000; // until one that nobody wants any more is given up; before, it is shown while the pointer runs on
const restAfter = 2000; // after a failure

export class Frames {
  #source;
  #variant = null; // { uri, codec }
  #list = null; // what parseIFrames says, and at: when
  #configs = new Lru(mapsKept); // by URL of the Media Initialization Section
  #pictures = new Lru(kept); // canvases, by file and range
  #decoder = new FrameDecoder();
  #wanted = null; // { date, got }, next
  #busy = null; // { key, since, abort }: what is under way
  #rest = -Infinity;

  /** source is the URL of the multivariant playlist. */
  constructor(source) {
    this.#source = source;
  }

  /** Another run: its playlists are others. */
  reset() {
    this.cancel();
    this.#variant = null;
    this.#list = null;
    this.#rest = -Infinity;
  }

  /**
   * Calls got with a canvas that shows the moment date (milliseconds since 1970), at once if it is there; with null when
   * there is no picture of that moment. One is fetched at a time, and next the one that was wanted last.
   */
  want(date, got) {
    const frame = this.#nearest(date);
    const picture = frame && this.#pictures.get(keyOf(frame));
    if (picture) got(picture);
    if (picture && !this.#outdated(date)) {
      this.#wanted = null;
      return;
    }
    this.#wanted = { date, got };
    if (!this.#busy) this.#work();
    else if (this.#busy.key && this.#busy.key !== (frame && keyOf(frame)) && performance.now() - this.#busy.since > staleAfter) this.#busy.abort.abort();
  }

  /** Nobody wants a picture any more. */
  cancel() {
    this.#wanted = null;
    this.#busy?.abort.abort();
    this.#decoder.close();
  }

  async #work() {
    while (this.#wanted && performance.now() >= this.#rest) {
      const { date, got } = this.#wanted;
      this.#wanted = null;
      const abort = new AbortController();
      const timer = setTimeout(() => abort.abort(), patience);
      this.#busy = { key: null, since: performance.now(), abort };
      try {
        const picture = await this.#load(date, abort.signal);
        if (!abort.signal.aborted) got(picture);
      } catch {
        if (!abort.signal.aborted) {
          // Whatever it is, a rendition that went away or a frame that can't be decoded: begin from the beginning.
          this.#variant = null;
          this.#list = null;
          this.#rest = performance.now() + restAfter;
        }
      }
      clearTimeout(timer);
    }
    this.#busy = null;
  }

  async #load(date, signal) {
    const variant = this.#variant ?? await this.#choose(signal);
    signal.throwIfAborted();
    this.#variant = variant;
    if (this.#outdated(date)) {
      const { uri } = variant;
      const text = await (await get(uri, signal)).text();
      this.#list = { ...parseIFrames(text, uri), at: performance.now() };
    }
    const frame = this.#nearest(date);
    if (!frame) return null;
    const key = keyOf(frame);
    this.#busy.key = key;
    const had = this.#pictures.get(key);
    if (had) return had;
    const config = await this.#config(frame.map, variant.codec, signal);
    const data = mediaOf(await getRange(frame, signal));
    if (!data) throw new Error('no media in the range');
    signal.throwIfAborted();
    const decoded = await this.#decoder.decode(config, data);
    let picture;
    try {
      picture = draw(decoded);
    } finally {
      decoded.close();
    }
    this.#pictures.set(key, picture);
    return picture;
  }

  async #choose(signal) {
    const text = await (await get(this.#source, signal)).text();
    for (const variant of parseVariants(text, this.#source)) {
      if (await FrameDecoder.supports(variant.codec)) return variant;
    }
    throw new Error('no I-frames that this browser can decode');
  }

  async #config(uri, codec, signal) {
    const had = this.#configs.get(uri);
    if (had) return had;
    const description = configurationOf(new Uint8Array(await (await get(uri, signal)).arrayBuffer()));
    const config = { codec, optimizeForLatency: true, ...(description && { description }) };
    this.#configs.set(uri, config);
    return config;
  }

  /** Whether the playlist may have something nearer to date than it had when it was fetched. */
  #outdated(date) {
    if (!this.#list) return true;
    const { at, target, end } = this.#list;
    return !(date < end - 500 * target) && performance.now() - at > Math.max(1000, 500 * target);
  }

  #nearest(date) {
    // What is being cut is listed when it is whole: until then the frame before stands for it.
    return this.#list && nearestFrame(this.#list.frames, date, 2000 * this.#list.target);
  }
}

function keyOf({ uri, offset }) {
  return `${uri}@${offset}`;
}

async function get(uri, signal, headers) {
  const response = await fetch(uri, { signal, headers });
  if (!response.ok) throw new Error(`status ${response.status}`);
  return response;
}

async function getRange({ uri, offset, length }, signal) {
  const response = await get(uri, signal, { Range: `bytes=${offset}-${offset + length - 1}` });
  const bytes = new Uint8Array(await response.arrayBuffer());
  // A cache on the way may send all of it.
  return response.status === 206 ? bytes : bytes.subarray(offset, offset + length);
}

function draw(frame) {
  const { displayWidth: width, displayHeight: height } = frame;
  const scale = Math.min(1, widest / width, highest / height);
  const canvas = document.createElement('canvas');
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  canvas.getContext('2d').drawImage(frame, 0, 0, canvas.width, canvas.height);
  return canvas;
}
