// One picture from one key frame, by the browser's own decoder (WebCodecs). Unlike Media Source Extensions that takes no
// hidden video element and no fragment made up for it, and it gives the picture out without a second one behind it.

export class FrameDecoder {
  #decoder = null;
  #config = null;
  #frame = null; // the one that came last

  /** Browsers have it on secure pages only, over HTTPS or of this machine. */
  static get available() {
    return typeof globalThis.VideoDecoder === 'function' && typeof globalThis.EncodedVideoChunk === 'function';
  }

  /** @returns {Promise<boolean>} */
  static async supports(codec) {
    try {
      return (await VideoDecoder.isConfigSupported({ codec })).supported === true;
    } catch {
      return false; // not a codec at all
    }
  }

  /**
   * Decodes a key frame. One at a time; config is a VideoDecoderConfig, the same object as long as it is the same.
   * @returns {Promise<VideoFrame>} for the caller to close
   */
  async decode(config, data) {
    if (this.#decoder?.state !== 'configured' || this.#config !== config) {
      this.close();
      this.#decoder = new VideoDecoder({ output: (frame) => this.#keep(frame), error: () => {} }); // flush rejects
      this.#decoder.configure(config);
      this.#config = config;
    }
    this.#decoder.decode(new EncodedVideoChunk({ type: 'key', timestamp: 0, data }));
    await this.#decoder.flush();
    const frame = this.#frame;
    this.#frame = null;
    if (!frame) throw new Error('the decoder gave no picture');
    return frame;
  }

  /** Frees the decoder; a decode under way fails. The next begins another. */
  close() {
    if (this.#decoder && this.#decoder.state !== 'closed') this.#decoder.close();
    this.#decoder = null;
    this.#keep(null);
  }

  #keep(frame) {
    this.#frame?.close();
    this.#frame = frame;
  }
}
