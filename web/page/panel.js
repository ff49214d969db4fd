// Everything that the player page says in words and figures around the picture.

import { adviceOf } from './advice.js';
import { clock, trackOf } from './api.js';
import { audioText, bitRate, longText, moment, none, plain, seconds, span, videoText } from './format.js';

const $ = (id) => document.getElementById(id);

function put(id, text) {
  const element = $(id);
  if (element.textContent !== text) element.textContent = text;
}

/** The figures of playback, as measured now. */
export function showFigures(f, playback) {
  put('latency', seconds(f.latency));
  $('figure').toggleAttribute('data-none', !Number.isFinite(f.latency));
  $('latency-unit').hidden = !Number.isFinite(f.latency);
  put('latency-note', f.target > 0 ? `behind the live edge, target ${seconds(f.target)} s` : 'behind the live edge');
  put('s-wall', Number.isFinite(f.wall) ? `${seconds(f.wall)} s` : none);
  put('s-buffer', playback.hls || playback.native ? `${seconds(f.buffer)} s` : none);
  put('s-rendition', f.rendition?.height > 0 ? [`${f.rendition.width}×${f.rendition.height}`, f.rendition.frameRate > 0 ? `${plain(f.rendition.frameRate)} fps` : ''].filter(Boolean).join(', ') : none);
  put('s-bitrate', bitRate(f.rendition?.bitrate));
  put('s-bandwidth', playback.hls ? bitRate(f.bandwidth) : none);
  put('s-dropped', Number.isFinite(f.dropped) && f.rendition ? (f.total > 0 ? `${f.dropped} of ${f.total}` : String(f.dropped)) : none);

  const live = playback.atLive;
  $('live').toggleAttribute('data-live', live);
  $('live').setAttribute('aria-label', live ? 'Playing live' : 'Go to live');
}

/** What the server says about the source. */
export function showSource(stream) {
  const encoders = stream?.inputs?.length ?? 0;
  put('s-encoder', stream ? (!stream.publishing ? 'Away' : encoders > 1 ? `${encoders} publishing` : 'Publishing') : none);
  put('s-video', stream ? videoText(trackOf(stream, 'video')) : none);
  put('s-audio', stream ? audioText(trackOf(stream, 'audio')) : none);
  put('s-keyframe', stream?.keyframeInterval > 0 ? `${plain(stream.keyframeInterval)} s` : none);
  put('s-long', longText(stream?.longGOP));
  put('s-target', stream?.targetDuration > 0 ? `target ${plain(stream.targetDuration)} s` : none);
  put('s-part', stream?.partTarget > 0 ? `${plain(stream.partTarget * 1000, 0)} ms` : stream ? 'off, ordinary latency' : none);

  const advice = adviceOf(stream);
  const box = $('advice');
  if (box.dataset.shown !== advice.join('\n')) {
    box.dataset.shown = advice.join('\n');
    box.replaceChildren(...advice.map((line) => {
      const p = document.createElement('p');
      p.textContent = line;
      return p;
    }));
  }
}

/** How long the stream has been on; by the second, so it is asked for apart from the rest. */
export function showSince(stream) {
  const since = stream?.publishing ? moment(stream.since) : NaN;
  put('since', Number.isNaN(since) ? '' : `on for ${span(clock.now() - since)}`);
}

/** The state of the whole: the pill under the picture, and what lies over the picture. */
export function showState(playback, name) {
  const { state, reason, stream } = playback;
  const away = stream !== null && !stream.publishing;
  const [kind, text] = pillOf(state, reason, away);
  $('pill').dataset.state = kind;
  put('pill', text);

  const words = overlayOf(playback, away, name);
  $('controls').hidden = ['loading', 'waiting', 'starting', 'failed'].includes(state);
  const overlay = $('overlay');
  overlay.hidden = words === null;
  if (words === null) return;
  const [title, body, light] = words;
  put('overlay-title', title);
  put('overlay-text', body);
  overlay.toggleAttribute('data-light', Boolean(light));
  $('spinner').hidden = state === 'failed';
}

function pillOf(state, reason, away) {
  if (state === 'failed') return ['warn', 'Can’t play'];
  if (state === 'waiting') return ['', { ended: 'Ended', unreachable: 'Not reachable' }[reason] ?? 'Waiting'];
  if (state === 'loading' || state === 'starting') return ['', 'Starting'];
  if (away) return ['warn', 'Encoder away'];
  return ['live', 'Live'];
}

function overlayOf({ state, reason, stream }, away, name) {
  switch (state) {
    case 'loading':
    case 'starting':
      return ['Starting', '', true];
    case 'waiting':
      if (reason === 'unreachable') return ['The server can’t be reached', 'Trying again every few seconds.'];
      if (stream?.publishing) return ['Starting', 'The encoder is connected; the first segment is on its way.'];
      if (reason === 'ended') return ['The stream has ended', 'If it comes back, it plays here by itself.'];
      return ['Waiting for the encoder', `${name} plays here by itself as soon as it is published.`];
    case 'stalled':
      if (away) return ['The encoder is away', 'Playback goes on when it comes back.'];
      return ['', '', true];
    case 'failed':
      return [reason, 'The address below plays in other players.'];
  }
  return null;
}
