// The live window: what of the stream can be played now, in the media time of the video element, and which moment of the
// day that is. From hls.js's playlist; in browsers that play HLS themselves, from the video element.

/** @returns {{start: number, end: number}|null} seconds; null when there is nothing yet */
export function windowOf({ hls, native }, video) {
  const details = hls?.latestLevelDetails;
  const { seekable } = video;
  const [start, end] = details ? [details.fragmentStart, details.edge] : native && seekable.length > 0 ? [seekable.start(0), seekable.end(seekable.length - 1)] : [NaN, NaN];
  return Number.isFinite(start) && Number.isFinite(end) && end > start ? { start, end } : null;
}

/** The moment at media time time, by EXT-X-PROGRAM-DATE-TIME, in milliseconds since 1970; NaN when unknown. */
export function dateAt({ hls, native }, video, time) {
  if (native) return video.getStartDate ? video.getStartDate().getTime() + time * 1000 : NaN;
  let found = null; // the last that begins before time, or the first
  for (const fragment of hls?.latestLevelDetails?.fragments ?? []) {
    if (found && fragment.start > time) break;
    if (fragment.programDateTime) found = fragment;
  }
  return found ? found.programDateTime + (time - found.start) * 1000 : NaN;
}

/** Stretches of media time without media (EXT-X-GAP), and moments of change (EXT-X-DISCONTINUITY). */
export function seamsOf({ hls }) {
  const gaps = [];
  const changes = [];
  let before = null;
  for (const fragment of hls?.latestLevelDetails?.fragments ?? []) {
    if (fragment.gap) gaps.push([fragment.start, fragment.start + fragment.duration]);
    if (before && before.cc !== fragment.cc) changes.push(fragment.start);
    before = fragment;
  }
  return { gaps, changes };
}
