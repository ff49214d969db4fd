// Figures and names as people read them. Pure functions; no document.

export const none = '–';

const nbsp = '\u00a0'; // a figure and its unit stay on one line

/** Seconds with two decimals below ten, one above: "1.42", "12.4". */
export function seconds(s) {
  if (!Number.isFinite(s)) return none;
  return Math.abs(s) < 9.995 ? s.toFixed(2) : s.toFixed(1);
}

/** Bits a second: "850 kb/s", "4.2 Mb/s". */
export function bitRate(bps) {
  if (!Number.isFinite(bps) || bps <= 0) return none;
  if (bps < 999_500) return `${Math.round(bps / 1e3)}${nbsp}kb/s`;
  return `${(bps / 1e6).toFixed(bps < 99.95e6 ? 1 : 0)}${nbsp}Mb/s`;
}

/** How long something has lasted: "42 s", "12 min", "3 h 04 min", "2 d 5 h". */
export function span(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (!Number.isFinite(s)) return none;
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, '0')} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

/** How far behind live, briefly: "−12 s", "−1:02", "−2:01:02", "Live". */
export function behindText(s) {
  if (!Number.isFinite(s)) return '';
  const whole = Math.max(0, Math.round(s));
  if (whole === 0) return 'Live';
  if (whole < 60) return `\u2212${whole}${nbsp}s`;
  const two = (n) => String(n).padStart(2, '0');
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
  return `\u2212${hours > 0 ? `${hours}:${two(minutes)}` : minutes}:${two(whole % 60)}`;
}

/** The same to be read out: "1 minute 2 seconds behind live". */
export function spokenBehind(s) {
  const whole = Math.max(0, Math.round(s));
  const parts = [[Math.floor(whole / 3600), 'hour'], [Math.floor((whole % 3600) / 60), 'minute'], [whole % 60, 'second']].filter(([n]) => n > 0);
  return parts.length === 0 ? 'Live' : `${parts.map(([n, unit]) => `${n} ${unit}${n === 1 ? '' : 's'}`).join(' ')} behind live`;
}

/** The time of day of a moment, as the viewer's language and place have it: "14:03:22", "2:03:22 PM"; empty for none. */
export function clockTime(ms) {
  return Number.isFinite(ms) ? new Date(ms).toLocaleTimeString(undefined, { hour: 'numeric', minute: '2-digit', second: '2-digit' }) : '';
}

/** A time from the API, as RFC 3339 text or Unix seconds, in milliseconds; NaN when there is none. */
export function moment(t) {
  if (typeof t === 'number' && t > 0) return t < 1e12 ? t * 1000 : t;
  const ms = typeof t === 'string' ? Date.parse(t) : NaN;
  return ms > 0 ? ms : NaN; // Go's zero time lies before 1970
}

/** A number without needless zeros: 29.97, 30, 8.33. */
export function plain(n, digits = 2) {
  return Number.isFinite(n) ? String(Number(n.toFixed(digits))) : none;
}

/** What the server does about keyframes further apart than a segment may last, after "Long GOPs". */
export function longText(policy) {
  return { stretch: 'stretch segments, to 10 s', cut: 'are cut between keyframes', refuse: 'are refused' }[policy] ?? none;
}

/** "1080p" by the shorter side, so that upright pictures get the name of their class too. */
export function sizeName(width, height) {
  return width > 0 && height > 0 ? `${Math.min(width, height)}p` : '';
}

/** Milliseconds, from seconds, with a sign if asked for: "340 ms", "+12 ms", "0 ms"; seconds from ten on. */
export function milliseconds(s, signed = false) {
  if (!Number.isFinite(s)) return none;
  const ms = Math.round(s * 1000);
  const sign = ms < 0 ? '\u2212' : signed && ms > 0 ? '+' : '';
  return Math.abs(ms) < 10_000 ? `${sign}${Math.abs(ms)}${nbsp}ms` : `${sign}${seconds(Math.abs(s))}${nbsp}s`;
}

/**
 * What tells the levels of a player's choice apart, as briefly as it can: "720p"; with the bit rate where several are of
 * that size; with the name, the codec or a number where even that is the same.
 */
export function levelNames(levels) {
  const bases = levels.map((level) => sizeName(level.width, level.height) || (level.height > 0 ? `${level.height}p` : level.name || (level.videoCodec ? 'Video' : 'Audio')));
  const further = [
    (level) => bitRate(level.bitrate),
    (level) => level.name || codecName(level.videoCodec || level.audioCodec),
    (_, i) => `no.${nbsp}${i + 1}`,
  ];
  return further.reduce((names, more) => {
    const alone = (name) => names.indexOf(name) === names.lastIndexOf(name);
    return names.map((name, i) => {
      const word = alone(name) ? '' : more(levels[i], i);
      return word && word !== none && word !== name ? `${name} · ${word}` : name;
    });
  }, bases);
}

const families = [
  [/^avc[13]/, 'H.264'], [/^(hvc1|hev1|dvh1|dvhe)/, 'HEVC'], [/^av01/, 'AV1'], [/^vp09/, 'VP9'],
  [/^mp4a\.40\.29/, 'HE-AAC v2'], [/^mp4a\.40\.5/, 'HE-AAC'], [/^mp4a/, 'AAC'],
  [/^opus/i, 'Opus'], [/^ac-3/, 'AC-3'], [/^ec-3/, 'E-AC-3'], [/^fLaC/i, 'FLAC'],
];

/** The family of a codec by its RFC 6381 name; that name itself when it is not a known one. */
export function codecName(codec) {
  for (const [pattern, name] of families) if (pattern.test(codec ?? '')) return name;
  return codec || '';
}

function channelsName(n) {
  return { 1: 'mono', 2: 'stereo', 6: '5.1', 8: '7.1' }[n] ?? (n > 0 ? `${n} channels` : '');
}

const joined = (words) => words.filter(Boolean).join(' ');

/** "1920×1080, 30 fps, H.264" */
export function videoText(track) {
  if (!track) return 'none';
  return [
    track.width > 0 ? `${track.width}×${track.height}` : '',
    track.frameRate > 0 ? `${plain(track.frameRate)}${nbsp}fps` : '',
    codecName(track.codec),
  ].filter(Boolean).join(', ') || none;
}

/** "AAC, 48 kHz stereo" */
export function audioText(track) {
  if (!track) return 'none';
  const shape = joined([track.sampleRate > 0 ? `${plain(track.sampleRate / 1000, 3)}${nbsp}kHz` : '', channelsName(track.channels)]);
  return [codecName(track.codec), shape].filter(Boolean).join(', ') || none;
}

/** The app and the name of "<app>/<name>". */
export function splitName(name) {
  const at = name.indexOf('/');
  return at < 0 ? ['', name] : [name.slice(0, at), name.slice(at + 1)];
}
