// The ladder: one row for each publication that feeds the stream, and how it fits together with the others.

import { bitRate, clockTime, milliseconds, moment, none, plain } from './format.js';

const columns = [
  ['name', 'Rendition'], ['size', 'Size'], ['declared', 'Declared'], ['measured', 'Measured'], ['interval', 'GOP'],
  ['skew', 'Skew'], ['lag', 'Lag'], ['last', 'Last segment'], ['state', 'State'],
];

// The kind decides the colour, the word says it too.
const states = {
  waiting: ['', 'Waiting'],
  leading: ['good', 'Leading'],
  following: ['calm', 'Following'],
  standby: ['', 'Standing by'],
  aligning: ['warn', 'Aligning'],
  out: ['warn', 'Out'],
};

const assumption = /^assumed\b\s*/;
const known = ['timestamps', 'time in the stream'];

/**
 * The rows of the ladder as words; none when the stream is not one, that is, when its only input has no name
 * and is no backup.
 * @returns {object[]} one string for each column, kind (of the state), assumed, by (what the place in the ladder rests
 * on, without the word "assumed") and reason (why it is not in, "" if it is)
 */
export function ladderOf(stream) {
  const inputs = stream?.inputs ?? [];
  if (inputs.length === 0 || (inputs.length === 1 && !inputs[0].rendition && inputs[0].role !== 'backup')) return [];
  return inputs.map((input) => {
    const [kind, state] = states[input.state] ?? ['', input.state || none];
    const placed = ['following', 'out', 'standby'].includes(input.state) && input.alignment !== ''; // the leader has none against itself
    const assumed = assumption.test(input.alignment ?? '');
    return {
      name: [input.rendition || 'Source', input.role === 'backup' && 'backup'].filter(Boolean).join(', '),
      size: input.width > 0 && input.height > 0 ? `${input.width}×${input.height}` : none,
      declared: bitRate(input.declaredBitrate),
      measured: bitRate(input.bitrate),
      interval: input.keyframeInterval > 0 ? `${plain(input.keyframeInterval)}\u00a0s` : none,
      skew: placed ? milliseconds(input.skew, true) : none,
      lag: placed ? milliseconds(input.lag, true) : none,
      // The API leaves out a zero; before the first segment is complete there is no bit rate either.
      last: input.lastMSN > 0 ? String(input.lastMSN) : input.bitrate > 0 && input.width > 0 ? '0' : none,
      state,
      kind,
      assumed,
      by: assumed ? input.alignment.replace(assumption, '') : known.includes(input.alignment) && input.state !== 'leading' ? `by ${input.alignment}` : '',
      reason: ['out', 'aligning', 'standby'].includes(input.state) ? input.reason || '' : switchText(input),
    };
  });
}

// Why a rendition went over to this input from the other one.
const reasons = {
  silent: 'the other encoder sent nothing for a second',
  'no key frames': 'the other encoder’s key frames stayed away',
  disconnected: 'the other encoder left',
  restarted: 'the other encoder began anew',
  returned: 'the primary is well again',
};

/** When and why the input became the one that is used; "" if it has been from the beginning. */
function switchText({ switched }) {
  const at = moment(switched?.at);
  return Number.isNaN(at) ? '' : `used since ${clockTime(at)}: ${reasons[switched.reason] ?? switched.reason}`;
}

/** The ladder in one sentence: how many there are, and how many of them are not in. */
export function ladderText(rows) {
  const count = (word) => rows.filter(({ state }) => state === word).length;
  const away = [['Out', 'out'], ['Aligning', 'aligning'], ['Waiting', 'waiting'], ['Standing by', 'standing by']].filter(([word]) => count(word) > 0).map(([word, text]) => `${count(word)} ${text}`);
  const what = rows.some(({ name }) => name.endsWith('backup')) ? 'input' : 'rendition';
  return `${[`${rows.length} ${what}${rows.length === 1 ? '' : 's'}`, ...away].join(', ')}. Skew and lag are against the leading one.`;
}

/** Shows the ladder on the page. Rows are updated in place, so that a selection survives. */
export function showLadder(stream) {
  const rows = ladderOf(stream);
  document.getElementById('ladder').hidden = rows.length === 0;
  if (rows.length === 0) return;
  put(document.getElementById('ladder-summary'), ladderText(rows));
  const head = document.getElementById('ladder-columns');
  if (!head.firstChild) head.append(...columns.map(([, title]) => cell('th', 'columnheader', title)));

  const table = document.getElementById('ladder-table');
  while (table.tBodies.length > rows.length) table.tBodies[rows.length].remove();
  while (table.tBodies.length < rows.length) table.append(newBody());
  rows.forEach((row, i) => update(table.tBodies[i], row));
}

// An input is a table body of its own: its figures, and beneath them the reason. The roles keep it a table for
// assistive technology where the style sheet stacks it.
function newBody() {
  const body = document.createElement('tbody');
  body.setAttribute('role', 'rowgroup');
  const figures = body.insertRow();
  figures.className = 'input';
  figures.append(...columns.map(([key, title]) => {
    const element = key === 'name' ? cell('th', 'rowheader') : cell('td', 'cell');
    element.className = key;
    element.dataset.label = title;
    return element;
  }));
  const pill = document.createElement('span');
  pill.className = 'pill';
  const by = document.createElement('span');
  by.className = 'by';
  figures.lastChild.append(pill, by);

  const reason = body.insertRow();
  reason.className = 'reason';
  const text = cell('td', 'cell');
  text.colSpan = columns.length;
  reason.append(text);
  for (const row of [figures, reason]) row.setAttribute('role', 'row');
  return body;
}

function update(body, row) {
  const [figures, reason] = body.rows;
  columns.forEach(([key], i) => { if (key !== 'state') put(figures.cells[i], row[key]); });
  const [pill, by] = figures.lastChild.children;
  pill.dataset.state = row.kind;
  put(pill, row.state);
  by.toggleAttribute('data-assumed', row.assumed);
  if (by.textContent !== [row.assumed ? 'assumed' : '', row.by].filter(Boolean).join(' ')) {
    const strong = document.createElement('strong');
    strong.textContent = 'assumed';
    by.replaceChildren(...(row.assumed ? [strong, row.by && ` ${row.by}`].filter(Boolean) : [row.by]));
  }
  reason.hidden = row.reason === '';
  put(reason.firstChild, row.reason && `${row.reason[0].toUpperCase()}${row.reason.slice(1)}.`);
}

function cell(tag, role, text = '') {
  const element = document.createElement(tag);
  element.setAttribute('role', role);
  if (tag === 'th') element.scope = role === 'columnheader' ? 'col' : 'row';
  element.textContent = text;
  return element;
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
