import assert from 'node:assert/strict';
import { test } from 'node:test';

import { codecsOf, fetchCodecs, fetchRun } from '../api.js';

test('the run that a multivariant playlist leads to', async (t) => {
  const cases = [
    ['#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nm1abc/video/index.m3u8\n', 'm1abc'],
    ['#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,PATHWAY-ID="a"\nhttps://a.test/base/live/demo/m1abc/video/index.m3u8\n', 'm1abc'],
    ['#EXTM3U\n', null],
    ['#EXTM3U\nindex.m3u8\n', null],
  ];
  for (const [text, want] of cases) {
    t.mock.method(globalThis, 'fetch', async () => new Response(text));
    assert.equal(await fetchRun('index.m3u8'), want, text);
  }
});

test('what a multivariant playlist says has to be decoded', async (t) => {
  const cases = [
    ['#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="hvc1.1.6.L60.90,mp4a.40.2"\na\n', ['hvc1.1.6.L60.90,mp4a.40.2']],
    ['#EXTM3U\n#EXT-X-STREAM-INF:CODECS="b",SUPPLEMENTAL-CODECS="c"\na\n#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="a"\nb\n#EXT-X-STREAM-INF:CODECS="b"\nc\n', ['a', 'b']],
    ['#EXTM3U\n#EXT-X-I-FRAME-STREAM-INF:CODECS="a",URI="i"\n', []],
  ];
  for (const [text, want] of cases) {
    t.mock.method(globalThis, 'fetch', async () => new Response(text));
    assert.equal(await fetchCodecs('index.m3u8'), codecsOf(want), text);
  }
  t.mock.method(globalThis, 'fetch', async () => new Response('', { status: 404 }));
  assert.equal(await fetchCodecs('index.m3u8'), null);
});
