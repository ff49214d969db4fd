package codec

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"headwater/segmenter/media"
)

const (
	// MaxConfig is the largest configuration record accepted, bytes. Records are kept and compared; real ones are below
	// a kilobyte, while the syntax allows 18 MB.
	MaxConfig = 64 << 10

	maxSide      = 16880 // luma samples: sqrt(8 MaxFS) macroblocks at level 6.2 (ITU-T H.264, A.3.1)
	maxFrameRate = 300   // frames a second: the highest any level allows (ITU-T H.264, A.3.4.2)
	maxPOCCycle  = 255   // num_ref_frames_in_pic_order_cnt_cycle (ITU-T H.264, 7.4.2.1.1)
	maxSPS       = 31    // in a record: a five bit count
	maxPPS       = 255   // in a record: an eight bit count

	videoTimescale = 90000
)

// NAL unit types that a configuration record holds (ITU-T H.264, table 7-1).
const (
	nalSPS = 7
	nalPPS = 8
)

// An AVCConfig is an AVCDecoderConfigurationRecord taken apart (ISO/IEC 14496-15, 5.3.3.1). The parameter sets are NAL
// units without length or start code; after ParseAVCConfig they are parts of the record that was parsed.
type AVCConfig struct {
	LengthSize int // bytes of the length before each NAL unit of a sample: 1, 2 or 4
	SPS, PPS   [][]byte
}

// ParseAVCConfig takes a record apart. It looks at no parameter set further than its type.
func ParseAVCConfig(record []byte) (AVCConfig, error) {
	const where = "AVC configuration record"
	var c AVCConfig
	switch {
	case len(record) < 7:
		return c, media.Formatf(where, "is %d bytes long, the shortest is 7", len(record))
	case len(record) > MaxConfig:
		return c, media.Formatf(where, "is %d bytes long, at most %d are accepted", len(record), MaxConfig)
	case record[0] != 1:
		return c, media.Formatf(where, "has version %d, not 1", record[0])
	}
	c.LengthSize = int(record[4]&3) + 1
	if c.LengthSize == 3 {
		return c, media.Formatf(where, "has a NAL unit length size of 3, which the standard forbids")
	}
	sets := func(b []byte, n int, typ byte, name string) ([][]byte, []byte, error) {
		if n == 0 {
			return nil, nil, media.Formatf(where, "has no %s", name)
		}
		list := make([][]byte, 0, n)
		for range n {
			if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
				return nil, nil, media.Formatf(where, "ends inside its %s", name)
			}
			end := 2 + int(binary.BigEndian.Uint16(b))
			nal := b[2:end:end]
			if len(nal) == 0 || nal[0]&0x1f != typ {
				return nil, nil, media.Formatf(where, "has something else in the place of its %s", name)
			}
			list, b = append(list, nal), b[end:]
		}
		return list, b, nil
	}
	var err error
	rest := record[6:]
	if c.SPS, rest, err = sets(rest, int(record[5]&0x1f), nalSPS, "SPS"); err != nil {
		return c, err
	}
	if len(rest) == 0 {
		return c, media.Formatf(where, "ends before its PPS")
	}
	c.PPS, _, err = sets(rest[1:], int(rest[0]), nalPPS, "PPS")
	return c, err
}

// Append appends the record to dst. Profile, compatibility and level are those of the first SPS.
func (c *AVCConfig) Append(dst []byte) ([]byte, error) {
	const where = "AVC parameter sets"
	if len(c.SPS) == 0 || len(c.SPS) > maxSPS || len(c.PPS) == 0 || len(c.PPS) > maxPPS {
		return nil, media.Formatf(where, "%d SPS and %d PPS do not fit in a configuration record", len(c.SPS), len(c.PPS))
	}
	first, err := parseSPS(c.SPS[0])
	if err != nil {
		return nil, err
	}
	start := len(dst)
	dst = append(dst, 1, c.SPS[0][1], c.SPS[0][2], c.SPS[0][3], 0xfc|byte(c.LengthSize-1), 0xe0|byte(len(c.SPS)))
	for _, nal := range c.SPS {
		dst = append(binary.BigEndian.AppendUint16(dst, uint16(len(nal))), nal...)
	}
	dst = append(dst, byte(len(c.PPS)))
	for _, nal := range c.PPS {
		dst = append(binary.BigEndian.AppendUint16(dst, uint16(len(nal))), nal...)
	}
	if hasChromaFormat(first.profile) {
		dst = append(dst, 0xfc|byte(first.chroma), 0xf8|first.lumaDepth, 0xf8|first.chromaDepth, 0)
	}
	if len(dst)-start > MaxConfig {
		return nil, media.Formatf(where, "are too large")
	}
	return dst, nil
}

// Replace puts an SPS or PPS in the place of the one with the same identifier, or adds it. It says whether that changed
// anything. nal is copied. The lists are replaced, not modified.
func (c *AVCConfig) Replace(nal []byte) (changed bool, err error) {
	list, id, name := &c.SPS, spsID, "SPS"
	if len(nal) > 0 && nal[0]&0x1f == nalPPS {
		list, id, name = &c.PPS, ppsID, "PPS"
	}
	if len(nal) > MaxConfig {
		return false, media.Formatf(name, "is %d bytes long", len(nal))
	}
	return replace(list, nal, id)
}

// Have says whether a parameter set is among those of c, to the byte.
func (c *AVCConfig) Have(nal []byte) bool {
	if len(nal) > 0 && nal[0]&0x1f == nalPPS {
		return contains(c.PPS, nal)
	}
	return contains(c.SPS, nal)
}

func contains(list [][]byte, nal []byte) bool {
	return slices.ContainsFunc(list, func(have []byte) bool { return bytes.Equal(have, nal) })
}

// replace puts a parameter set in the place of the one in a list with the same identifier, or adds it.
func replace(list *[][]byte, nal []byte, id func([]byte) (uint32, error)) (changed bool, err error) {
	want, err := id(nal)
	if err != nil {
		return false, err
	}
	for i, old := range *list {
		if have, err := id(old); err != nil || have != want {
			continue
		}
		if string(old) == string(nal) {
			return false, nil
		}
		*list = slices.Clone(*list)
		(*list)[i] = slices.Clone(nal)
		return true, nil
	}
	*list = append(slices.Clip(*list), slices.Clone(nal))
	return true, nil
}

// H264 describes the track of an AVCDecoderConfigurationRecord. Its Config is a copy of config.
func H264(config []byte) (media.Track, error) {
	c, err := ParseAVCConfig(config)
	if err != nil {
		return media.Track{}, err
	}
	s, err := parseSPS(c.SPS[0])
	if err != nil {
		return media.Track{}, err
	}
	return s.track("avc1", fmt.Sprintf("avc1.%02x%02x%02x", config[1], config[2], config[3]), config), nil
}

// track is the track that s describes, with a copy of its configuration record.
func (s *sps) track(typ, codecs string, config []byte) media.Track {
	return media.Track{
		ID:          videoID,
		Kind:        media.Video,
		Codec:       media.Codec{Type: typ, String: codecs, Config: slices.Clone(config)},
		Timescale:   videoTimescale,
		Width:       s.width,
		Height:      s.height,
		PixelAspect: s.pixelAspect,
		FrameRate:   s.frameRate,
		Color:       s.color,
	}
}

// An sps is what is wanted of a sequence parameter set.
type sps struct {
	profile                byte
	chroma                 uint32 // chroma_format_idc
	lumaDepth, chromaDepth byte   // minus 8
	width, height          int
	pixelAspect, frameRate media.Ratio
	color                  media.Color
	units, scale           uint32 // num_units_in_tick and time_scale; 0 when absent or senseless
}

// hasChromaFormat says whether a profile's SPS states chroma format and bit depths, and with it whether the
// configuration record repeats them (ITU-T H.264, 7.3.2.1.1; ISO/IEC 14496-15, 5.3.3.1.2).
func hasChromaFormat(profile byte) bool {
	switch profile {
	case 100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135:
		return true
	}
	return false
}

// decodeNAL calls f with a reader over the payload of a NAL unit, its emulation prevention bytes removed.
func decodeNAL(where string, nal []byte, f func(r reader) error) error {
	if len(nal) < 2 || len(nal) > MaxConfig {
		return media.Formatf(where, "is %d bytes long", len(nal))
	}
	return decode(where, unescape(nil, nal[1:]), f)
}

// unescape appends b to out without emulation_prevention_three_bytes (ITU-T H.264, 7.4.1).
func unescape(out, b []byte) []byte {
	out = slices.Grow(out, len(b))
	zeros := 0
	for _, c := range b {
		if zeros >= 2 && c == 3 {
			zeros = 0
			continue
		}
		if c == 0 {
			zeros++
		} else {
			zeros = 0
		}
		out = append(out, c)
	}
	return out
}

func spsID(nal []byte) (id uint32, err error) {
	err = decodeNAL("SPS", nal, func(r reader) error {
		r.u(24)
		if id = r.ue(); id > 31 {
			return media.Formatf("SPS", "has identifier %d", id)
		}
		return nil
	})
	return id, err
}

func ppsID(nal []byte) (id uint32, err error) {
	err = decodeNAL("PPS", nal, func(r reader) error {
		if id = r.ue(); id > 255 {
			return media.Formatf("PPS", "has identifier %d", id)
		}
		return nil
	})
	return id, err
}

func parseSPS(nal []byte) (s sps, err error) {
	err = decodeNAL("SPS", nal, func(r reader) error { return s.read(r) })
	return s, err
}

// read reads seq_parameter_set_data (ITU-T H.264, 7.3.2.1.1) as far as the timing in its VUI.
func (s *sps) read(r reader) error {
	s.profile = byte(r.u(8))
	r.u(16) // constraint flags, level
	r.ue()  // seq_parameter_set_id
	s.chroma = 1
	separatePlanes := false
	if hasChromaFormat(s.profile) {
		if s.chroma = r.ue(); s.chroma > 3 {
			return media.Formatf("SPS", "has chroma format %d", s.chroma)
		}
		if s.chroma == 3 {
			separatePlanes = r.flag()
		}
		luma, chroma := r.ue(), r.ue()
		if luma > 6 || chroma > 6 {
			return media.Formatf("SPS", "has bit depths of %d and %d", uint64(luma)+8, uint64(chroma)+8)
		}
		s.lumaDepth, s.chromaDepth = byte(luma), byte(chroma)
		r.flag() // qpprime_y_zero_transform_bypass_flag
		if r.flag() {
			lists := 8
			if s.chroma == 3 {
				lists = 12
			}
			for i := range lists {
				if r.flag() {
					skipScalingList(r, i)
				}
			}
		}
	}
	r.ue() // log2_max_frame_num_minus4
	switch r.ue() {
	case 0:
		r.ue() // log2_max_pic_order_cnt_lsb_minus4
	case 1:
		r.flag() // delta_pic_order_always_zero_flag
		r.se()   // offset_for_non_ref_pic
		r.se()   // offset_for_top_to_bottom_field
		n := r.ue()
		if n > maxPOCCycle {
			return media.Formatf("SPS", "has a picture order count cycle of %d", n)
		}
		for range n {
			r.se()
		}
	}
	r.ue()   // max_num_ref_frames
	r.flag() // gaps_in_frame_num_value_allowed_flag
	mbWidth, mapHeight := int64(r.ue())+1, int64(r.ue())+1
	fieldFactor := int64(1) // 2 - frame_mbs_only_flag
	if !r.flag() {
		fieldFactor = 2
		r.flag() // mb_adaptive_frame_field_flag
	}
	r.flag() // direct_8x8_inference_flag
	var left, right, top, bottom int64
	if r.flag() {
		left, right, top, bottom = int64(r.ue()), int64(r.ue()), int64(r.ue()), int64(r.ue())
	}
	// CropUnitX and CropUnitY, equations 7-19 to 7-22.
	cropX, cropY := int64(1), fieldFactor
	if !separatePlanes && (s.chroma == 1 || s.chroma == 2) {
		cropX = 2
	}
	if !separatePlanes && s.chroma == 1 {
		cropY *= 2
	}
	width := mbWidth*16 - cropX*(left+right)
	height := mapHeight*16*fieldFactor - cropY*(top+bottom)
	if width <= 0 || height <= 0 || width > maxSide || height > maxSide {
		return media.Formatf("SPS", "describes a picture of %dx%d", width, height)
	}
	s.width, s.height = int(width), int(height)
	if r.flag() {
		s.readVUI(r)
	}
	return nil
}

// skipScalingList skips scaling_list number i (ITU-T H.264, 7.3.2.1.1.1).
func skipScalingList(r reader, i int) {
	size := 16
	if i >= 6 {
		size = 64
	}
	last, next := int32(8), int32(8)
	for range size {
		if next != 0 {
			next = (last + r.se()%256 + 256) % 256
		}
		if next != 0 {
			last = next
		}
	}
}

// sampleAspect is table E-1 of ITU-T H.264, by aspect_ratio_idc. Square stays the zero Ratio.
var sampleAspect = [...]media.Ratio{
	2: {Num: 12, Den: 11}, 3: {Num: 10, Den: 11}, 4: {Num: 16, Den: 11}, 5: {Num: 40, Den: 33}, 6: {Num: 24, Den: 11},
	7: {Num: 20, Den: 11}, 8: {Num: 32, Den: 11}, 9: {Num: 80, Den: 33}, 10: {Num: 18, Den: 11}, 11: {Num: 15, Den: 11},
	12: {Num: 64, Den: 33}, 13: {Num: 160, Den: 99}, 14: {Num: 4, Den: 3}, 15: {Num: 3, Den: 2}, 16: {Num: 2, Den: 1},
}

const (
	extendedSAR = 255 // aspect_ratio_idc
	unspecified = 2   // colour_primaries, transfer_characteristics, matrix_coefficients
)

// readVUI reads vui_parameters (ITU-T H.264, E.1.1) as far as the timing; what follows is for ParsePictureTiming.
func (s *sps) readVUI(r reader) {
	s.readPicture(r)
	if r.flag() {
		units, scale := r.u(32), r.u(32)
		// A tick is a field's time. Without fixed_frame_rate_flag this is still the shortest time between frames, which
		// is what FRAME-RATE, a maximum, asks for. Some encoders put the ticks of their transport here; no level allows
		// such rates.
		if units > 0 && uint64(scale) <= 2*uint64(units)*maxFrameRate {
			s.frameRate = reduce(uint64(scale), 2*uint64(units))
			s.units, s.scale = units, scale
		}
	}
}

// readPicture reads what vui_parameters say of the picture, which is the same in ITU-T H.265 (E.2.1).
func (s *sps) readPicture(r reader) {
	if r.flag() {
		switch idc := r.u(8); {
		case idc == extendedSAR:
			s.pixelAspect = reduce(uint64(r.u(16)), uint64(r.u(16)))
			if s.pixelAspect.Num == s.pixelAspect.Den {
				s.pixelAspect = media.Ratio{}
			}
		case idc < uint32(len(sampleAspect)):
			s.pixelAspect = sampleAspect[idc]
		}
	}
	if r.flag() {
		r.flag() // overscan_appropriate_flag
	}
	if r.flag() {
		r.u(3) // video_format
		s.color.FullRange = r.flag()
		if r.flag() {
			p, t, m := byte(r.u(8)), byte(r.u(8)), byte(r.u(8))
			if p != unspecified || t != unspecified || m != unspecified {
				s.color.Primaries, s.color.Transfer, s.color.Matrix = p, t, m
			}
		}
	}
	if r.flag() {
		r.ue() // chroma_sample_loc_type_top_field
		r.ue() // chroma_sample_loc_type_bottom_field
	}
}

// reduce returns num/den in lowest terms, zero when it is no positive number or does not fit.
func reduce(num, den uint64) media.Ratio {
	a, b := num, den
	for b != 0 {
		a, b = b, a%b
	}
	if num == 0 || den == 0 || num/a > 1<<32-1 || den/a > 1<<32-1 {
		return media.Ratio{}
	}
	return media.Ratio{Num: uint32(num / a), Den: uint32(den / a)}
}
