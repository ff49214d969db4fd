package codec

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"strings"

	"headwater/segmenter/media"
)

// NAL unit types that a configuration record holds (ITU-T H.265, table 7-1).
const (
	hevcVPS = 32
	hevcSPS = 33
	hevcPPS = 34
)

const (
	arrayComplete = 0x80 // array_completeness, beside the type of an array

	hevcHead     = 22   // bytes of a record before its arrays (ISO/IEC 14496-15, 8.3.3.1.2)
	maxArrays    = 16   // of parameter sets and SEI in a record
	maxHEVCSide  = 8192 // luma samples, each way, at level 6.2: twice that is no picture anybody sends live
	maxShortSets = 64   // num_short_term_ref_pic_sets (ITU-T H.265, 7.4.3.2.1)
	maxPictures  = 16   // in a decoded picture buffer (A.4.2)
)

// A HEVCConfig is a HEVCDecoderConfigurationRecord taken apart (ISO/IEC 14496-15, 8.3.3.1). The parameter sets are NAL units
// without length or start code; after ParseHEVCConfig they are parts of the record that was parsed. What else a record may
// hold, SEI, is left out.
type HEVCConfig struct {
	LengthSize    int // bytes of the length before each NAL unit of a sample: 1, 2 or 4
	VPS, SPS, PPS [][]byte
}

// ParseHEVCConfig takes a record apart. It looks at no parameter set further than its type.
func ParseHEVCConfig(record []byte) (HEVCConfig, error) {
	const where = "HEVC configuration record"
	var c HEVCConfig
	switch {
	case len(record) < hevcHead+1:
		return c, media.Formatf(where, "is %d bytes long, the shortest is %d", len(record), hevcHead+1)
	case len(record) > MaxConfig:
		return c, media.Formatf(where, "is %d bytes long, at most %d are accepted", len(record), MaxConfig)
	case record[0] != 1 && record[0] != 0: // some encoders write 0, the draft's
		return c, media.Formatf(where, "has version %d, not 1", record[0])
	}
	c.LengthSize = int(record[21]&3) + 1
	if c.LengthSize == 3 {
		return c, media.Formatf(where, "has a NAL unit length size of 3, which the standard forbids")
	}
	arrays, b := int(record[22]), record[hevcHead+1:]
	if arrays > maxArrays {
		return c, media.Formatf(where, "has %d arrays", arrays)
	}
	for range arrays {
		if len(b) < 3 {
			return c, media.Formatf(where, "ends inside its arrays")
		}
		typ, n := b[0]&0x3f, int(binary.BigEndian.Uint16(b[1:]))
		b = b[3:]
		for range n {
			if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
				return c, media.Formatf(where, "ends inside its arrays")
			}
			end := 2 + int(binary.BigEndian.Uint16(b))
			nal := b[2:end:end]
			b = b[end:]
			list := c.list(typ)
			if list == nil {
				continue // SEI
			}
			if len(nal) < 3 || hevcType(nal) != typ {
				return c, media.Formatf(where, "has something else in the place of a parameter set")
			}
			*list = append(*list, nal)
		}
	}
	if len(c.VPS) == 0 || len(c.SPS) == 0 || len(c.PPS) == 0 {
		return c, media.Formatf(where, "has %d VPS, %d SPS and %d PPS", len(c.VPS), len(c.SPS), len(c.PPS))
	}
	return c, nil
}

// hevcType is the type of a NAL unit (ITU-T H.265, 7.3.1.2).
func hevcType(nal []byte) byte { return nal[0] >> 1 & 0x3f }

// list returns the one that parameter sets of a type belong to, nil for other NAL units.
func (c *HEVCConfig) list(typ byte) *[][]byte {
	switch typ {
	case hevcVPS:
		return &c.VPS
	case hevcSPS:
		return &c.SPS
	case hevcPPS:
		return &c.PPS
	}
	return nil
}

// Append appends the record to dst. Profile, tier and level are those of the first SPS.
func (c *HEVCConfig) Append(dst []byte) ([]byte, error) {
	const where = "HEVC parameter sets"
	if len(c.VPS) == 0 || len(c.SPS) == 0 || len(c.PPS) == 0 || len(c.VPS)+len(c.SPS)+len(c.PPS) > maxPPS {
		return nil, media.Formatf(where, "%d VPS, %d SPS and %d PPS do not fit in a configuration record", len(c.VPS), len(c.SPS), len(c.PPS))
	}
	s, err := parseHEVCSPS(c.SPS[0])
	if err != nil {
		return nil, err
	}
	start := len(dst)
	dst = append(append(dst, 1), s.profile[:]...)
	// min_spatial_segmentation_idc, parallelismType and avgFrameRate are unknown.
	dst = append(dst, 0xf0, 0, 0xfc, 0xfc|byte(s.chroma), 0xf8|s.lumaDepth, 0xf8|s.chromaDepth, 0, 0,
		s.layers<<3|s.nesting<<2|byte(c.LengthSize-1), 3)
	for _, typ := range [...]byte{hevcVPS, hevcSPS, hevcPPS} {
		list := *c.list(typ)
		dst = binary.BigEndian.AppendUint16(append(dst, arrayComplete|typ), uint16(len(list)))
		for _, nal := range list {
			dst = append(binary.BigEndian.AppendUint16(dst, uint16(len(nal))), nal...)
		}
	}
	if len(dst)-start > MaxConfig {
		return nil, media.Formatf(where, "are too large")
	}
	return dst, nil
}

// Have says whether a parameter set is among those of c, to the byte.
func (c *HEVCConfig) Have(nal []byte) bool {
	list := c.list(hevcType(nal))
	return list != nil && contains(*list, nal)
}

// Replace puts a VPS, SPS or PPS in the place of the one with the same identifier, or adds it. It says whether that changed
// anything. nal is copied. The lists are replaced, not modified.
func (c *HEVCConfig) Replace(nal []byte) (changed bool, err error) {
	if len(nal) < 3 || len(nal) > MaxConfig {
		return false, media.Formatf("HEVC parameter set", "is %d bytes long", len(nal))
	}
	list := c.list(hevcType(nal))
	if list == nil {
		return false, media.Formatf("HEVC parameter set", "is of type %d", hevcType(nal))
	}
	return replace(list, nal, hevcSetID)
}

// hevcSetID reads the identifier of a parameter set.
func hevcSetID(nal []byte) (id uint32, err error) {
	err = decodeHEVC("HEVC parameter set", nal, func(r reader) error {
		switch hevcType(nal) {
		case hevcVPS:
			id = r.u(4)
		case hevcSPS:
			r.u(4)
			layers := int(r.u(3))
			r.flag()
			skipProfile(r, layers)
			id = r.ue()
		default:
			id = r.ue()
		}
		return nil
	})
	return id, err
}

// complete gives a record that ParseHEVCConfig accepts the version and the array_completeness that hvc1 asks for (ISO/IEC 14496-15,
// 8.4.1.1): all parameter sets are in the record. Encoders that write for FLV do not always say so.
func complete(record []byte) {
	record[0] = 1
	b := record[hevcHead+1:]
	for range record[hevcHead] {
		if (&HEVCConfig{}).list(b[0]&0x3f) != nil {
			b[0] |= arrayComplete
		}
		n := binary.BigEndian.Uint16(b[1:])
		b = b[3:]
		for range n {
			b = b[2+int(binary.BigEndian.Uint16(b)):]
		}
	}
}

// HEVC describes the track of a HEVCDecoderConfigurationRecord. Its Config is a copy of config that says that all parameter sets
// are in it.
func HEVC(config []byte) (media.Track, error) {
	c, err := ParseHEVCConfig(config)
	if err != nil {
		return media.Track{}, err
	}
	s, err := parseHEVCSPS(c.SPS[0])
	if err != nil {
		return media.Track{}, err
	}
	t := s.track("hvc1", hevcString(s.profile[:]), config)
	complete(t.Codec.Config)
	return t, nil
}

// hevcString is the element of a CODECS attribute for general_profile_space to general_level_idc (ISO/IEC 14496-15, E.3).
func hevcString(profile []byte) string {
	var b strings.Builder
	b.WriteString("hvc1.")
	if space := profile[0] >> 6; space > 0 {
		b.WriteByte('A' + space - 1)
	}
	tier := 'L'
	if profile[0]&0x20 != 0 {
		tier = 'H'
	}
	fmt.Fprintf(&b, "%d.%X.%c%d", profile[0]&0x1f, bits.Reverse32(binary.BigEndian.Uint32(profile[1:])), tier, profile[11])
	constraints := profile[5:11]
	for len(constraints) > 0 && constraints[len(constraints)-1] == 0 {
		constraints = constraints[:len(constraints)-1]
	}
	for _, c := range constraints {
		fmt.Fprintf(&b, ".%X", c)
	}
	return b.String()
}

// A hevcSet is what is wanted of a sequence parameter set.
type hevcSet struct {
	sps
	profile [12]byte // general_profile_space to general_level_idc
	layers  byte     // numTemporalLayers
	nesting byte
}

func parseHEVCSPS(nal []byte) (s hevcSet, err error) {
	err = decodeHEVC("HEVC SPS", nal, func(r reader) error { return s.read(r) })
	if err != nil {
		return s, err
	}
	// What comes after the picture's size is good to know, and no reason to refuse what can be decoded.
	with := s
	if decodeHEVC("HEVC SPS", nal, func(r reader) error {
		if err := with.read(r); err != nil {
			return err
		}
		return with.readRest(r)
	}) == nil {
		s = with
	}
	return s, nil
}

// read reads seq_parameter_set_rbsp (ITU-T H.265, 7.3.2.2) as far as the bit depths.
func (s *hevcSet) read(r reader) error {
	r.u(4) // sps_video_parameter_set_id
	layers := int(r.u(3))
	if layers > 6 {
		return media.Formatf("HEVC SPS", "has %d layers", layers+1)
	}
	s.layers, s.nesting = byte(layers+1), byte(r.u(1))
	for i := range s.profile {
		s.profile[i] = byte(r.u(8))
	}
	skipLayers(r, layers)
	r.ue() // sps_seq_parameter_set_id
	if s.chroma = r.ue(); s.chroma > 3 {
		return media.Formatf("HEVC SPS", "has chroma format %d", s.chroma)
	}
	separatePlanes := s.chroma == 3 && r.flag()
	width, height := int64(r.ue()), int64(r.ue())
	if r.flag() { // conformance_window_flag
		unitX, unitY := int64(1), int64(1) // SubWidthC, SubHeightC
		if !separatePlanes && (s.chroma == 1 || s.chroma == 2) {
			unitX = 2
		}
		if !separatePlanes && s.chroma == 1 {
			unitY = 2
		}
		left, right, top, bottom := int64(r.ue()), int64(r.ue()), int64(r.ue()), int64(r.ue())
		width -= unitX * (left + right)
		height -= unitY * (top + bottom)
	}
	if width <= 0 || height <= 0 || width > maxHEVCSide || height > maxHEVCSide {
		return media.Formatf("HEVC SPS", "describes a picture of %dx%d", width, height)
	}
	s.width, s.height = int(width), int(height)
	luma, chroma := r.ue(), r.ue()
	if luma > 7 || chroma > 7 {
		return media.Formatf("HEVC SPS", "has bit depths of %d and %d", uint64(luma)+8, uint64(chroma)+8)
	}
	s.lumaDepth, s.chromaDepth = byte(luma), byte(chroma)
	return nil
}

// readRest reads on to the timing in the VUI.
func (s *hevcSet) readRest(r reader) error {
	pocBits := int(r.ue()) + 4
	n := int(s.layers)
	if !r.flag() { // sps_sub_layer_ordering_info_present_flag
		n = 1
	}
	for range 3 * n {
		r.ue() // sps_max_dec_pic_buffering_minus1, sps_max_num_reorder_pics, sps_max_latency_increase_plus1
	}
	for range 6 {
		r.ue() // sizes of blocks and transforms, depths of their trees
	}
	if r.flag() { // scaling_list_enabled_flag
		if r.flag() { // sps_scaling_list_data_present_flag
			skipScalingLists(r)
		}
	}
	r.u(2)        // amp_enabled_flag, sample_adaptive_offset_enabled_flag
	if r.flag() { // pcm_enabled_flag
		r.u(8)
		r.ue()
		r.ue()
		r.flag()
	}
	if err := skipShortTermSets(r); err != nil {
		return err
	}
	if r.flag() { // long_term_ref_pics_present_flag
		n := r.ue()
		if n > 32 || pocBits > 16 {
			return media.Formatf("HEVC SPS", "has %d long-term reference pictures", n)
		}
		for range n {
			r.u(pocBits + 1)
		}
	}
	r.u(2)         // sps_temporal_mvp_enabled_flag, strong_intra_smoothing_enabled_flag
	if !r.flag() { // vui_parameters_present_flag
		return nil
	}
	s.readPicture(r)
	r.u(3)        // neutral_chroma_indication_flag, field_seq_flag, frame_field_info_present_flag
	if r.flag() { // default_display_window_flag
		for range 4 {
			r.ue()
		}
	}
	if r.flag() { // vui_timing_info_present_flag
		units, scale := r.u(32), r.u(32)
		if units > 0 && uint64(scale) <= uint64(units)*maxFrameRate {
			s.frameRate = reduce(uint64(scale), uint64(units))
		}
	}
	return nil
}

// skipProfile skips profile_tier_level with a general profile (7.3.3).
func skipProfile(r reader, layers int) {
	for range 12 {
		r.u(8)
	}
	skipLayers(r, layers)
}

// skipLayers skips what profile_tier_level says of so many sub-layers beside the general profile.
func skipLayers(r reader, layers int) {
	if layers == 0 {
		return
	}
	var flags [8]uint32
	for i := range flags {
		if flags[i] = r.u(2); i >= layers {
			flags[i] = 0 // reserved
		}
	}
	for _, f := range flags {
		if f&2 != 0 {
			for range 11 {
				r.u(8)
			}
		}
		if f&1 != 0 {
			r.u(8)
		}
	}
}

// skipScalingLists skips scaling_list_data (7.3.4).
func skipScalingLists(r reader) {
	for size := range 4 {
		step := 1
		if size == 3 {
			step = 3
		}
		for matrix := 0; matrix < 6; matrix += step {
			if !r.flag() { // scaling_list_pred_mode_flag
				r.ue()
				continue
			}
			if size > 1 {
				r.se()
			}
			for range min(64, 1<<(4+size<<1)) {
				r.se()
			}
		}
	}
}

// skipShortTermSets skips num_short_term_ref_pic_sets and st_ref_pic_set (7.3.7).
func skipShortTermSets(r reader) error {
	n := r.ue()
	if n > maxShortSets {
		return media.Formatf("HEVC SPS", "has %d reference picture sets", n)
	}
	pictures := uint32(0) // NumDeltaPocs of the one before
	for i := range n {
		if i > 0 && r.flag() { // inter_ref_pic_set_prediction_flag
			r.flag() // delta_rps_sign
			r.ue()   // abs_delta_rps_minus1
			used := uint32(0)
			for range pictures + 1 {
				use := r.flag() // used_by_curr_pic_flag
				if !use {
					use = r.flag() // use_delta_flag
				}
				if use {
					used++
				}
			}
			pictures = used
		} else {
			negative, positive := r.ue(), r.ue()
			if negative > maxPictures || positive > maxPictures {
				return media.Formatf("HEVC SPS", "has a set of %d and %d reference pictures", negative, positive)
			}
			pictures = negative + positive
			for range pictures {
				r.ue()
				r.flag()
			}
		}
		if pictures > maxPictures {
			return media.Formatf("HEVC SPS", "has a set of %d reference pictures", pictures)
		}
	}
	return nil
}

func decodeHEVC(where string, nal []byte, f func(r reader) error) error {
	if len(nal) < 3 || len(nal) > MaxConfig {
		return media.Formatf(where, "is %d bytes long", len(nal))
	}
	return decode(where, unescape(nil, nal[2:]), f)
}
