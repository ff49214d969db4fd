import assert from 'node:assert/strict';
import { test } from 'node:test';

import { abrOfParts, slowRate } from '../abr.js';

test('a part that takes as long to come as it takes to play tells the rate', () => {
  assert.equal(slowRate(560, 62_500, 0.334), 892_857);
  assert.equal(slowRate(200, 62_500, 0.334), 0);
  assert.equal(slowRate(560, 0, 0.334), 0);
});

test('each part of the picture is looked at', () => {
  const seen = [];
  class Base {
    bwEstimator = { sample: (took, bytes) => seen.push(['sample', took, bytes]) };
    onFragLoaded() { seen.push(['base']); }
    resetEstimator(rate) { seen.push(['reset', rate]); }
  }
  const abr = new (abrOfParts({ DefaultConfig: { abrController: Base } }))();
  const part = (first, end, loaded) => ({ duration: 0.334, stats: { loaded, loading: { start: 0, first, end } } });
  abr.onFragLoaded('', { frag: { type: 'main' }, part: part(300, 340, 10_000) }); // held for 0.3 s
  abr.onFragLoaded('', { frag: { type: 'main' }, part: part(300, 860, 62_500) });
  abr.onFragLoaded('', { frag: { type: 'audio' }, part: part(300, 860, 62_500) });
  abr.onFragLoaded('', { frag: { type: 'main' }, part: null });
  assert.deepEqual(seen, [['base'], ['sample', 40, 10_000], ['base'], ['reset', 892_857], ['base'], ['base']]);
});
