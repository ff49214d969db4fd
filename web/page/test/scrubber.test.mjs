import assert from 'node:assert/strict';
import { test } from 'node:test';

import { configurationOf, mediaOf } from '../boxes.js';
import { behindText, clockTime, spokenBehind } from '../format.js';
import { Frames } from '../frames.js';
import { nearestFrame, parseIFrames, parseVariants } from '../iframes.js';
import { Lru } from '../lru.js';
import { bands, fractionOf, timeAfter, timeAt, within } from '../slider.js';
import { dateAt, seamsOf, windowOf } from '../timeline.js';

const base = 'https://host/live/a/r1/video_low/iframes.m3u8';
const noon = Date.UTC(2026, 0, 2, 12);

test('the I-frame playlist of the least bandwidth comes first', () => {
  const text = `#EXTM3U
#EXT-X-STREAM-INF:BANDWIDTH=9,CODECS="avc1.640028,mp4a.40.2"
r1/video_high/index.m3u8
#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=400000,RESOLUTION=1920x1080,CODECS="avc1.640028",URI="r1/video_high/iframes.m3u8"
#EXT-X-I-FRAME-STREAM-INF:URI="r1/video_low/iframes.m3u8",BANDWIDTH=60000,CODECS="avc1.64001e,mp4a.40.2"\r
#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1
`;
  assert.deepEqual(parseVariants(text, 'https://host/live/a/index.m3u8'), [
    { uri: 'https://host/live/a/r1/video_low/iframes.m3u8', bandwidth: 60000, codec: 'avc1.64001e' },
    { uri: 'https://host/live/a/r1/video_high/iframes.m3u8', bandwidth: 400000, codec: 'avc1.640028' },
  ]);
  assert.deepEqual(parseVariants('<html>', base), []);
});

const playlist = `#EXTM3U
#EXT-X-VERSION:5
#EXT-X-TARGETDURATION:2
#EXT-X-I-FRAMES-ONLY
#EXT-X-MEDIA-SEQUENCE:7
#EXT-X-MAP:URI="i0.mp4"
#EXT-X-PROGRAM-DATE-TIME:2026-01-02T12:00:00.000Z
#EXTINF:2.00000,
#EXT-X-BYTERANGE:1200@0
s7.m4s
#EXTINF:1.50000,
#EXT-X-BYTERANGE:900@0
s8.m4s
#EXT-X-GAP
#EXTINF:2.00000,
s9.m4s
#EXT-X-DISCONTINUITY
#EXT-X-MAP:URI="i1.mp4"
#EXT-X-PROGRAM-DATE-TIME:2026-01-02T12:01:00.000Z
#EXTINF:2.00000,
#EXT-X-BYTERANGE:700@0
s10.m4s
`;

test('an I-frame playlist', () => {
  const { target, end, frames } = parseIFrames(playlist, base);
  assert.equal(target, 2);
  assert.equal(end, noon + 62_000);
  assert.deepEqual(frames.map(({ uri, map, offset, length, from, to }) => [uri.split('/').pop(), map.split('/').pop(), offset, length, from - noon, to - noon]), [
    ['s7.m4s', 'i0.mp4', 0, 1200, 0, 2000],
    ['s8.m4s', 'i0.mp4', 0, 900, 2000, 3500],
    ['s10.m4s', 'i1.mp4', 0, 700, 60_000, 62_000],
  ]);
  assert.equal(frames[0].uri, 'https://host/live/a/r1/video_low/s7.m4s');
});

test('ranges without an offset follow each other within a file', () => {
  const text = playlist.replace('1200@0\ns7', '1200@100\none').replace('900@0\ns8', '900\none').replace('700@0\ns10', '700\ntwo');
  assert.deepEqual(parseIFrames(text, base).frames.map((f) => f.offset), [100, 1300, 0]);
});

test('what is no I-frame playlist has no frames, and lacks of it leave entries out', () => {
  for (const text of ['', '<html>', '#EXTM3U\n', playlist.replaceAll(/#EXT-X-PROGRAM.*\n/g, ''), playlist.replaceAll(/#EXT-X-MAP.*\n/g, ''), playlist.replaceAll(/#EXT-X-BYTERANGE.*\n/g, '#EXT-X-BYTERANGE:x\n')]) {
    assert.deepEqual(parseIFrames(text, base).frames, [], text.slice(0, 20));
  }
});

test('the nearest frame, unless it is out of reach', () => {
  const { frames } = parseIFrames(playlist, base);
  const at = (ms, reach = 4000) => nearestFrame(frames, noon + ms, reach)?.uri.split('/').pop() ?? null;
  assert.equal(at(-500), 's7.m4s');
  assert.equal(at(900), 's7.m4s');
  assert.equal(at(1100), 's8.m4s');
  assert.equal(at(5000), 's8.m4s');
  assert.equal(at(30_000), null); // the encoder was away
  assert.equal(at(59_000), 's10.m4s');
  assert.equal(at(63_000), 's10.m4s');
  assert.equal(at(65_000), null);
  assert.equal(nearestFrame(frames, NaN, 4000), null);
  assert.equal(nearestFrame([], noon, 4000), null);
});

test('what was not asked for longest makes room', () => {
  const lru = new Lru(2);
  lru.set('a', 1);
  lru.set('b', 2);
  assert.equal(lru.get('a'), 1);
  lru.set('c', 3);
  assert.equal(lru.get('b'), undefined);
  assert.deepEqual([lru.get('a'), lru.get('c'), lru.size], [1, 3, 2]);
  lru.set('a', 4);
  assert.deepEqual([lru.get('a'), lru.size], [4, 2]);
});

const live = { start: 100, end: 116 };

test('places and times on the slider', () => {
  assert.equal(fractionOf(live, 104), 0.25);
  assert.equal(fractionOf(live, 90), 0);
  assert.equal(fractionOf(live, 120), 1);
  assert.equal(fractionOf({ start: 5, end: 5 }, 5), 1);
  assert.equal(timeAt(live, 150, 50, 400), 104);
  assert.equal(timeAt(live, 0, 50, 400), 100);
  assert.equal(timeAt(live, 900, 50, 400), 116);
  assert.equal(timeAt(live, 10, 0, 0), 116);
  assert.equal(within(10, 100, 400), 0);
  assert.equal(within(200, 100, 400), 150);
  assert.equal(within(399, 100, 400), 300);
  assert.equal(within(10, 100, 50), 0);
});

test('keys of the slider', () => {
  const hours = { start: 0, end: 7200 };
  for (const [key, window, time, want] of [
    ['ArrowLeft', live, 114, 109], ['ArrowRight', live, 114, 116], ['ArrowDown', live, 102, 100], ['ArrowUp', live, 102, 107],
    ['PageDown', live, 114, 109], ['PageDown', hours, 3600, 2880], ['PageUp', hours, 3600, 4320], ['Home', hours, 3600, 0], ['End', hours, 3600, 7200],
    ['Enter', live, 114, null], [' ', live, 114, null], ['toString', live, 114, null],
  ]) assert.equal(timeAfter(key, window, time), want, key);
});

test('ranges as a background', () => {
  assert.equal(bands(live, [[104, 108]], 'red'), 'linear-gradient(90deg, transparent 25%, red 25% 50%, transparent 0)');
  assert.equal(bands(live, [[90, 108], [10, 20]], 'red'), 'linear-gradient(90deg, transparent 0%, red 0% 50%, transparent 0)');
  assert.equal(bands(live, [[104, 104]], 'red', 2), 'linear-gradient(90deg, transparent 25%, red 25% max(25%, 25% + 2px), transparent 0)');
  assert.equal(bands(live, [], 'red'), 'none');
});

test('the window of hls.js and that of the video element', () => {
  const seekable = { length: 1, start: () => 3, end: () => 9 };
  const details = {
    fragmentStart: 10, edge: 18.5, fragments: [
      { start: 10, duration: 4, programDateTime: noon, cc: 0 }, { start: 14, duration: 2, programDateTime: noon + 4000, cc: 0, gap: true }, { start: 16, duration: 2, programDateTime: noon + 60_000, cc: 1 },
    ],
  };
  const hls = { latestLevelDetails: details };
  assert.deepEqual(windowOf({ hls }, { seekable }), { start: 10, end: 18.5 });
  assert.deepEqual(windowOf({ hls: null, native: true }, { seekable }), { start: 3, end: 9 });
  assert.equal(windowOf({ hls: null, native: false }, { seekable }), null);
  assert.equal(windowOf({ hls: { latestLevelDetails: null } }, { seekable }), null);
  for (const [time, want] of [[9, -1000], [12, 2000], [15.9, 5900], [16, 60_000], [18.4, 62_400]]) assert.equal(dateAt({ hls }, {}, time), noon + want, String(time));
  assert.ok(Number.isNaN(dateAt({ hls: null }, {}, 3)));
  assert.equal(dateAt({ native: true }, { getStartDate: () => new Date(noon) }, 3), noon + 3000);
  assert.ok(Number.isNaN(dateAt({ native: true }, { getStartDate: () => new Date(NaN) }, 3)));
  assert.deepEqual(seamsOf({ hls }), { gaps: [[14, 16]], changes: [16] });
  assert.deepEqual(seamsOf({ hls: null }), { gaps: [], changes: [] });
});

test('how far behind live', () => {
  const plain = (text) => text.replaceAll('\u00a0', ' ');
  for (const [s, want, spoken] of [[11.6, '−12 s', '12 seconds behind live'], [62, '−1:02', '1 minute 2 seconds behind live'], [7261, '−2:01:01', '2 hours 1 minute 1 second behind live'], [0.4, 'Live', 'Live'], [-1, 'Live', 'Live']]) {
    assert.equal(plain(behindText(s)), want);
    assert.equal(spokenBehind(s), spoken);
  }
  assert.equal(behindText(NaN), '');
  assert.match(clockTime(noon), /\d.\d\d.\d\d/);
  assert.equal(clockTime(NaN), '');
});

const box = (type, ...parts) => {
  const body = Buffer.concat(parts.map((part) => Buffer.from(part)));
  const head = Buffer.alloc(8);
  head.writeUInt32BE(8 + body.length);
  head.write(type, 4, 'latin1');
  return Buffer.concat([head, body]);
};

test('the configuration and the sample in their boxes', () => {
  const record = [1, 0x64, 0, 0x1e, 0xff];
  const init = (entry) => box('moov', box('mvhd', new Uint8Array(100)), box('trak', box('mdia', box('minf', box('stbl', box('stsd', new Uint8Array(8), entry))))));
  assert.deepEqual([...configurationOf(init(box('avc1', new Uint8Array(78), box('pasp', new Uint8Array(8)), box('avcC', record))))], record);
  assert.deepEqual([...configurationOf(init(box('hvc1', new Uint8Array(78), box('hvcC', record))))], record);
  assert.equal(configurationOf(init(box('av01', new Uint8Array(78), box('av1C', record)))), null);
  const range = Buffer.concat([box('moof', [1, 2, 3]), box('mdat', [4, 5, 6, 7])]);
  assert.deepEqual([...mediaOf(range)], [4, 5, 6, 7]);
  assert.deepEqual([...mediaOf(range.subarray(0, -2))], [4, 5]); // the range ends with the first sample
  assert.equal(mediaOf(box('moof', [1])), null);
  assert.equal(mediaOf(Buffer.from([0, 0, 0, 2, 1, 1, 1, 1, 1])), null);
});

/** A browser as far as Frames needs one, and a server: answers to requests come one by one when next is called. */
function browser(t) {
  const asked = [];
  const waiting = [];
  const files = {
    'https://host/live/a/index.m3u8': `#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,CODECS="none",URI="r1/none/iframes.m3u8"
#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=2,CODECS="avc1.64001e",URI="r1/video_low/iframes.m3u8"`,
    [base]: playlist,
  };
  const stubs = {
    fetch: (uri, { signal, headers }) => new Promise((resolve, reject) => {
      asked.push(headers ? `${uri.split('/').pop()} ${headers.Range}` : uri.split('/').pop());
      signal.addEventListener('abort', () => reject(signal.reason));
      const body = files[uri] ?? (uri.endsWith('.mp4') ? box('free') : Buffer.concat([box('moof', [1]), box('mdat', [Number(uri.match(/(\d+)\.m4s/)?.[1])])]));
      waiting.push(() => resolve(new Response(body, { status: headers ? 206 : 200 })));
    }),
    document: { createElement: () => ({ getContext() { return { drawImage: (frame) => { this.of = frame.of; } }; } }) },
    EncodedVideoChunk: class { constructor(init) { Object.assign(this, init); } },
    VideoDecoder: class {
      static isConfigSupported({ codec }) { return Promise.resolve({ supported: codec !== 'none' }); }
      state = 'unconfigured';
      constructor(init) { this.init = init; }
      configure() { this.state = 'configured'; }
      decode(chunk) { this.init.output({ of: chunk.data[0], displayWidth: 640, displayHeight: 360, close() {} }); }
      flush() { return Promise.resolve(); }
      close() { this.state = 'closed'; }
    },
  };
  for (const [name, stub] of Object.entries(stubs)) {
    const had = globalThis[name];
    globalThis[name] = stub;
    t.after(() => { globalThis[name] = had; });
  }
  const settle = () => new Promise((resolve) => { setTimeout(resolve, 5); });
  return {
    asked,
    async next() { waiting.shift()(); await settle(); },
    async all() { while (waiting.length > 0) await this.next(); },
  };
}

test('pictures: one request at a time, the moment wanted last is next, and what was fetched is not fetched again', async (t) => {
  const b = browser(t);
  const frames = new Frames('https://host/live/a/index.m3u8');
  const got = [];
  const want = (ms) => frames.want(noon + ms, (picture) => got.push(picture?.of ?? null));
  assert.deepEqual(b.asked, []);
  want(100);
  assert.deepEqual(b.asked, ['index.m3u8']);
  await b.next();
  assert.deepEqual(b.asked.slice(1), ['iframes.m3u8']);
  await b.next();
  await b.next();
  want(1900);
  want(60_000);
  want(2100);
  await b.all();
  assert.deepEqual(b.asked.slice(2), ['i0.mp4', 's7.m4s bytes=0-1199', 's8.m4s bytes=0-899']);
  assert.deepEqual(got, [7, 8]);
  want(50);
  want(30_000);
  await b.all();
  assert.deepEqual(got, [7, 8, 7, null]);
  assert.equal(b.asked.length, 5);
});

test('pictures: leaving ends what is under way, and another run begins anew', async (t) => {
  const b = browser(t);
  const frames = new Frames('https://host/live/a/index.m3u8');
  const got = [];
  const want = (ms) => frames.want(noon + ms, (picture) => got.push(picture?.of ?? null));
  want(100);
  await b.next();
  frames.cancel();
  await b.all();
  assert.deepEqual(got, []);
  assert.deepEqual(b.asked, ['index.m3u8', 'iframes.m3u8']);
  want(100);
  await b.all();
  assert.deepEqual(got, [7]);
  assert.deepEqual(b.asked.slice(2), ['iframes.m3u8', 'i0.mp4', 's7.m4s bytes=0-1199']);
  frames.reset();
  want(2000);
  await b.all();
  assert.deepEqual(got, [7, 8]);
  assert.deepEqual(b.asked.slice(5), ['index.m3u8', 'iframes.m3u8', 's8.m4s bytes=0-899']);
});
