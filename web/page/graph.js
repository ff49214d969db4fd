// A rolling graph of latency and buffer on a canvas.

const kept = 120; // samples: a minute at two a second

export class Graph {
  #canvas;
  #samples = [];

  constructor(canvas) {
    this.#canvas = canvas;
    matchMedia('(prefers-color-scheme: dark)').addEventListener?.('change', () => this.draw());
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  /** Adds one sample; NaN where nothing was measured. */
  add({ latency, buffer, target }) {
    this.#samples.push({ latency, buffer, target });
    if (this.#samples.length > kept) this.#samples.shift();
    this.draw();
  }

  draw() {
    const canvas = this.#canvas;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (width === 0) return;
    const ratio = devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const style = getComputedStyle(canvas);
    const color = (name) => style.getPropertyValue(name).trim();
    const c = canvas.getContext('2d');
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, width, height);

    const left = 26;
    const top = 6;
    const bottom = height - 6;
    const highest = Math.max(1, ...this.#samples.flatMap((s) => [s.latency, s.buffer].filter(Number.isFinite)));
    const step = niceStep(highest * 1.1 / 3);
    const most = Math.ceil(highest * 1.1 / step) * step;
    const y = (value) => bottom - (bottom - top) * Math.min(value / most, 1);
    const x = (i) => width - 2 - (this.#samples.length - 1 - i) * (width - left - 2) / (kept - 1);

    c.font = `11px ${style.fontFamily}`;
    c.textBaseline = 'middle';
    c.textAlign = 'right';
    c.lineWidth = 1;
    for (let value = 0; value <= most + step / 2; value += step) {
      c.strokeStyle = color('--line');
      line(c, [[left, y(value)], [width, y(value)]]);
      c.fillStyle = color('--muted');
      c.fillText(String(Number(value.toFixed(1))), left - 7, Math.min(Math.max(y(value), 6), height - 6));
    }
    const series = (key, stroke, thick, dash = []) => {
      c.strokeStyle = color(stroke);
      c.lineWidth = thick;
      c.setLineDash(dash);
      let points = [];
      this.#samples.forEach((sample, i) => {
        if (Number.isFinite(sample[key])) points.push([x(i), y(sample[key])]);
        else { line(c, points); points = []; }
      });
      line(c, points);
      c.setLineDash([]);
    };
    c.lineJoin = 'round';
    series('target', '--muted', 1.5, [3, 4]);
    series('buffer', '--buffer', 2);
    series('latency', '--accent', 2.5);
  }
}

function line(c, points) {
  if (points.length < 2) return;
  c.beginPath();
  for (const [px, py] of points) c.lineTo(px, py);
  c.stroke();
}

/** 1, 2 or 5 times a power of ten, at least raw. */
function niceStep(raw) {
  const power = 10 ** Math.floor(Math.log10(raw));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= raw * 0.999);
}
