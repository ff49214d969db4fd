// Where hls.js comes from: built in, or from the public CDN with its integrity hash. The page says which.

const patience = 10_000; // milliseconds until the browser's own HLS is tried instead

/** @returns {Promise<Function|null>} the Hls class; null when it can't be had or can't work in this browser */
export function loadHls() {
  const { hlsSrc, hlsIntegrity } = document.documentElement.dataset;
  return new Promise((resolve) => {
    const script = document.createElement('script');
    const done = () => resolve(globalThis.Hls?.isSupported() ? globalThis.Hls : null);
    script.src = hlsSrc;
    if (hlsIntegrity) {
      script.integrity = hlsIntegrity;
      script.crossOrigin = 'anonymous';
    }
    script.addEventListener('load', done);
    script.addEventListener('error', done);
    setTimeout(done, patience);
    document.head.append(script);
  });
}

/** ?latency=ordinary plays some six seconds behind, with a buffer that outlasts a change of the network. */
const ordinary = new URLSearchParams(globalThis.location?.search).get('latency') === 'ordinary';

/** What has been played is left to the browser to drop: flushing it made hls.js repeat a part now and then. */
export const hlsConfig = {
  lowLatencyMode: !ordinary,
  liveDurationInfinity: true,
  maxLiveSyncPlaybackRate: 1.1, // drift is caught up with unheard; larger distances are jumped, see Playback
  liveSyncOnStallIncrease: 0.5,
};
