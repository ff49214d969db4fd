// The arithmetic of the scrubber. Times are seconds of media time; a window is { start, end }.

const step = 5; // seconds
const page = 0.1; // of the window

export function clamp(value, least, most) {
  return Math.min(Math.max(value, least), most);
}

/** Where time is in the window, from 0 to 1. */
export function fractionOf({ start, end }, time) {
  return end > start ? clamp((time - start) / (end - start), 0, 1) : 1;
}

/** The time at a place between left and left + width, in pixels. */
export function timeAt({ start, end }, x, left, width) {
  return width > 0 ? start + clamp((x - left) / width, 0, 1) * (end - start) : end;
}

/** Where a key leads to from time; null for keys that lead nowhere. */
export function timeAfter(key, { start, end }, time) {
  const leap = Math.max(step, page * (end - start));
  const to = {
    __proto__: null, ArrowLeft: time - step, ArrowDown: time - step, ArrowRight: time + step, ArrowUp: time + step,
    PageDown: time - leap, PageUp: time + leap, Home: start, End: end,
  }[key];
  return to === undefined ? null : clamp(to, start, end);
}

/** A CSS background that shows ranges ([from, to]) of the window in a colour, each at least so many pixels wide. */
export function bands(window, ranges, color, least = 0) {
  return ranges.filter(([from, to]) => to >= window.start && from <= window.end).map(([from, to]) => {
    const left = percent(fractionOf(window, from));
    const right = percent(fractionOf(window, to));
    const stop = least > 0 ? `max(${right}, ${left} + ${least}px)` : right;
    return `linear-gradient(90deg, transparent ${left}, ${color} ${left} ${stop}, transparent 0)`;
  }).join(', ') || 'none';
}

/** The left edge of something so wide that its middle is at x as long as it stays between 0 and room. */
export function within(x, width, room) {
  return clamp(x - width / 2, 0, Math.max(0, room - width));
}

export function percent(fraction) {
  return `${Number((fraction * 100).toFixed(3))}%`;
}
