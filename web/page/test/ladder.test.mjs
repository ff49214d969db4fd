import assert from 'node:assert/strict';
import { test } from 'node:test';

import { adviceOf } from '../advice.js';
import { trackOf, videoCount } from '../api.js';
import { levelNames, milliseconds } from '../format.js';
import { ladderOf, ladderText } from '../ladder.js';

const spaced = (text) => text.replaceAll('\u00a0', ' ');
const input = (rendition, state, more = {}) => ({
  rendition, state, alignment: state === 'leading' ? 'leads' : 'timestamps', since: '2026-01-02T03:04:05Z',
  keyframeInterval: 2, skew: 0, lag: 0, bitrate: 800_000, declaredBitrate: 900_000, width: 640, height: 360, lastMSN: 7, ...more,
});
const video = (rung, width, height, more = {}) => ({ kind: 'video', rendition: rung ? `video_${rung}` : 'video', width, height, bitrate: width * 1000, ...more });

test('a ladder is shown for several inputs or a named one', () => {
  for (const stream of [null, {}, { inputs: [] }, { inputs: [input('', 'leading')] }]) assert.deepEqual(ladderOf(stream), []);
  assert.equal(ladderOf({ inputs: [input('360p', 'leading')] }).length, 1);
  assert.deepEqual(ladderOf({ inputs: [input('', 'leading'), input('360p', 'following')] }).map((row) => row.name), ['Source', '360p']);
});

test('the figures of a row', () => {
  const [lead, row] = ladderOf({ inputs: [input('720p', 'leading', { skew: 0, lag: 0 }), input('360p', 'following', { skew: -0.0124, lag: 0.34 })] });
  assert.deepEqual(
    [row.size, row.declared, row.measured, row.interval, row.skew, row.lag, row.last, row.state, row.kind].map(spaced),
    ['640×360', '900 kb/s', '800 kb/s', '2 s', '−12 ms', '+340 ms', '7', 'Following', 'calm'],
  );
  assert.deepEqual([lead.skew, lead.lag, lead.state, lead.by], ['–', '–', 'Leading', '']); // nothing against itself
});

test('what is not known yet is not shown as zero', () => {
  const [row] = ladderOf({ inputs: [{ rendition: '360p', state: 'waiting', alignment: '', keyframeInterval: 0, skew: 0, lag: 0, bitrate: 0, declaredBitrate: 0 }] });
  assert.deepEqual([row.size, row.declared, row.measured, row.interval, row.skew, row.lag, row.last], Array(7).fill('–'));
  assert.equal(ladderOf({ inputs: [input('360p', 'leading', { lastMSN: undefined })] })[0].last, '0'); // the first segment
});

test('an assumed alignment is marked, one by timestamps is not', () => {
  const of = (alignment, state = 'following') => {
    const { assumed, by } = ladderOf({ inputs: [input('360p', state, { alignment })] })[0];
    return [assumed, by];
  };
  assert.deepEqual(of('assumed from key frames'), [true, 'from key frames']);
  assert.deepEqual(of('assumed from arrival'), [true, 'from arrival']);
  assert.deepEqual(of('timestamps'), [false, 'by timestamps']);
  assert.deepEqual(of('leads', 'leading'), [false, '']);
  assert.deepEqual(of('', 'aligning'), [false, '']);
});

test('the reason is told of an input that is out or aligning', () => {
  const reason = (state) => ladderOf({ inputs: [input('360p', state, { reason: 'its key frames differ' })] })[0].reason;
  assert.equal(reason('out'), 'its key frames differ');
  assert.equal(reason('aligning'), 'its key frames differ');
  assert.equal(reason('following'), '');
  assert.equal(ladderOf({ inputs: [input('360p', 'later')] })[0].state, 'later'); // a state of a newer server
});

test('a primary and its backup', () => {
  const at = '2026-01-02T03:04:05Z';
  const [primary, backup] = ladderOf({ inputs: [
    input('', 'standby', { role: 'primary', reason: 'the backup feeds it' }),
    input('', 'leading', { role: 'backup', switched: { at, reason: 'silent' } }),
  ] });
  assert.deepEqual([primary.name, primary.state, primary.reason], ['Source', 'Standing by', 'the backup feeds it']);
  assert.deepEqual([backup.name, backup.state], ['Source, backup', 'Leading']);
  assert.match(backup.reason, /^used since .*: the other encoder sent nothing for a second$/);
  assert.match(ladderText([primary, backup]), /^2 inputs, 1 standing by\. /);
  assert.equal(ladderOf({ inputs: [input('', 'leading', { role: 'backup' })] }).length, 1);
  const tracks = [video('', 640, 360), video('720p', 1280, 720)];
  assert.equal(trackOf({ tracks, inputs: [input('720p', 'leading'), input('720p', 'standby', { role: 'backup' })] }, 'video').height, 720);
});

test('the ladder in a sentence', () => {
  const text = (...given) => ladderText(ladderOf({ inputs: given.map((state) => input('360p', state)) }));
  assert.match(text('leading', 'following'), /^2 renditions\. /);
  assert.match(text('leading', 'out', 'aligning', 'out'), /^4 renditions, 2 out, 1 aligning\. /);
  assert.match(text('leading'), /^1 rendition\. /);
});

test('one track stands for a ladder: the largest that is in', () => {
  const tracks = [{ kind: 'audio', rendition: 'audio', codec: 'mp4a.40.2' }, video('360p', 640, 360), video('720p', 1280, 720), video('240p', 426, 240), { kind: 'audio', codec: 'opus' }];
  const inputs = [input('720p', 'following'), input('360p', 'leading'), input('240p', 'following')];
  assert.equal(trackOf({ tracks, inputs }, 'video').height, 720);
  assert.equal(trackOf({ tracks, inputs: [input('720p', 'out'), ...inputs.slice(1)] }, 'video').height, 360);
  assert.equal(trackOf({ tracks, inputs: [input('720p', 'out')] }, 'audio').codec, 'mp4a.40.2');
  assert.equal(trackOf({ tracks: tracks.toReversed(), inputs }, 'audio').codec, 'mp4a.40.2'); // the one in the stream
  assert.equal(trackOf({ tracks: [video('', 640, 360, { bitrate: 1 }), video('', 640, 360, { bitrate: 2 })] }, 'video').bitrate, 2);
  assert.equal(trackOf({ tracks: [{ kind: 'video', width: 320, height: 180 }] }, 'video').height, 180); // not in yet, but all there is
  for (const stream of [null, {}, { tracks: [] }]) assert.equal(trackOf(stream, 'video'), undefined);
  assert.equal(videoCount({ tracks }), 3);
  assert.equal(videoCount({ tracks: [video('', 640, 360), { kind: 'audio', rendition: 'audio' }, { kind: 'video' }] }), 1);
});

test('advice on several encoders speaks to all of them', () => {
  const figures = { keyframeInterval: 4, targetDuration: 2 };
  assert.match(adviceOf({ ...figures, inputs: [{}] })[0], /set the encoder’s keyframe/);
  assert.match(adviceOf({ ...figures, inputs: [{}, {}] })[0], /set every encoder’s keyframe/);
});

test('levels are named by what tells them apart', () => {
  const names = (...levels) => levelNames(levels).map(spaced);
  const p = (width, height, bitrate, more) => ({ width, height, bitrate, ...more });
  assert.deepEqual(names(p(256, 144, 1e5), p(640, 360, 8e5)), ['144p', '360p']);
  assert.deepEqual(names(p(720, 1280, 3e6)), ['720p']); // upright
  assert.deepEqual(names(p(1280, 720, 15e5), p(1280, 720, 3e6), p(640, 360, 8e5)), ['720p · 1.5 Mb/s', '720p · 3.0 Mb/s', '360p']);
  assert.deepEqual(names(p(1280, 720, 3e6, { videoCodec: 'avc1.64001f' }), p(1280, 720, 3e6, { videoCodec: 'hvc1.1.6.L93' })), ['720p · 3.0 Mb/s · H.264', '720p · 3.0 Mb/s · HEVC']);
  assert.deepEqual(names(p(0, 0, 64e3), p(0, 0, 64e3)), ['Audio · 64 kb/s · no. 1', 'Audio · 64 kb/s · no. 2']);
  assert.deepEqual(names(p(0, 0, 64e3, { name: 'talk' }), p(0, 0, 5e5, { videoCodec: 'avc1.42c00d' })), ['talk', 'Video']);
});

test('milliseconds', () => {
  const cases = [
    [milliseconds(0.34), '340 ms'], [milliseconds(0.012, true), '+12 ms'], [milliseconds(-0.012), '−12 ms'], [milliseconds(-0.0001, true), '0 ms'],
    [milliseconds(12.34), '12.3 s'], [milliseconds(-12.34, true), '−12.3 s'], [milliseconds(NaN), '–'], [milliseconds(undefined), '–'],
  ];
  for (const [got, want] of cases) assert.equal(spaced(got), want);
});
