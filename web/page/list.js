// The list of live streams: asks every two seconds, updates rows in place so that focus and selection survive.

import { adviceOf } from './advice.js';
import { clock, fetchStreams, trackOf, videoCount } from './api.js';
import { audioText, bitRate, codecName, moment, plain, sizeName, span, splitName } from './format.js';
import { fillGuide } from './guide.js';

const every = 2000; // milliseconds between two looks, longer in a hidden tab
const list = document.getElementById('streams');
const guide = document.getElementById('publish');
const rows = new Map();

fillGuide(guide);
if (location.hash === '#publish') guide.open = true;
look();

async function look() {
  try {
    const streams = await fetchStreams();
    if (streams) show(streams.filter((stream) => stream.publishing || !stream.ended));
    else showUnlisted();
    document.getElementById('connection').hidden = true;
  } catch {
    document.getElementById('connection').hidden = false;
  }
  setTimeout(look, document.hidden ? every * 5 : every);
}

let first = true;

function show(streams) {
  const live = streams.filter((stream) => stream.publishing).length;
  document.title = live > 0 ? `${live} live · Headwater` : 'Headwater';
  setText('heading', streams.length > 0 ? 'Live now' : 'Nothing is live yet');
  setText('summary', streams.length > 0 ? `${live} ${live === 1 ? 'stream' : 'streams'}` : 'Waiting for the first encoder.');
  if (first || streams.length === 0) guide.open ||= streams.length === 0;
  first = false;

  const seen = new Set(streams.map((stream) => stream.name));
  for (const [name, row] of rows) {
    if (seen.has(name)) continue;
    row.remove();
    rows.delete(name);
  }
  streams.forEach((stream, i) => {
    let row = rows.get(stream.name);
    if (!row) {
      row = newRow(stream.name);
      rows.set(stream.name, row);
    }
    update(row, stream);
    if (list.children[i] !== row) list.insertBefore(row, list.children[i] ?? null);
  });
}

function showUnlisted() {
  setText('heading', 'Streams are not listed here');
  setText('summary', 'Open the address of a stream directly, such as /live/demo/.');
}

function newRow(name) {
  const row = document.getElementById('row').content.firstElementChild.cloneNode(true);
  const [app, leaf] = splitName(name);
  row.firstElementChild.href = `/${name.split('/').map(encodeURIComponent).join('/')}/`;
  put(row, '.stream-app', app && `${app}/`);
  put(row, '.stream-leaf', leaf);
  return row;
}

function update(row, stream) {
  const video = trackOf(stream, 'video');
  const audio = trackOf(stream, 'audio');
  row.firstElementChild.toggleAttribute('data-live', Boolean(stream.publishing));

  put(row, '.tile-size', video ? sizeName(video.width, video.height) || 'Video' : audio ? 'Audio' : '…');
  put(row, '.tile-rate', video?.frameRate > 0 ? `${plain(video.frameRate)} fps` : video ? '' : codecName(audio?.codec));

  // What a viewer of the best rendition gets, not the sum of a ladder.
  const rate = (video?.bitrate || 0) + (audio?.bitrate || 0);
  const renditions = videoCount(stream);
  const parts = [video && codecName(video.codec), audio && audioText(audio), renditions > 1 && `${renditions} renditions`, rate > 0 && bitRate(rate)];
  put(row, '.stream-tracks', parts.filter(Boolean).join(' · ') || 'Starting…');
  put(row, '.stream-advice', adviceOf(stream)[0] ?? '');

  const pill = row.querySelector('.pill');
  const [state, word] = !stream.publishing ? ['warn', 'Encoder away'] : stream.ready === false ? ['', 'Starting'] : ['live', 'Live'];
  pill.dataset.state = state;
  put(row, '.pill', word);
  const since = stream.publishing ? moment(stream.since) : NaN;
  put(row, '.stream-since', Number.isNaN(since) ? '' : `for ${span(clock.now() - since)}`);
}

function setText(id, text) {
  const element = document.getElementById(id);
  if (element.textContent !== text) element.textContent = text;
}

function put(row, selector, text) {
  const element = row.querySelector(selector);
  if (element.textContent !== text) element.textContent = text;
}
