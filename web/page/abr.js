// How hls.js chooses a rendition when it loads parts.

/** Of what a part lasts, how much its transfer may take before the network counts as slower than the rendition. */
const tooSlow = 0.8;

/**
 * hls.js, 1.7, looks at what the network carries when it has loaded all parts that there are of a segment, and what it remembers of
 * better times outweighs them: with the few seconds that low latency leaves it that is too late. This one looks at each part, and
 * believes at once one that took as long to come as it takes to play.
 * @param {Function} Hls
 * @returns {Function} the class for hls.js's abrController
 */
export function abrOfParts(Hls) {
  return class extends Hls.DefaultConfig.abrController {
    onFragLoaded(event, data) {
      super.onFragLoaded(event, data);
      const { frag, part } = data;
      if (!part || frag.type !== 'main') return;
      const { loading, loaded } = part.stats;
      const took = loading.end - loading.first; // without what it was held for until it was there
      const rate = slowRate(took, loaded, part.duration);
      if (rate > 0) this.resetEstimator(rate);
      else this.bwEstimator.sample(took, loaded);
    }
  };
}

/**
 * The rate in bits a second of a part of so many bytes that took so many milliseconds, if the network cannot carry parts like it in
 * the seconds that they last; 0 if it can.
 */
export function slowRate(took, bytes, duration) {
  return took > 1000 * duration * tooSlow && bytes > 0 ? Math.round((8000 * bytes) / took) : 0;
}
