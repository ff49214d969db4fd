// What playlists say of I-frames: which playlists of them there are, and where in which file each of them lies.

/**
 * The I-frame playlists that a multivariant playlist names (EXT-X-I-FRAME-STREAM-INF, RFC 8216bis 4.4.6.3), the one with
 * the least bandwidth first.
 * @returns {{uri: string, bandwidth: number, codec: string}[]}
 */
export function parseVariants(text, base) {
  const variants = [];
  for (const line of lines(text)) {
    const attributes = attributesOf(line, '#EXT-X-I-FRAME-STREAM-INF:');
    if (!attributes?.URI) continue;
    const uri = resolve(attributes.URI, base);
    if (uri) variants.push({ uri, bandwidth: Number(attributes.BANDWIDTH) || Infinity, codec: (attributes.CODECS ?? '').split(',')[0].trim() });
  }
  return variants.sort((a, b) => (a.bandwidth === b.bandwidth ? 0 : a.bandwidth - b.bandwidth));
}

/**
 * An I-frame playlist (RFC 8216bis 4.4.3.6). A frame is a byte range of uri, to be decoded after the bytes at map; from and
 * to are milliseconds since 1970, of the time until the next. Entries without media, without a date or without a range are
 * left out.
 * @returns {{target: number, end: number, frames: {uri: string, offset: number, length: number, map: string, from: number, to: number}[]}}
 *   the target duration in seconds; end is where the last entry ends, with or without media
 */
export function parseIFrames(text, base) {
  const list = { target: 1, end: NaN, frames: [] };
  let date = NaN;
  let duration = NaN;
  let range = null;
  let gap = false;
  let map = '';
  const ends = new Map(); // of the last range of a file
  for (const line of lines(text)) {
    if (line.startsWith('#EXT-X-TARGETDURATION:')) list.target = Number(after(line)) || 1;
    else if (line.startsWith('#EXT-X-PROGRAM-DATE-TIME:')) date = Date.parse(after(line));
    else if (line.startsWith('#EXTINF:')) duration = Number.parseFloat(after(line)) * 1000;
    else if (line.startsWith('#EXT-X-BYTERANGE:')) range = /^(\d+)(?:@(\d+))?$/.exec(after(line));
    else if (line === '#EXT-X-GAP') gap = true;
    else if (line.startsWith('#EXT-X-MAP:')) map = resolve(attributesOf(line, '#EXT-X-MAP:').URI ?? '', base);
    else if (!line.startsWith('#')) {
      const uri = resolve(line, base);
      if (range && uri) {
        const length = Number(range[1]);
        // A range without an offset follows the one before of the same file (4.4.4.2).
        const offset = range[2] === undefined ? ends.get(uri) ?? 0 : Number(range[2]);
        ends.set(uri, offset + length);
        if (!gap && map && length > 0 && duration >= 0 && !Number.isNaN(date)) {
          list.frames.push({ uri, offset, length, map, from: date, to: date + duration });
        }
      }
      date += duration;
      list.end = date;
      duration = NaN;
      range = null;
      gap = false;
    }
  }
  return list;
}

/** The frame whose moment is nearest to date (milliseconds since 1970), within reach (milliseconds); null when none is. */
export function nearestFrame(frames, date, reach) {
  let best = null;
  let least = reach;
  for (const frame of frames) { // not by bisection: dates may go back where an encoder's clock did
    const distance = Math.abs(frame.from - date);
    if (distance <= least) {
      best = frame;
      least = distance;
    }
  }
  return best;
}

function* lines(text) {
  for (const line of text.split('\n')) {
    const trimmed = line.trim();
    if (trimmed) yield trimmed;
  }
}

function after(line) {
  return line.slice(line.indexOf(':') + 1).trim();
}

function attributesOf(line, tag) {
  if (!line.startsWith(tag)) return null;
  const attributes = {};
  for (const [, name, quoted, bare] of line.slice(tag.length).matchAll(/([A-Z0-9-]+)=(?:"([^"]*)"|([^,]*))/g)) attributes[name] = quoted ?? bare;
  return attributes;
}

function resolve(uri, base) {
  if (!uri) return '';
  try {
    return new URL(uri, base).href;
  } catch {
    return '';
  }
}
