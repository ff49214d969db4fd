package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"
)

// The synthetic clip is a real one: Constrained Baseline H.264 that any decoder plays, made without an encoder. A key
// frame is a flat picture with a band of raw macroblocks (I_PCM) of noise; the other frames skip every macroblock but a
// few raw ones. The number of raw macroblocks sets the size of the frame, so a clip of any bit rate costs nothing to make,
// is the same for the same settings, and makes no zero bytes that would need escaping. Audio is AAC-LC silence, padded
// with fill elements to its bit rate.

const (
	pcmBytes = 384 // samples of an 8-bit 4:2:0 macroblock: 256 luma, 128 chroma
	pcmCost  = 386 // with its header bits and alignment

	synthSampleRate = 48000
	aacFrame        = 1024 // samples

	// maxSynthFrames bounds the memory of a clip whose picture and audio rates share no short period.
	maxSynthFrames = 3600

	// idrWeight is the size of a key frame in units of the others, as live encoders at two seconds' distance spend it.
	idrWeight = 8
)

// A synthConfig says what to synthesize. Bit rates are in bits a second; an AudioBitrate of 0 is no audio.
type synthConfig struct {
	Width, Height              int
	FPS                        rate
	GOP                        time.Duration
	VideoBitrate, AudioBitrate int
	Seed                       uint64
}

// synthesize makes a clip that loops without a seam: whole GOPs and, where the rates allow, whole audio frames.
func synthesize(c synthConfig) (*clip, error) {
	switch {
	case c.FPS.num <= 0 || c.FPS.den <= 0 || c.FPS.float() > 240:
		return nil, fmt.Errorf("frame rate %v is not between 0 and 240", c.FPS)
	case c.Width < 16 || c.Height < 16 || c.Width > 8192 || c.Height > 8192 || c.Width%2+c.Height%2 != 0:
		return nil, fmt.Errorf("picture size %dx%d: both must be even and from 16 to 8192", c.Width, c.Height)
	case c.AudioBitrate != 0 && (c.AudioBitrate < 8000 || c.AudioBitrate > 576000):
		return nil, fmt.Errorf("audio bit rate %d is not between 8k and 576k (0 is no audio)", c.AudioBitrate)
	}
	gop := int(c.GOP.Seconds()*c.FPS.float() + 0.5)
	if gop < 1 || gop > maxSynthFrames {
		return nil, fmt.Errorf("a GOP of %v is %d frames at %v frames a second, not between 1 and %d", c.GOP, gop, c.FPS, maxSynthFrames)
	}
	mbs := (c.Width + 15) / 16 * ((c.Height + 15) / 16)
	if most := float64(mbs*pcmCost) * 8 * c.FPS.float(); float64(c.VideoBitrate) > most/2 {
		return nil, fmt.Errorf("%d b/s does not fit into %dx%d at %v frames a second (at most %.0f)", c.VideoBitrate, c.Width, c.Height, c.FPS, most/2)
	}

	// As many GOPs as make a whole number of audio frames, and as whole milliseconds, so that the loop has no seam.
	gops := 1
	whole := func(n int) bool {
		num, den := n*gop*c.FPS.den, c.FPS.num // seconds
		return num*1000%den == 0 && (c.AudioBitrate == 0 || num*synthSampleRate%(den*aacFrame) == 0)
	}
	for n := 1; n*gop <= maxSynthFrames; n++ {
		if whole(n) {
			gops = n
			break
		}
	}
	frames := gops * gop
	cl := &clip{
		period:      c.FPS.at(frames),
		videoHeader: append([]byte{0x17, 0, 0, 0, 0}, c.avcC()...),
		meta: map[string]float64{
			"width": float64(c.Width), "height": float64(c.Height), "framerate": c.FPS.float(),
			"videocodecid": 7, "videodatarate": float64(c.VideoBitrate) / 1000,
		},
	}
	c.video(cl, gop, gops, mbs)
	if c.AudioBitrate != 0 {
		cl.meta["audiocodecid"], cl.meta["audiodatarate"] = 10, float64(c.AudioBitrate)/1000
		cl.meta["audiosamplerate"], cl.meta["audiochannels"] = synthSampleRate, 2
		cl.audioHeader = []byte{0xAF, 0, 0x11, 0x90} // AAC-LC, 48 kHz, two channels (ISO/IEC 14496-3, 1.6.2.1)
		c.audio(cl)
	}
	cl.sort()
	return cl, nil
}

func (c synthConfig) video(cl *clip, gop, gops, mbs int) {
	rng := rand.New(rand.NewPCG(c.Seed, 1))
	perGOP := float64(c.VideoBitrate) / 8 * c.FPS.at(gop).Seconds()
	unit, key := perGOP/float64(gop-1+idrWeight), idrWeight
	if most := float64(mbs) * pcmCost; unit*idrWeight > most {
		unit, key = perGOP/float64(gop), 1
	}
	noise := make([]byte, pcmBytes)
	for g := range gops {
		for i := range gop {
			// What is due until here, give or take a little, less what has been sent: rounding does not add up.
			want := perGOP*float64(g) + unit*float64(key+i) - float64(cl.videoBytes)
			if i != gop-1 {
				want += unit * 0.3 * (2*rng.Float64() - 1)
			}
			body := []byte{0x27, 1, 0, 0, 0, 0, 0, 0, 0}
			want -= float64(len(body) + 8)
			if i == 0 {
				body[0] = 0x17
				want -= float64(mbs) // a flat macroblock is a byte
			}
			raw := min(max(int(want/pcmCost+0.5), 0), mbs)
			if i == 0 {
				body = appendNAL(body, 0x65, idrSlice(g, c.Width, raw, mbs, noise, rng))
			} else {
				body = appendNAL(body, 0x41, predictedSlice(i, raw, mbs, noise, rng))
			}
			binary.BigEndian.PutUint32(body[5:], uint32(len(body)-9))
			cl.add(message{at: c.FPS.at(g*gop + i), kind: kindVideo, key: i == 0, body: body})
		}
	}
}

// avcC returns the AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1).
func (c synthConfig) avcC() []byte {
	sps, pps := c.sps(), appendNAL(nil, 0x68, pps())
	b := []byte{1, sps[1], sps[2], sps[3], 0xFF, 0xE1}
	b = binary.BigEndian.AppendUint16(b, uint16(len(sps)))
	b = append(b, sps...)
	b = append(b, 1)
	b = binary.BigEndian.AppendUint16(b, uint16(len(pps)))
	return append(b, pps...)
}

// level returns the lowest level_idc that allows the picture and macroblock rates (ISO/IEC 14496-10, table A-1).
func (c synthConfig) level() uint32 {
	mbs := (c.Width + 15) / 16 * ((c.Height + 15) / 16)
	perSecond := float64(mbs) * c.FPS.float()
	for _, l := range []struct {
		idc             uint32
		mbs, perSeconds int
	}{{30, 1620, 40500}, {31, 3600, 108000}, {32, 5120, 216000}, {40, 8192, 245760}, {42, 8704, 522240}, {51, 36864, 983040}} {
		if mbs <= l.mbs && perSecond <= float64(l.perSeconds) {
			return l.idc
		}
	}
	return 52
}

func (c synthConfig) sps() []byte {
	var w bitWriter
	w.u(66, 8)   // profile_idc: Baseline
	w.u(0xC0, 8) // constrained, and Main can play it
	w.u(c.level(), 8)
	w.ue(0)                                    // seq_parameter_set_id
	w.ue(4)                                    // frame_num has 8 bits
	w.ue(2)                                    // pic_order_cnt_type: output order is decode order
	w.ue(1)                                    // max_num_ref_frames
	w.u(0, 1)                                  // gaps_in_frame_num_value_allowed_flag
	w.ue(uint32((c.Width+15)/16 - 1))          // pic_width_in_mbs_minus1
	w.ue(uint32((c.Height+15)/16 - 1))         // pic_height_in_map_units_minus1
	w.u(3, 2)                                  // frame_mbs_only_flag, direct_8x8_inference_flag
	right, bottom := -c.Width&15, -c.Height&15 // samples outside the picture
	if right|bottom == 0 {
		w.u(0, 1)
	} else {
		w.u(1, 1)
		w.ue(0)
		w.ue(uint32(right / 2))
		w.ue(0)
		w.ue(uint32(bottom / 2))
	}
	w.u(1, 1)                                        // vui_parameters_present_flag
	w.u(0, 4)                                        // aspect ratio, overscan, video signal type, chroma location: absent
	w.u(1, 1)                                        // timing_info_present_flag
	w.u(uint32(c.FPS.den), 32)                       // num_units_in_tick
	w.u(uint32(2*c.FPS.num), 32)                     // time_scale
	w.u(1, 1)                                        // fixed_frame_rate_flag
	w.u(0, 3)                                        // no HRDs, no pic_struct
	w.u(1, 1)                                        // bitstream_restriction_flag
	w.u(1, 1)                                        // motion_vectors_over_pic_boundaries_flag
	for _, v := range []uint32{0, 0, 10, 10, 0, 1} { // the last two: no reordering, one frame kept
		w.ue(v)
	}
	w.trailing()
	return appendNAL(nil, 0x67, w.buf)
}

func pps() []byte {
	var w bitWriter
	w.ue(0)
	w.ue(0)
	w.u(0, 2) // CAVLC, no bottom field order
	w.ue(0)   // one slice group
	w.ue(0)
	w.ue(0)
	w.u(0, 3) // no weighted prediction
	w.ue(0)   // se(0): pic_init_qp, pic_init_qs, chroma_qp_index_offset
	w.ue(0)
	w.ue(0)
	w.u(4, 3) // deblocking_filter_control_present_flag alone
	w.trailing()
	return w.buf
}

// sliceHeader writes the header of a slice that is a whole picture (ISO/IEC 14496-10, 7.3.3).
func sliceHeader(w *bitWriter, sliceType uint32, frameNum, idrID int) {
	w.ue(0)
	w.ue(sliceType)
	w.ue(0)
	w.u(uint32(frameNum)&0xFF, 8)
	if sliceType == 7 {
		w.ue(uint32(idrID))
		w.u(0, 2) // dec_ref_pic_marking
	} else {
		w.u(0, 3) // num_ref_idx_active_override, ref_pic_list_modification, adaptive_ref_pic_marking_mode
	}
	w.ue(0) // se(0): slice_qp_delta
	w.ue(1) // disable_deblocking_filter_idc
}

func rawMacroblock(w *bitWriter, mbType uint32, noise []byte, rng *rand.Rand) {
	w.ue(mbType)
	w.align()
	for i := 0; i < len(noise); i += 8 {
		// No byte is 0: set the lowest bit of each. It stays noise.
		binary.LittleEndian.PutUint64(noise[i:], rng.Uint64()|0x0101010101010101)
	}
	w.bytes(noise)
}

// idrSlice is raw I_PCM macroblocks first, the rest flat: Intra_16x16 with DC prediction and no residual.
func idrSlice(g, width, raw, mbs int, noise []byte, rng *rand.Rand) []byte {
	var w bitWriter
	sliceHeader(&w, 7, 0, g&1)
	row := (width + 15) / 16
	for i := range mbs {
		if i < raw {
			rawMacroblock(&w, 25, noise, rng)
			continue
		}
		w.ue(3) // I_16x16_2_0_0
		w.ue(0) // intra_chroma_pred_mode DC
		w.ue(0) // se(0): mb_qp_delta
		left := i%row != 0 && i-1 < raw
		above := i >= row && i-row < raw
		if left || above {
			w.u(3, 6) // coeff_token of no coefficient beside I_PCM, which counts 16 (nC >= 8; ISO/IEC 14496-10, 9.2.1)
		} else {
			w.u(1, 1)
		}
	}
	w.trailing()
	return w.buf
}

// predictedSlice skips every macroblock but a run of raw ones somewhere.
func predictedSlice(frameNum, raw, mbs int, noise []byte, rng *rand.Rand) []byte {
	var w bitWriter
	sliceHeader(&w, 5, frameNum, 0)
	skip := rng.IntN(mbs - raw + 1)
	left := mbs - skip - raw
	for i := range raw {
		if i > 0 {
			skip = 0
		}
		w.ue(uint32(skip))
		rawMacroblock(&w, 30, noise, rng) // I_PCM in a P slice
	}
	if raw == 0 {
		left = mbs
	}
	if left > 0 {
		w.ue(uint32(left))
	}
	w.trailing()
	return w.buf
}

func (c synthConfig) audio(cl *clip) {
	perFrame := float64(c.AudioBitrate) / 8 * aacFrame / synthSampleRate
	sent := 0
	for i := 0; ; i++ {
		at := time.Duration(int64(i) * aacFrame * int64(time.Second) / synthSampleRate)
		if at >= cl.period {
			return
		}
		n := int(perFrame*float64(i+1)) - sent
		sent += n
		cl.add(message{at: at, kind: kindAudio, body: append([]byte{0xAF, 1}, silence(n)...)})
	}
}

// silence is a raw_data_block of two silent channels that is n bytes long (ISO/IEC 14496-3, 4.4.2), at least 8.
func silence(n int) []byte {
	var w bitWriter
	w.u(1, 3)  // ID_CPE
	w.u(0, 4)  // element_instance_tag
	w.u(1, 1)  // common_window
	w.u(0, 11) // ics_info: long window, max_sfb 0, no prediction
	w.u(0, 2)  // ms_mask_present
	for range 2 {
		w.u(100, 8) // global_gain
		w.u(0, 3)   // no pulse, TNS or gain control data
	}
	for {
		used := len(w.buf)*8 - int(w.free)
		room := n*8 - used - 3 // bits before ID_END
		if room < 7 {
			break
		}
		count := min((room-7)/8, 14)
		if room >= 15+8*15 {
			count = min((room-15)/8, 269)
		}
		w.u(6, 3) // ID_FIL
		if count < 15 {
			w.u(uint32(count), 4)
		} else {
			w.u(15, 4)
			w.u(uint32(count-14), 8)
		}
		for i := range count {
			if i == 0 {
				w.u(0x05, 8) // EXT_FILL
			} else {
				w.u(0xA5, 8)
			}
		}
	}
	w.u(7, 3) // ID_END
	return w.buf
}
