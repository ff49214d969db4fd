// What playback measures, as numbers.

import { clock } from './api.js';

/**
 * @returns latency (seconds behind the live edge), target, wall (seconds since the encoder's picture was received, by
 * PROGRAM-DATE-TIME), buffer (seconds ahead), level, rendition, bandwidth (bits a second), dropped and total frames, rate;
 * NaN or null where unknown.
 */
export function measure(playback, video) {
  const { hls } = playback;
  const quality = video.getVideoPlaybackQuality?.();
  const rendition = renditionOf(hls, video);
  return {
    latency: latencyOf(playback, video),
    target: hls?.targetLatency ?? NaN,
    wall: wallLatency(playback, video),
    buffer: bufferAhead(video),
    level: hls?.currentLevel ?? -1,
    rendition,
    bandwidth: hls?.bandwidthEstimate ?? NaN,
    dropped: quality?.droppedVideoFrames ?? NaN,
    total: quality?.totalVideoFrames ?? NaN,
    currentTime: video.currentTime,
    rate: video.playbackRate,
  };
}

function latencyOf(playback, video) {
  if (playback.hls) return playback.hls.latency > 0 ? playback.hls.latency : NaN;
  const at = playback.liveAt;
  return at === null ? NaN : Math.max(0, at - video.currentTime);
}

function wallLatency({ hls, native }, video) {
  let date = hls?.playingDate?.getTime() ?? NaN;
  if (native && video.getStartDate) date = video.getStartDate().getTime() + video.currentTime * 1000;
  return (clock.now() - date) / 1000;
}

function bufferAhead({ buffered, currentTime }) {
  for (let i = 0; i < buffered.length; i++) {
    if (buffered.start(i) <= currentTime + 0.1 && buffered.end(i) >= currentTime) return buffered.end(i) - currentTime;
  }
  return 0;
}

function renditionOf(hls, video) {
  const level = hls?.levels?.[hls.currentLevel];
  if (!level && !(video.videoWidth > 0)) return null;
  return {
    width: level?.width || video.videoWidth,
    height: level?.height || video.videoHeight,
    frameRate: level?.frameRate || NaN,
    bitrate: level?.bitrate || NaN,
    name: level?.name ?? '',
  };
}
