import assert from 'node:assert/strict';
import { test } from 'node:test';

import { adviceOf, transportNote } from '../advice.js';
import { Clock } from '../clock.js';
import { audioText, bitRate, longText, moment, plain, seconds, sizeName, span, splitName, videoText } from '../format.js';

const spaced = (text) => text.replaceAll('\u00a0', ' ');

test('figures', () => {
  const cases = [
    [seconds(1.4249), '1.42'], [seconds(9.999), '10.0'], [seconds(12.34), '12.3'], [seconds(NaN), '–'],
    [bitRate(849_700), '850 kb/s'], [bitRate(999_600), '1.0 Mb/s'], [bitRate(4_249_000), '4.2 Mb/s'], [bitRate(250e6), '250 Mb/s'], [bitRate(0), '–'], [bitRate(undefined), '–'],
    [span(41_900), '41 s'], [span(59 * 60e3), '59 min'], [span(3 * 3600e3 + 4 * 60e3), '3 h 04 min'], [span(53 * 3600e3), '2 d 5 h'], [span(-5), '0 s'],
    [plain(30), '30'], [plain(30000 / 1001), '29.97'], [plain(8.3333, 1), '8.3'],
    [longText('stretch'), 'stretch segments, to 10 s'], [longText('cut'), 'are cut between keyframes'], [longText('refuse'), 'are refused'], [longText(''), '–'], [longText(undefined), '–'],
    [sizeName(1920, 1080), '1080p'], [sizeName(1080, 1920), '1080p'], [sizeName(0, 0), ''],
  ];
  for (const [got, want] of cases) assert.equal(spaced(got), want);
});

test('points in time', () => {
  assert.equal(moment('2026-01-02T03:04:05Z'), Date.UTC(2026, 0, 2, 3, 4, 5));
  assert.equal(moment(1700000000), 1700000000_000);
  for (const none of [null, undefined, '', 'soon', 0, '0001-01-01T00:00:00Z']) assert.ok(Number.isNaN(moment(none)), String(none));
});

test('tracks', () => {
  assert.equal(spaced(videoText({ codec: 'avc1.64001f', width: 1280, height: 720, frameRate: 29.97 })), '1280×720, 29.97 fps, H.264');
  assert.equal(spaced(audioText({ codec: 'mp4a.40.2', sampleRate: 44100, channels: 1 })), 'AAC, 44.1 kHz mono');
  assert.equal(audioText({ codec: 'mp4a.40.5' }), 'HE-AAC');
  assert.equal(videoText(undefined), 'none');
  assert.deepEqual(splitName('live/a/b'), ['live', 'a/b']);
});

test('the server’s advice comes first, the figures speak when it is silent', () => {
  assert.deepEqual(adviceOf({ advice: ['keyframes every 8.3 s, target 2 s: set the keyframe interval to 2'] }), ['Keyframes every 8.3 s, target 2 s: set the keyframe interval to 2.']);
  assert.match(adviceOf({ advice: [], keyframeInterval: 8.333, targetDuration: 2 })[0], /^Keyframes every 8.3 s, target 2 s/);
  assert.deepEqual(adviceOf({ advice: null, keyframeInterval: 2, targetDuration: 2 }), []);
  assert.deepEqual(adviceOf(null), []);
});

test('what the connection lacks for iPhones', () => {
  assert.match(transportNote('http:', 'http/1.1'), /no TLS and HTTP\/2/);
  assert.match(transportNote('http:', 'h2'), /no TLS\./);
  assert.match(transportNote('https:', 'http/1.1'), /no HTTP\/2/);
  assert.equal(transportNote('https:', 'h3'), '');
  assert.equal(transportNote('https:', ''), '');
});

test('a clock that is seven seconds off is found out, one that fits is left alone', (t) => {
  t.mock.timers.enable({ apis: ['Date'], now: 1_000_000_000 });
  const answers = (clock, offset) => {
    for (const local of [0, 1300, 2600, 3900, 5250]) {
      const before = Date.now() + local;
      clock.observe(new Date(Math.floor((before + offset) / 1000) * 1000).toUTCString(), before, before + 20);
    }
  };
  const wrong = new Clock();
  answers(wrong, 7000);
  assert.ok(Math.abs(wrong.now() - Date.now() - 7000) < 500);
  const right = new Clock();
  answers(right, 0);
  assert.equal(right.now(), Date.now());
  right.observe(null, 0, 0);
  assert.equal(right.now(), Date.now());
  answers(right, 60_000); // the local clock was set
  assert.ok(Math.abs(right.now() - Date.now() - 60_000) < 500);
});
