// The two things in CMAF that a decoder wants to be handed apart: its configuration and a sample's bytes (ISO/IEC 14496-12).

const visualEntry = 78; // bytes of a VisualSampleEntry before its boxes (12.1.3)
const within = { moov: 0, trak: 0, mdia: 0, minf: 0, stbl: 0, stsd: 8, avc1: visualEntry, avc3: visualEntry, hvc1: visualEntry, hev1: visualEntry };

/** The decoder configuration record of H.264 or H.265 in a Media Initialization Section; null for what needs none. */
export function configurationOf(init) {
  for (const { type, body } of boxes(init)) {
    if (type === 'avcC' || type === 'hvcC') return body;
    const found = type in within ? configurationOf(body.subarray(within[type])) : null;
    if (found) return found;
  }
  return null;
}

/** The bytes in the first mdat box, as far as they are there: a range may end with the first sample. Null: no such box. */
export function mediaOf(bytes) {
  for (const { type, body } of boxes(bytes)) {
    if (type === 'mdat') return body;
  }
  return null;
}

function* boxes(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + 8 <= bytes.length;) {
    let size = view.getUint32(at);
    let head = 8;
    if (size === 1 && at + 16 <= bytes.length) {
      size = Number(view.getBigUint64(at + 8));
      head = 16;
    } else if (size === 0) size = bytes.length - at; // to the end of the file
    if (size < head) return;
    yield { type: String.fromCharCode(...bytes.subarray(at + 4, at + 8)), body: bytes.subarray(at + head, Math.min(at + size, bytes.length)) };
    at += size;
  }
}
