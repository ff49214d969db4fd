// The scrubber: the live window as a slider, with pictures of the moments under the pointer.

import { behindText, clockTime, spokenBehind } from './format.js';
import { FrameDecoder } from './decoder.js';
import { Frames } from './frames.js';
import { bands, fractionOf, percent, timeAfter, timeAt, within } from './slider.js';
import { dateAt, seamsOf, windowOf } from './timeline.js';

const refreshEvery = 250; // milliseconds
const leastChange = 0.05; // seconds: a discontinuity is a moment, but must be seen

const $ = (id) => document.getElementById(id);

export class Scrubber {
  #video;
  #playback;
  #frames;
  #slider = $('scrub');
  #stage = $('stage');
  #window = null;
  #pointer = null; // clientX of the pointer over it or dragging; null when there is none
  #dragging = false;
  #date = NaN; // of the picture that was wanted last

  constructor(video, playback, source) {
    this.#video = video;
    this.#playback = playback;
    this.#frames = FrameDecoder.available ? new Frames(source) : null;
    $('preview-picture').hidden = !this.#frames;
    const slider = this.#slider;
    const on = (type, act) => slider.addEventListener(type, act);
    on('pointerenter', (event) => { if (event.pointerType !== 'touch') this.#point(event); });
    on('pointermove', (event) => { if (event.pointerType !== 'touch' || this.#dragging) this.#point(event); });
    on('pointerleave', () => { if (!this.#dragging) this.#leave(); });
    on('pointerdown', (event) => {
      if (event.button !== 0 || !this.#window) return;
      slider.setPointerCapture(event.pointerId);
      this.#dragging = true;
      this.#stage.setAttribute('data-scrubbing', '');
      this.#point(event);
    });
    on('pointerup', (event) => {
      if (!this.#dragging) return;
      this.#point(event);
      const time = this.#pointedAt;
      this.#drop();
      if (time !== null) playback.seek(time);
      if (event.pointerType === 'touch' || !slider.matches(':hover')) this.#leave();
      this.#show();
    });
    for (const type of ['pointercancel', 'lostpointercapture']) {
      on(type, () => {
        if (!this.#dragging) return;
        this.#drop();
        this.#leave();
      });
    }
    on('keydown', (event) => this.#onKey(event));
    playback.addEventListener('change', () => {
      if (playback.state === 'starting') this.#frames?.reset();
      this.#show();
    });
    video.addEventListener('seeking', () => this.#show());
    setInterval(() => { if (!document.hidden) this.#show(); }, refreshEvery);
    this.#show();
  }

  // --- the pointer ---

  #point({ clientX }) {
    this.#pointer = clientX;
    this.#show();
  }

  #drop() {
    this.#dragging = false;
    this.#stage.removeAttribute('data-scrubbing');
  }

  #leave() {
    this.#pointer = null;
    this.#frames?.cancel();
    this.#show();
  }

  get #pointedAt() {
    if (this.#pointer === null || !this.#window) return null;
    const { left, width } = this.#slider.getBoundingClientRect();
    return timeAt(this.#window, this.#pointer, left, width);
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.#window) return;
    const time = timeAfter(event.key, this.#window, this.#video.currentTime);
    if (time === null) return;
    event.preventDefault();
    this.#playback.seek(time);
    this.#show();
  }

  // --- what is seen ---

  #show() {
    const window = this.#window = windowOf(this.#playback, this.#video);
    this.#slider.hidden = $('behind').hidden = !window;
    if (!window) {
      $('preview').hidden = true;
      if (this.#pointer !== null && !this.#dragging) { // what is hidden need not hear that the pointer leaves
        this.#pointer = null;
        this.#frames?.cancel();
      }
      return;
    }
    const pointed = this.#pointedAt;
    const time = this.#dragging ? pointed : this.#video.currentTime;
    const at = percent(fractionOf(window, time));
    $('scrub-played').style.width = at;
    $('scrub-handle').style.left = at;
    $('scrub-loaded').style.background = bands(window, rangesOf(this.#video.buffered), 'rgb(255 255 255 / 38%)');
    const { gaps, changes } = seamsOf(this.#playback);
    $('scrub-seams').style.background = bands(window, [...changes.map((change) => [change, change + leastChange]), ...gaps], '#05090a', 2);

    const behind = Math.max(0, window.end - time);
    const live = this.#playback.atLive && !this.#dragging;
    this.#stage.toggleAttribute('data-at-live', live);
    put($('behind'), live ? '' : behindText(behind));
    const values = { valuemin: -Math.round(window.end - window.start), valuemax: 0, valuenow: -Math.round(behind), valuetext: live ? 'Live' : spokenBehind(behind) };
    for (const [name, value] of Object.entries(values)) this.#slider.setAttribute(`aria-${name}`, value);
    this.#preview(window, pointed);
  }

  #preview(window, time) {
    const box = $('preview');
    box.hidden = time === null;
    if (time === null) return;
    const date = dateAt(this.#playback, this.#video, time);
    const clock = $('preview-time');
    put(clock, clockTime(date));
    if (Number.isNaN(date)) clock.removeAttribute('datetime');
    else clock.dateTime = new Date(date).toISOString();
    put($('preview-behind'), behindText(window.end - time));
    const { width } = this.#slider.getBoundingClientRect();
    box.style.left = `${within(fractionOf(window, time) * width, box.offsetWidth, width)}px`;

    if (!this.#frames || Number.isNaN(date)) return;
    const holder = $('preview-picture');
    this.#date = date;
    holder.setAttribute('data-stale', ''); // of another moment, until this one's is there
    this.#frames.want(date, (picture) => {
      if (box.hidden) return;
      if (!picture) holder.replaceChildren();
      else if (holder.firstChild !== picture) holder.replaceChildren(picture);
      if (this.#date === date) holder.removeAttribute('data-stale');
    });
  }
}

function rangesOf(buffered) {
  return Array.from({ length: buffered.length }, (_, i) => [buffered.start(i), buffered.end(i)]);
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
