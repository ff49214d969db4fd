// What the server says about its streams, and what time it has.

import { Clock } from './clock.js';

/** The server's clock, as far as its answers tell. */
export const clock = new Clock();

/** @returns {Promise<object[]|null>} the streams, sorted by name; null when they are not told */
export async function fetchStreams() {
  const streams = await fetchData('/api/streams');
  return Array.isArray(streams) ? streams.sort((a, b) => (a.name < b.name ? -1 : 1)) : null;
}

/** @returns {Promise<object|null>} one stream; null when there is none, or when it is not told */
export function fetchStream(name) {
  return fetchData(`/api/streams/${name.split('/').map(encodeURIComponent).join('/')}`);
}

async function fetchData(path) {
  const before = Date.now();
  const response = await fetch(path, { cache: 'no-store', signal: AbortSignal.timeout(10_000) });
  if (response.status >= 400 && response.status < 500) return null; // an edge that passes media only, for example
  if (!response.ok) throw new Error(`status ${response.status}`);
  // A cache's copy is as old as it likes; only the origin's own answer tells the time.
  if (!(Number(response.headers.get('Age')) > 0)) clock.observe(response.headers.get('Date'), before, Date.now());
  return response.json();
}

/** The run that a multivariant playlist leads to: in its first URI, <run>/<rendition>/index.m3u8. Null: no such playlist now. */
export async function fetchRun(playlist) {
  // A stream that is warming up holds this request for a few seconds.
  const response = await fetch(playlist, { cache: 'no-store', signal: AbortSignal.timeout(20_000) });
  if (!response.ok) return null;
  const uri = (await response.text()).split('\n').find((line) => line.trim() && !line.startsWith('#'));
  return uri?.trim().split('/').at(-3) ?? null; // pathways have a host before it
}

/** What a multivariant playlist says has to be decoded: its CODECS, in a form to be compared. Null: no such playlist now. */
export async function fetchCodecs(playlist) {
  const response = await fetch(playlist, { cache: 'no-store', signal: AbortSignal.timeout(20_000) });
  if (!response.ok) return null;
  return codecsOf(Array.from((await response.text()).matchAll(/^#EXT-X-STREAM-INF:(?:.*,)?CODECS="([^"]*)"/gm), (found) => found[1]));
}

/** The CODECS of variants, in a form to be compared. */
export function codecsOf(variants) {
  return [...new Set(variants)].sort().join(' ');
}

/**
 * The track of that kind to name when one must stand for all. Of a ladder's videos that is the largest of those that
 * are in the stream, not one of an input that is out; of the audio tracks, the first that is in the stream.
 */
export function trackOf(stream, kind) {
  const used = ({ state }) => state === 'leading' || state === 'following' || state === 'standby'; // for that another one is
  const idle = new Set((stream?.inputs ?? []).filter((input) => !used(input)).map(({ rendition }) => (rendition ? `video_${rendition}` : 'video')));
  const rank = (track) => [track.rendition ? 1 : 0, idle.has(track.rendition) ? 0 : 1, kind === 'video' ? (track.width || 0) * (track.height || 0) : 0, kind === 'video' ? track.bitrate || 0 : 0];
  let best;
  for (const track of stream?.tracks ?? []) {
    if (track.kind === kind && (!best || precedes(rank(track), rank(best)))) best = track;
  }
  return best;
}

function precedes(a, b) {
  const at = a.findIndex((n, i) => n !== b[i]);
  return at >= 0 && a[at] > b[at];
}

/** How many renditions with a picture the stream has. */
export function videoCount(stream) {
  return new Set((stream?.tracks ?? []).filter((track) => track.kind === 'video' && track.rendition).map((track) => track.rendition)).size;
}
