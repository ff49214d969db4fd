// The buttons over the picture.

import { levelNames } from './format.js';

const idleAfter = 3000; // milliseconds until they fade

export class Controls {
  #stage = document.getElementById('stage');
  #video;
  #playback;
  #idle;

  constructor(video, playback) {
    this.#video = video;
    this.#playback = playback;
    const on = (id, event, act) => document.getElementById(id).addEventListener(event, act);
    on('play', 'click', () => this.#togglePlay());
    on('big-play', 'click', () => playback.play());
    on('mute', 'click', () => this.#toggleMute());
    on('unmute', 'click', () => this.#toggleMute());
    on('volume', 'input', (event) => {
      video.volume = Number(event.target.value);
      video.muted = video.volume === 0;
    });
    on('live', 'click', () => {
      playback.toLive();
      if (video.paused) playback.play();
    });
    on('full', 'click', () => this.#toggleFull());
    on('quality', 'change', (event) => { if (playback.hls) playback.hls.nextLevel = Number(event.target.value); });
    if (document.pictureInPictureEnabled) {
      const pip = document.getElementById('pip');
      pip.hidden = false;
      on('pip', 'click', () => (document.pictureInPictureElement ? document.exitPictureInPicture() : video.requestPictureInPicture()).catch(() => {}));
    }

    video.addEventListener('volumechange', () => this.#showSound());
    for (const type of ['play', 'pause', 'playing']) video.addEventListener(type, () => this.#showPlay());
    playback.addEventListener('change', () => this.#showPlay());
    playback.addEventListener('levels', () => this.#showLevels());
    playback.addEventListener('change', () => this.#showSound());

    // A mouse shows the controls and a click on the picture pauses; a touch only shows or hides them.
    video.addEventListener('click', (event) => {
      if (event.pointerType === 'touch') this.#stage.hasAttribute('data-idle') ? this.#wake() : this.#sleep();
      else this.#togglePlay();
    });
    video.addEventListener('dblclick', () => this.#toggleFull());
    this.#stage.addEventListener('pointermove', (event) => { if (event.pointerType !== 'touch') this.#wake(); });
    this.#stage.addEventListener('pointerleave', (event) => { if (event.pointerType !== 'touch') this.#sleep(); });
    this.#stage.addEventListener('focusin', () => this.#wake());
    document.addEventListener('keydown', (event) => this.#onKey(event));
    this.#showPlay();
    this.#showSound();
    this.#wake();
  }

  #togglePlay() {
    if (this.#video.paused) this.#playback.play();
    else this.#playback.pause();
    this.#wake();
  }

  #toggleMute() {
    const video = this.#video;
    if (video.volume === 0) video.volume = 1;
    video.muted = !video.muted;
    this.#wake();
  }

  #toggleFull() {
    if (document.fullscreenElement) document.exitFullscreen();
    else if (this.#stage.requestFullscreen) this.#stage.requestFullscreen().catch(() => {});
    else this.#video.webkitEnterFullscreen?.(); // iPhone: only the video itself
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest('input, select, button, a, pre, summary')) return;
    const act = { ' ': () => this.#togglePlay(), k: () => this.#togglePlay(), m: () => this.#toggleMute(), f: () => this.#toggleFull(), l: () => this.#playback.toLive() }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  #wake() {
    this.#stage.removeAttribute('data-idle');
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => this.#sleep(), idleAfter);
  }

  #sleep() {
    clearTimeout(this.#idle);
    if (this.#playback.state === 'playing') this.#stage.setAttribute('data-idle', '');
  }

  #showPlay() {
    const { state } = this.#playback;
    const paused = this.#video.paused;
    icon('play', paused ? 'play' : 'pause', paused ? 'Play' : 'Pause');
    document.getElementById('big-play').hidden = state !== 'paused';
    if (state !== 'playing') this.#stage.removeAttribute('data-idle');
    else this.#wake();
  }

  #showSound() {
    const silent = this.#video.muted || this.#video.volume === 0;
    icon('mute', silent ? 'muted' : 'sound', silent ? 'Unmute' : 'Mute');
    document.getElementById('volume').value = silent ? 0 : this.#video.volume;
    const { state, stream } = this.#playback;
    const hasAudio = !stream?.tracks?.length || stream.tracks.some((track) => track.kind === 'audio');
    document.getElementById('unmute').hidden = !silent || !hasAudio || !['playing', 'stalled'].includes(state);
  }

  /** The level switcher, when there is a choice. */
  #showLevels() {
    const levels = this.#playback.hls?.levels ?? [];
    const select = document.getElementById('quality');
    document.getElementById('quality-box').hidden = levels.length < 2;
    const options = levelNames(levels).map((name, i) => new Option(name, i)).reverse();
    select.replaceChildren(new Option('Auto', -1, true, true), ...options);
  }
}

function icon(id, name, label) {
  const button = document.getElementById(id);
  button.querySelector('use').setAttribute('href', `#i-${name}`);
  button.setAttribute('aria-label', label);
}
