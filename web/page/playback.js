// Playback of one live stream that looks after itself: waits for the encoder, plays, recovers, begins again with a new run.

import { codecsOf, fetchCodecs, fetchRun, fetchStream } from './api.js';
import { abrOfParts } from './abr.js';
import { hlsConfig } from './hls.js';
import { windowOf } from './timeline.js';

const tickEvery = 1000; // milliseconds
const pollWaiting = 2000;
const pollComing = 500; // the encoder is there, its first segment is not
const pollPlaying = 5000;
const stuckAfter = 10_000; // without progress before playback is begun again; doubles with each attempt
const stuckMost = 60_000;
const startMargin = 2; // seconds of the window's beginning that nobody is led to
const jumpBeyond = 3; // seconds behind the target, for that many ticks, before live is jumped to
const jumpAfter = 3;
const settling = 5; // ticks at the beginning in which a jump disturbs nobody yet
const jumpSettling = 0.7;
const nearLive = 2; // seconds behind where playback should be, at most, that still count as live
const fatalKept = 20;

/**
 * States: loading, waiting (for the encoder), starting, playing, stalled, paused (by the viewer or by the browser's
 * autoplay policy), failed (this browser can't play it; a new run is tried, and the same one when its codecs change).
 * Events: change (state or reason), stream (what the server says of the stream), levels.
 */
export class Playback extends EventTarget {
  state = 'loading';
  reason = ''; // of waiting: '', 'ended' or 'unreachable' (the server is); of failed: what went wrong
  stream = null; // what the API said last; null: not there
  hls = null;
  native = false;
  fatal = []; // the fatal errors so far, latest last
  wanted = true; // the viewer wants it to play
  following = true; // the live edge; not when the viewer has gone back to a moment of their own

  #Hls;
  #video;
  #name;
  #source;
  #run = null; // being played
  #endedRun = null;
  #codecs = ''; // of the multivariant playlist that is being played
  #ended = false; // the playlist has ended
  #progress = { at: 0, time: -1 };
  #attempts = 0;
  #recoveredAt = -Infinity;
  #behind = 0; // ticks far behind live
  #settling = 0; // ticks left
  #pollTimer;
  #polling = false;

  constructor(video, name, source, Hls) {
    super();
    this.#video = video;
    this.#name = name;
    this.#source = source;
    this.#Hls = Hls;
    for (const type of ['playing', 'waiting', 'pause', 'ended', 'error']) {
      video.addEventListener(type, () => this.#onVideo(type));
    }
    document.addEventListener('visibilitychange', () => {
      this.#touch();
      if (!document.hidden) this.#repoll(0);
    });
    setInterval(() => this.#tick(), tickEvery);
    if (!Hls && !video.canPlayType('application/vnd.apple.mpegurl')) {
      this.#set('failed', 'This browser can’t play HLS.');
      return;
    }
    this.#set('waiting');
    this.#repoll(0);
  }

  // --- what the viewer does ---

  play() {
    this.wanted = true;
    if (!this.#active) return;
    if (this.following) this.toLive();
    else this.seek(this.#video.currentTime); // which may have left the window meanwhile
    this.#start();
  }

  pause() {
    this.wanted = false;
    this.#video.pause();
  }

  /** To a moment of the live window, in media time; to follow live again if that is nearly there. */
  seek(time) {
    const window = windowOf(this, this.#video);
    if (!window) return;
    const { liveAt } = this;
    if (time > (liveAt ?? window.end) - nearLive) {
      this.toLive();
      return;
    }
    this.#follow(false);
    // The beginning of the window moves on while what is there is fetched.
    const earliest = window.start + Math.min(startMargin, (window.end - window.start) / 4);
    const at = Math.max(time, earliest);
    if (Math.abs(at - this.#video.currentTime) > 0.05) this.#video.currentTime = at;
  }

  #follow(following) {
    this.following = following;
    if (!this.hls) return;
    // hls.js would hurry to live from anywhere near it.
    this.hls.config.maxLiveSyncPlaybackRate = following ? hlsConfig.maxLiveSyncPlaybackRate : 1;
    if (!following) this.#video.playbackRate = 1;
  }

  /** To the live edge, or rather as near as is safe. */
  toLive() {
    this.#follow(true);
    const at = this.liveAt;
    if (at !== null && at - this.#video.currentTime > 0.5) this.#video.currentTime = at;
  }

  /** Where playback should be now, in media time; null when unknown. */
  get liveAt() {
    if (this.hls) return this.hls.liveSyncPosition ?? null;
    const { seekable } = this.#video;
    return this.native && seekable.length > 0 ? seekable.end(seekable.length - 1) : null;
  }

  /** Whether what is seen is live. */
  get atLive() {
    if (this.state !== 'playing') return false;
    const { hls, liveAt } = this;
    if (!hls) return liveAt !== null && liveAt - this.#video.currentTime < 2 * nearLive;
    return hls.latency > 0 && hls.latency - (hls.targetLatency > 0 ? hls.targetLatency : nearLive) < nearLive;
  }

  get #active() {
    return this.hls !== null || this.native;
  }

  // --- waiting for the encoder ---

  #repoll(after) {
    clearTimeout(this.#pollTimer);
    this.#pollTimer = setTimeout(() => this.#poll(), after);
  }

  async #poll() {
    if (this.#polling) return; // it will see what has changed meanwhile
    this.#polling = true;
    try {
      const run = await this.#look();
      if (this.reason === 'unreachable') this.#set('waiting');
      if (this.state === 'failed' && run !== null && run === this.#endedRun && await this.#recoded()) this.#endedRun = null;
      if (run !== null && run !== this.#endedRun && (!this.#active || (this.#run !== null && run !== this.#run))) this.#begin(run);
    } catch {
      if (this.state === 'waiting') this.#set('waiting', 'unreachable');
    }
    this.#polling = false;
    const often = this.#active ? pollPlaying : this.stream?.publishing && !this.stream.ready ? pollComing : pollWaiting;
    this.#repoll(document.hidden ? often * 3 : often);
  }

  /** The run that is on now; null when none is. */
  async #look() {
    const stream = await fetchStream(this.#name);
    this.stream = stream;
    this.dispatchEvent(new Event('stream'));
    if (stream) return stream.publishing && !stream.ended && stream.run ? stream.run : null;
    return fetchRun(this.#source); // the playlist itself can tell
  }

  /** Whether what could not be decoded has become something else, as when an encoder goes from HEVC to H.264. */
  async #recoded() {
    const codecs = await fetchCodecs(this.#source);
    return codecs !== null && codecs !== this.#codecs;
  }

  // --- beginning and ending ---

  #begin(run) {
    this.#stop();
    this.#run = run;
    this.#ended = false;
    this.#behind = 0;
    this.#settling = settling;
    this.following = true;
    this.#touch();
    this.#set('starting');
    if (this.#Hls) this.#attach(new this.#Hls({ ...hlsConfig, abrController: abrOfParts(this.#Hls) }));
    else {
      this.native = true;
      this.#video.src = this.#source;
      this.#start();
    }
  }

  #stop() {
    this.hls?.destroy();
    this.hls = null;
    if (this.native) {
      this.native = false;
      this.#video.removeAttribute('src');
      this.#video.load();
    }
  }

  /** Ends this attempt; the next look at the server begins another. */
  #again(after = 1000) {
    this.#stop();
    this.#set('waiting');
    this.#repoll(after);
  }

  #end() {
    this.#endedRun = this.#run;
    this.#stop();
    this.#set('waiting', 'ended');
    this.#repoll(pollWaiting);
  }

  #attach(hls) {
    const { Events } = this.#Hls;
    this.hls = hls;
    hls.on(Events.MANIFEST_LOADED, (_, { levels }) => { this.#codecs = codecsOf(levels.map(({ attrs }) => attrs.CODECS ?? '')); });
    hls.on(Events.MANIFEST_PARSED, () => {
      this.dispatchEvent(new Event('levels'));
      if (this.wanted) this.#start();
    });
    hls.on(Events.LEVEL_UPDATED, (_, { details }) => { this.#ended = !details.live; });
    hls.on(Events.LEVEL_LOADED, (_, { details }) => {
      // Over before it was seen: there is nothing live to show.
      if (!details.live && this.state === 'starting') this.#end();
    });
    hls.on(Events.ERROR, (_, data) => { if (data.fatal) this.#onFatal(data); });
    hls.attachMedia(this.#video);
    hls.loadSource(this.#source);
  }

  async #start() {
    try {
      await this.#video.play();
    } catch (error) {
      // Some browsers refuse to begin unasked even in silence, such as phones that save power.
      if (error.name === 'NotAllowedError') this.#set('paused');
    }
  }

  // --- what happens on the way ---

  #onVideo(type) {
    if (!this.#active) return;
    if (type === 'playing') {
      this.#set('playing');
      if (this.#settling === settling) this.#keepUp();
    } else if (type === 'waiting' && this.state === 'playing') {
      this.#set('stalled');
    } else if (type === 'pause' && !this.#video.ended && this.state !== 'starting') {
      this.wanted = false;
      this.#set('paused');
    } else if (type === 'ended') {
      this.#end();
    } else if (type === 'error' && this.native) {
      this.#note('nativeError', this.#video.error?.message ?? '');
      this.#again();
    }
  }

  #onFatal({ type, details, error }) {
    const { ErrorTypes, ErrorDetails } = this.#Hls;
    this.#note(details, error?.message ?? '', type);
    if (details === ErrorDetails.MANIFEST_INCOMPATIBLE_CODECS_ERROR || details === ErrorDetails.BUFFER_INCOMPATIBLE_CODECS_ERROR) {
      this.#endedRun = this.#run; // another run may be another matter, and so may other codecs
      this.#stop();
      this.#set('failed', 'This browser can’t decode this stream.');
      return;
    }
    const now = performance.now();
    if (type === ErrorTypes.MEDIA_ERROR && now - this.#recoveredAt > 15_000) {
      this.#recoveredAt = now;
      this.hls.recoverMediaError();
      if (this.wanted) this.#start();
      return;
    }
    this.#again();
  }

  #note(details, message, type = 'mediaError') {
    this.fatal.push({ type, details, message, at: new Date().toISOString() });
    if (this.fatal.length > fatalKept) this.fatal.shift();
  }

  #touch() {
    this.#progress = { at: performance.now(), time: this.#video.currentTime };
  }

  #tick() {
    const moved = this.#video.currentTime !== this.#progress.time;
    if (moved && this.state === 'playing' && this.#video.currentTime > 0) this.#attempts = 0;
    // A hidden tab's timers and a paused picture say nothing about the stream.
    if (moved || !this.#active || !this.wanted || this.state === 'paused' || document.hidden) this.#touch();
    const still = performance.now() - this.#progress.at;
    if (this.#ended && still > 3000) return this.#end();
    const limit = Math.min(stuckAfter * 2 ** this.#attempts, stuckMost);
    if (still > limit && this.stream?.publishing !== false) {
      this.#attempts++;
      return this.#again(0);
    }
    this.#keepUp();
  }

  /** hls.js makes up for a little delay by playing faster; after a long one (a slow start, a sleeping laptop) this jumps. */
  #keepUp() {
    // hls.js itself goes to live when playback has fallen out of the window.
    if (!this.following && this.liveAt !== null && this.#video.currentTime > this.liveAt - 0.5) this.#follow(true);
    if (!this.following || this.state !== 'playing' || !this.hls || this.#video.seeking || !(this.hls.targetLatency > 0)) {
      this.#behind = 0;
      return;
    }
    const behind = this.hls.latency - this.hls.targetLatency;
    if (this.#settling > 0) {
      this.#settling--;
      if (behind > jumpSettling && this.#buffered(this.liveAt)) this.toLive();
      return;
    }
    this.#behind = behind > jumpBeyond ? this.#behind + 1 : 0;
    if (this.#behind >= jumpAfter) {
      this.#behind = 0;
      this.toLive();
    }
  }

  #buffered(time) {
    const { buffered } = this.#video;
    for (let i = 0; i < buffered.length; i++) {
      if (time >= buffered.start(i) && time < buffered.end(i)) return true;
    }
    return false;
  }

  #set(state, reason = '') {
    if (state === this.state && reason === this.reason) return;
    this.state = state;
    this.reason = reason;
    this.dispatchEvent(new Event('change'));
  }
}
