// What the publisher could do better, in sentences.

import { plain } from './format.js';

/** The server's advice; failing that, what the figures themselves say. */
export function adviceOf(stream) {
  const advice = (stream?.advice ?? []).filter((line) => typeof line === 'string' && line);
  if (advice.length > 0) return advice.map(sentence);
  const { keyframeInterval: interval, targetDuration: target } = stream ?? {};
  if (interval > 0 && target > 0 && interval > target * 1.05) {
    return [`Keyframes every ${plain(interval, 1)} s, target ${plain(target, 1)} s: set ${stream.inputs?.length > 1 ? 'every encoder’s' : 'the encoder’s'} keyframe interval to ${plain(target, 1)} s for faster starts and lower latency.`];
  }
  return [];
}

function sentence(line) {
  const text = line.trim();
  return text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? '' : '.');
}

/** What this connection means for latency on iPhone and iPad, whose low-latency mode wants TLS and HTTP/2. */
export function transportNote(protocol, nextHop) {
  const multiplexed = /^h[23]/.test(nextHop ?? '');
  if (protocol === 'https:' && (multiplexed || !nextHop)) return '';
  const lacks = [protocol === 'https:' ? '' : 'TLS', multiplexed ? '' : 'HTTP/2'].filter(Boolean).join(' and ');
  return `iPhone and iPad play this with ordinary latency: their low-latency mode needs TLS and HTTP/2, and this connection has no ${lacks}. Other players are not affected.`;
}
