import assert from 'node:assert/strict';
import { test } from 'node:test';

import { showSource } from '../panel.js';

// A document of elements that only remember what they are given.
function fakeDocument() {
  const elements = new Map();
  const element = () => ({
    dataset: {}, textContent: '', children: [],
    replaceChildren(...children) { this.children = children; },
  });
  return {
    createElement: element,
    getElementById(id) {
      if (!elements.has(id)) elements.set(id, element());
      return elements.get(id);
    },
  };
}

test('the panel says how far keyframes are apart, what is done about it, and what to set', (t) => {
  globalThis.document = fakeDocument();
  t.after(() => delete globalThis.document);
  const text = (id) => document.getElementById(id).textContent;
  const advice = () => document.getElementById('advice').children.map((p) => p.textContent);

  showSource({ publishing: true, inputs: [], tracks: [], keyframeInterval: 25.03, targetDuration: 2, longGOP: 'cut',
    advice: ['no keyframe for 25 s, but the segment target is 2 s: set the encoder\'s keyframe interval to 2 s'] });
  assert.deepEqual([text('s-keyframe'), text('s-long'), text('s-target')], ['25.03 s', 'are cut between keyframes', 'target 2 s']);
  assert.deepEqual(advice(), ['No keyframe for 25 s, but the segment target is 2 s: set the encoder\'s keyframe interval to 2 s.']);

  showSource({ publishing: true, inputs: [], tracks: [], keyframeInterval: 2, targetDuration: 2, longGOP: 'refuse', advice: [] });
  assert.deepEqual([text('s-keyframe'), text('s-long')], ['2 s', 'are refused']);
  assert.deepEqual(advice(), []);

  showSource(null);
  assert.deepEqual([text('s-keyframe'), text('s-long')], ['–', '–']);
});
