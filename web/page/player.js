// The player page of one stream, whose name is the page's own path.

import { transportNote } from './advice.js';
import { Controls } from './controls.js';
import { addCopy, showAddress } from './copy.js';
import { measure } from './figures.js';
import { splitName } from './format.js';
import { Graph } from './graph.js';
import { loadHls } from './hls.js';
import { showLadder } from './ladder.js';
import { showFigures, showSince, showSource, showState } from './panel.js';
import { Playback } from './playback.js';
import { Scrubber } from './scrubber.js';

const figuresEvery = 500; // milliseconds

const $ = (id) => document.getElementById(id);
const name = decodePath(location.pathname).replace(/^\/|\/$/g, '');
const [app, leaf] = splitName(name);
const source = new URL('index.m3u8', location.href.replace(/[?#].*/, '')).href;

document.title = `${leaf} · Headwater`;
$('app').textContent = app && `${app}/`;
$('name').textContent = leaf;
showAddress($('url-hls'), source);
showAddress($('url-ts'), source.replace(/index\.m3u8$/, 'ts/index.m3u8'));
showAddress($('url-page'), source.replace(/index\.m3u8$/, ''));
addCopy($('url-hls').parentElement, $('url-hls'), 'the playlist address');
addCopy($('url-ts').parentElement, $('url-ts'), 'the MPEG-TS playlist address');
addCopy($('url-page').parentElement, $('url-page'), 'the address of this page');
$('transport').textContent = transportNote(location.protocol, performance.getEntriesByType('navigation')[0]?.nextHopProtocol);
$('transport').hidden = $('transport').textContent === '';

const video = $('video');
video.muted = true; // or no browser would begin by itself
showState({ state: 'loading', stream: null }, name);

const playback = new Playback(video, name, source, await loadHls());
new Controls(video, playback);
new Scrubber(video, playback, source);
const graph = new Graph($('graph'));

playback.addEventListener('change', () => showState(playback, name));
playback.addEventListener('stream', () => {
  showSource(playback.stream);
  showLadder(playback.stream);
  showState(playback, name);
});
showState(playback, name);

setInterval(() => {
  const figures = measure(playback, video);
  showFigures(figures, playback);
  showSince(playback.stream);
  if (!document.hidden) graph.add(playback.state === 'playing' || playback.state === 'stalled' ? figures : { latency: NaN, buffer: NaN, target: NaN });
}, figuresEvery);

// For tests and the curious.
window.headwater = {
  get hls() { return playback.hls; },
  stats() {
    const { latency, target, wall, buffer, level, rendition, bandwidth, dropped, total, currentTime, rate } = measure(playback, video);
    return { state: playback.state, reason: playback.reason, latency, target, wall, buffer, level, rendition, bandwidth, dropped, total, currentTime, rate, fatal: [...playback.fatal] };
  },
};

function decodePath(path) {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}
