// Reads playlists, one JSON object a line: {"text": ...}. Answers each with a line {"errors": [...], "facts": {...}}: what
// hls.js and m3u8-parser object to, and what they understood, for the tests to compare.
import readline from 'node:readline';
import { M3U8Parser } from 'hls.js';
import { Parser } from 'm3u8-parser';

const base = 'http://origin.test/live/demo/run/video/index.m3u8';

function hls(text, errors, facts) {
  if (!M3U8Parser.isMediaPlaylist(text)) {
    const p = M3U8Parser.parseMasterPlaylist(text, base);
    if (p.playlistParsingError) errors.push('hls.js: ' + p.playlistParsingError.message);
    const media = M3U8Parser.parseMasterPlaylistMedia(text, base, p);
    facts.hls = {
      levels: p.levels.map((l) => ({ url: l.url, bitrate: l.bitrate, width: l.width || 0, height: l.height || 0, video: l.videoCodec || '', audio: l.audioCodec || '', pathway: l.attrs['PATHWAY-ID'] || '' })),
      steering: p.contentSteering ? { uri: p.contentSteering.uri, pathway: p.contentSteering.pathwayId } : null,
      audio: (media.AUDIO || []).map((a) => ({ url: a.url, name: a.name, lang: a.lang || '', default: a.default, channels: a.channels || '' })),
      iframes: p.iframeVariants.map((l) => ({ url: l.url })),
    };
    return;
  }
  const d = M3U8Parser.parseLevelPlaylist(text, base, 0, 'main', 0, null);
  if (d.playlistParsingError) errors.push('hls.js: ' + d.playlistParsingError.message);
  for (const f of d.fragments) {
    if (f && !f.initSegment && text.includes('#EXT-X-MAP:')) errors.push(`hls.js: fragment ${f.sn} has no init segment`);
    if (f && !Number.isFinite(f.programDateTime)) errors.push(`hls.js: fragment ${f.sn} has no date`);
  }
  facts.hls = {
    startSN: d.startSN, startCC: d.startCC, skipped: d.skippedSegments, live: d.live, target: d.targetduration,
    partTarget: d.partTarget || 0, block: d.canBlockReload, skipUntil: d.canSkipUntil, partHoldBack: d.partHoldBack || 0,
    hint: d.preloadHint ? d.preloadHint.URI : '', reports: d.renditionReports ? d.renditionReports.length : 0,
    fragments: d.fragments.filter((f) => f).map((f) => ({ sn: f.sn, cc: f.cc, uri: f.relurl, duration: f.duration, gap: !!f.gap, map: f.initSegment ? f.initSegment.relurl : '', pdt: f.programDateTime || 0, range: f.byteRange.length ? `${f.byteRange[1] - f.byteRange[0]}@${f.byteRange[0]}` : '' })),
    parts: (d.partList || []).map((p) => ({ uri: p.relurl, duration: p.duration, independent: p.independent, sn: p.fragment.sn, index: p.index })),
  };
}

function videojs(text, errors, facts) {
  const p = new Parser();
  p.on('warn', (w) => errors.push('m3u8-parser: ' + w.message));
  p.on('error', (w) => errors.push('m3u8-parser: ' + w.message));
  p.push(text);
  p.end();
  const m = p.manifest;
  facts.videojs = {
    segments: (m.segments || []).map((s) => ({ uri: s.uri, duration: s.duration, map: s.map ? s.map.uri : '', range: s.byterange ? `${s.byterange.length}@${s.byterange.offset}` : '' })),
    iframesOnly: !!m.iFramesOnly, iframes: (m.iFramePlaylists || []).map((s) => s.uri),
    playlists: (m.playlists || []).map((s) => s.uri),
    pathways: (m.playlists || []).map((s) => s.attributes['PATHWAY-ID'] || ''),
    steering: m.contentSteering ? { uri: m.contentSteering.serverUri, pathway: m.contentSteering.pathwayId } : null,
    ended: !!m.endList,
  };
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { text } = JSON.parse(line);
  const errors = [];
  const facts = {};
  for (const parse of [hls, videojs]) {
    try {
      parse(text, errors, facts);
    } catch (e) {
      errors.push(`${parse.name}: threw ${e && e.message}`);
    }
  }
  process.stdout.write(JSON.stringify({ errors, facts }) + '\n');
}
