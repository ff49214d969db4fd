package codec

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/Eyevinn/mp4ff/avc"
	"github.com/google/go-cmp/cmp"
	bits "github.com/yapingcat/gomedia/go-codec"

	"headwater/segmenter/media"
)

// The records named ffmpeg are the video sequence headers of FLV files made by ffmpeg 5.1 with libx264:
//
//	ffmpeg -f lavfi -i testsrc2=s=WxH:r=RATE -frames:v 3 -c:v libx264 OPTIONS out.flv
//
// WxH, RATE and OPTIONS stand at each. What is wanted of them is what ffprobe says.
var h264Cases = []struct {
	name string
	hex  string
	want media.Track // of which ID, Kind, Type, Config and Timescale are the same for all
	err  string      // "" for none, else a part of its text
	kind error       // the type of the error, *media.FormatError unless given
}{
	{
		// 320x240, 25, -profile:v baseline
		name: "ffmpeg baseline",
		hex:  "0142c00dffe100186742c00dd90141fb011000000300100000030320f142a48001000568cb83cb20",
		want: media.Track{Codec: media.Codec{String: "avc1.42c00d"}, Width: 320, Height: 240, FrameRate: media.Ratio{Num: 25, Den: 1}},
	},
	{
		// 1920x1080, 60000/1001, -preset ultrafast -x264-params colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:fullrange=on
		name: "ffmpeg cropped to 1080 rows, BT.2020 PQ, full range",
		hex:  "0142c02affe1001b6742c02ada01e0089f97016e122012800001f48000ea60078c195001000468ce0fc8",
		want: media.Track{Codec: media.Codec{String: "avc1.42c02a"}, Width: 1920, Height: 1080,
			FrameRate: media.Ratio{Num: 60000, Den: 1001}, Color: media.Color{Primaries: 9, Transfer: 16, Matrix: 9, FullRange: true}},
	},
	{
		// 318x178, 30000/1001, -vf setsar=37/29
		name: "ffmpeg extended pixel aspect",
		hex:  "0164000dffe1001d6764000dacd941419ea23ff0025001d100000303e90000ea600f14299601000668ebe3cb22c0fdf8f800",
		want: media.Track{Codec: media.Codec{String: "avc1.64000d"}, Width: 318, Height: 178,
			PixelAspect: media.Ratio{Num: 37, Den: 29}, FrameRate: media.Ratio{Num: 30000, Den: 1001}},
	},
	{
		// 318x178, 30000/1001, -vf setsar=4/3 -bf 2 -colorspace bt709 -color_primaries bt709 -color_trc bt709
		name: "ffmpeg BT.709",
		hex:  "0164000dffe1001c6764000dacd941419ea230e6a020202800001f480007530078a14cb001000468ef8fcbfdf8f800",
		want: media.Track{Codec: media.Codec{String: "avc1.64000d"}, Width: 318, Height: 178, PixelAspect: media.Ratio{Num: 4, Den: 3},
			FrameRate: media.Ratio{Num: 30000, Den: 1001}, Color: media.Color{Primaries: 1, Transfer: 1, Matrix: 1}},
	},
	{
		// 720x576, 25, -flags +ilme+ildct -vf setsar=16/11
		name: "ffmpeg interlaced, pixel aspect from the table",
		hex:  "0164001effe100186764001eacd940b424d8208000000300800000190f8a14cb01000668fba3cb22c0fdf8f800",
		want: media.Track{Codec: media.Codec{String: "avc1.64001e"}, Width: 720, Height: 576,
			PixelAspect: media.Ratio{Num: 16, Den: 11}, FrameRate: media.Ratio{Num: 25, Den: 1}},
	},
	{
		// 1920x1080, 25, -flags +ilme+ildct
		name: "ffmpeg interlaced, cropped to 1080 rows",
		hex:  "01640028ffe1001a67640028acd94078044fde0220000003002000000643e2c5b2c001000668fba3cb22c0fdf8f800",
		want: media.Track{Codec: media.Codec{String: "avc1.640028"}, Width: 1920, Height: 1080, FrameRate: media.Ratio{Num: 25, Den: 1}},
	},
	{
		// 322x178, 50, -pix_fmt yuv422p10le
		name: "ffmpeg 4:2:2 10 bit",
		hex:  "017a0015ffe1001b677a0015b6cd941519e223f011000003000100000300640f162d9601000668ebe3cb22c0fefafa00",
		want: media.Track{Codec: media.Codec{String: "avc1.7a0015"}, Width: 322, Height: 178, FrameRate: media.Ratio{Num: 50, Den: 1}},
	},
	{
		// 321x179, 24, -pix_fmt yuv444p (the source rounds its size down to 320x178)
		name: "ffmpeg 4:4:4",
		hex:  "01f4000cffe1001967f4000c919b282833f1f808800000030080000018078a14cb01000668ebe3c44844fff8f800",
		want: media.Track{Codec: media.Codec{String: "avc1.f4000c"}, Width: 320, Height: 178, FrameRate: media.Ratio{Num: 24, Den: 1}},
	},
	{
		// 320x178, 24, -pix_fmt gray
		name: "ffmpeg monochrome",
		hex:  "0164000cffe100196764000cf36505067e3f016c800000030080000018078a14cb01000668ebe3cb22c0fcf8f800",
		want: media.Track{Codec: media.Codec{String: "avc1.64000c"}, Width: 320, Height: 178,
			FrameRate: media.Ratio{Num: 24, Den: 1}, Color: media.Color{FullRange: true}},
	},
	{
		// 320x180, 24, -x264-params cqm=jvt:nal-hrd=cbr:vbv-maxrate=500:vbv-bufsize=500:bitrate=500
		name: "ffmpeg with HRD parameters",
		hex:  "0164000dffe100246764000dacd941419f9f01100000030010000003030602001e840007a13930c01e28532c01000668ebecb3002cfdf8f800",
		want: media.Track{Codec: media.Codec{String: "avc1.64000d"}, Width: 320, Height: 180, FrameRate: media.Ratio{Num: 24, Den: 1}},
	},
	{
		name: "scaling lists, picture order count type 1",
		hex:  hex.EncodeToString(record(4, spsBits{profile: 100, scaling: true, pocCycle: 3}.nal(), pps)),
		want: media.Track{Codec: media.Codec{String: "avc1.640028"}, Width: 640, Height: 360},
	},
	{
		name: "length size 1, two SPS",
		hex:  hex.EncodeToString(record(1, spsBits{profile: 77}.nal(), spsBits{profile: 77, id: 1}.nal(), pps)),
		want: media.Track{Codec: media.Codec{String: "avc1.4d0028"}, Width: 640, Height: 360},
	},
	{
		name: "a frame rate that is the transport's tick",
		hex:  hex.EncodeToString(record(2, spsBits{profile: 77, timing: [2]uint32{1, 180000}}.nal(), pps)),
		want: media.Track{Codec: media.Codec{String: "avc1.4d0028"}, Width: 640, Height: 360},
	},
	{name: "empty", hex: "", err: "0 bytes long"},
	{name: "six bytes", hex: "0142c00dffe1", err: "6 bytes long"},
	{name: "too long", hex: strings.Repeat("01", MaxConfig+1), err: "at most"},
	{name: "Annex B", hex: "000000016742c00dd90141fb", err: "version 0"},
	{name: "length size 3", hex: "0142c00dfee100186742c00dd90141fb011000000300100000030320f142a48001000568cb83cb20", err: "length size of 3"},
	{name: "no SPS", hex: "0142c00dffe001000568cb83cb20", err: "no SPS"},
	{name: "no PPS", hex: "0142c00dffe100186742c00dd90141fb011000000300100000030320f142a48000", err: "no PPS"},
	{name: "ends before its PPS", hex: "0142c00dffe100186742c00dd90141fb011000000300100000030320f142a480", err: "before its PPS"},
	{name: "ends inside its SPS", hex: "0142c00dffe100186742c00dd90141fb", err: "inside its SPS"},
	{name: "ends inside its PPS", hex: "0142c00dffe100186742c00dd90141fb011000000300100000030320f142a48001000568cb", err: "inside its PPS"},
	{name: "PPS for an SPS", hex: "0142c00dffe1000568cb83cb2001000568cb83cb20", err: "in the place of its SPS"},
	{name: "SPS of two bytes", hex: "0142c00dffe10002674201000568cb83cb20", err: "ends early"},
	{name: "SPS of zeros", hex: "0142c00dffe10008" + "6700000000000000" + "01000568cb83cb20", err: "SPS"},
	{name: "a number of 81 bits", hex: hex.EncodeToString(record(4, append([]byte{0x67, 77, 0, 0x28, 0, 0, 3, 0, 0, 3, 0, 0x80}, bytes.Repeat([]byte{0xff}, 40)...), pps)), err: "malformed"},
	{name: "a picture count cycle of four milliards", hex: hex.EncodeToString(record(4, spsBits{profile: 77, pocCycle: 1<<32 - 2}.nal(), pps)), err: "order count cycle"},
	{name: "cropped to nothing", hex: hex.EncodeToString(record(4, spsBits{profile: 77, crop: 160}.nal(), pps)), err: "picture of"},
	{name: "cropped past int32", hex: hex.EncodeToString(record(4, spsBits{profile: 77, crop: 1<<32 - 6}.nal(), pps)), err: "picture of"},
	{name: "too wide", hex: hex.EncodeToString(record(4, spsBits{profile: 77, width: 1 << 20}.nal(), pps)), err: "picture of"},
	{name: "chroma format 4", hex: hex.EncodeToString(record(4, spsBits{profile: 100, chroma: 4}.nal(), pps)), err: "chroma format"},
}

func TestH264(t *testing.T) {
	for _, c := range h264Cases {
		t.Run(c.name, func(t *testing.T) {
			config, err := hex.DecodeString(c.hex)
			if err != nil {
				t.Fatal(err)
			}
			got, err := H264(config)
			if c.err != "" {
				var format *media.FormatError
				if !errors.As(err, &format) || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want a FormatError that says %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			c.want.ID, c.want.Kind, c.want.Timescale = 1, media.Video, 90000
			c.want.Codec.Type, c.want.Codec.Config = "avc1", config
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
			if hex.EncodeToString(config) != c.hex {
				t.Error("the argument was modified")
			}
			config[5] ^= 0xff
			if hex.EncodeToString(got.Codec.Config) != c.hex {
				t.Error("Config is not a copy")
			}
		})
	}
}

// TestH264SecondOpinion compares with two other parsers where they have an opinion.
func TestH264SecondOpinion(t *testing.T) {
	for _, c := range h264Cases {
		if c.err != "" {
			continue
		}
		config, _ := hex.DecodeString(c.hex)
		got, err := H264(config)
		if err != nil {
			t.Fatal(err)
		}
		record, _ := ParseAVCConfig(config)
		theirs, err := avc.ParseSPSNALUnit(record.SPS[0], true)
		if err != nil {
			t.Fatalf("%s: mp4ff: %v", c.name, err)
		}
		if uint(got.Width) != theirs.Width || uint(got.Height) != theirs.Height {
			t.Errorf("%s: %dx%d, mp4ff says %dx%d", c.name, got.Width, got.Height, theirs.Width, theirs.Height)
		}
		if s := avc.CodecString("avc1", theirs); !strings.EqualFold(s, got.Codec.String) {
			t.Errorf("%s: %s, mp4ff says %s", c.name, got.Codec.String, s)
		}
		// gomedia takes every picture for 4:2:0 and progressive, and its crop of the top for negative.
		if !strings.HasPrefix(c.name, "ffmpeg") || strings.Contains(c.name, "interlaced") ||
			strings.Contains(c.name, "4:") || strings.Contains(c.name, "monochrome") {
			continue
		}
		w, h := bits.GetH264Resolution(append([]byte{0, 0, 0, 1}, record.SPS[0]...))
		if got.Width != int(w) || got.Height != int(h) {
			t.Errorf("%s: %dx%d, gomedia says %dx%d", c.name, got.Width, got.Height, w, h)
		}
	}
}

func TestAVCConfigRoundTrip(t *testing.T) {
	for _, c := range h264Cases {
		if c.err != "" {
			continue
		}
		config, _ := hex.DecodeString(c.hex)
		record, err := ParseAVCConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		got, err := record.Append(nil)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if hex.EncodeToString(got) != c.hex {
			t.Errorf("%s:\n got %x\nwant %s", c.name, got, c.hex)
		}
	}
}

func TestAVCConfigReplace(t *testing.T) {
	first, wide, second := spsBits{profile: 77}.nal(), spsBits{profile: 77, width: 80}.nal(), spsBits{profile: 77, id: 1}.nal()
	c := AVCConfig{LengthSize: 4, SPS: [][]byte{first}, PPS: [][]byte{pps}}
	before := c
	for _, step := range []struct {
		nal       []byte
		changed   bool
		sps, ppss int
	}{
		{first, false, 1, 1},
		{pps, false, 1, 1},
		{wide, true, 1, 1},
		{second, true, 2, 1},
		{[]byte{0x68, 0x40}, true, 2, 2},       // pic_parameter_set_id 1
		{[]byte{0x68, 0xcb, 0x83}, true, 2, 2}, // 0
	} {
		changed, err := c.Replace(step.nal)
		if err != nil || changed != step.changed || len(c.SPS) != step.sps || len(c.PPS) != step.ppss {
			t.Errorf("Replace(%x) = %v, %v with %d SPS and %d PPS", step.nal, changed, err, len(c.SPS), len(c.PPS))
		}
	}
	if string(before.SPS[0]) != string(first) || len(before.SPS) != 1 {
		t.Error("Replace modified the list it was given")
	}
	for _, nal := range [][]byte{nil, {0x67}, {0x67, 1, 2, 3}, {0x68, 0}, make([]byte, MaxConfig+1)} {
		if _, err := c.Replace(nal); err == nil {
			t.Errorf("Replace(%.8x) accepted", nal)
		}
	}
	if _, err := (&AVCConfig{LengthSize: 4, SPS: [][]byte{first}}).Append(nil); err == nil {
		t.Error("a record without PPS")
	}
}

func FuzzH264(f *testing.F) {
	for _, c := range h264Cases {
		if b, err := hex.DecodeString(c.hex); err == nil && len(b) < 1000 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		track, err := H264(b)
		if err != nil {
			var format *media.FormatError
			if !errors.As(err, &format) {
				t.Fatalf("%T", err)
			}
			return
		}
		if track.Width <= 0 || track.Height <= 0 || track.Width > maxSide || track.Height > maxSide {
			t.Fatalf("%dx%d", track.Width, track.Height)
		}
		c, err := ParseAVCConfig(b)
		if err != nil {
			t.Fatal(err)
		}
		for _, nal := range append(c.SPS, c.PPS...) {
			c.Replace(nal)
		}
	})
}

var pps = []byte{0x68, 0xcb, 0x83, 0xcb, 0x20}

// record makes a configuration record of NAL units.
func record(lengthSize int, nals ...[]byte) []byte {
	c := AVCConfig{LengthSize: lengthSize}
	for _, nal := range nals {
		if nal[0]&0x1f == nalSPS {
			c.SPS = append(c.SPS, nal)
		} else {
			c.PPS = append(c.PPS, nal)
		}
	}
	b := []byte{1, c.SPS[0][1], c.SPS[0][2], c.SPS[0][3], 0xfc | byte(lengthSize-1), 0xe0 | byte(len(c.SPS))}
	for _, nal := range c.SPS {
		b = append(append(b, 0, byte(len(nal))), nal...)
	}
	b = append(b, byte(len(c.PPS)))
	for _, nal := range c.PPS {
		b = append(append(b, 0, byte(len(nal))), nal...)
	}
	if hasChromaFormat(c.SPS[0][1]) {
		b = append(b, 0xfd, 0xf8, 0xf8, 0)
	}
	return b
}

// An spsBits makes the SPS of a 640x360 picture that no encoder at hand makes.
type spsBits struct {
	profile  byte
	id       uint64
	chroma   uint64 // 0 is 1
	scaling  bool   // with three lists: one full, one that ends early, one absent
	pocCycle uint64 // picture order count type 1
	width    uint64 // macroblocks; 0 is 40
	crop     uint64 // at each side
	timing   [2]uint32
	hrd      []hrdBits // of NAL units, then of VCL NAL units; with timing only
	structs  bool      // pic_struct_present_flag; likewise
}

// hrdBits are the lengths in HRD parameters.
type hrdBits struct{ cpb, dpb, offset uint64 }

func (s spsBits) nal() []byte {
	w := bits.NewBitStreamWriter(4096)
	u := func(v uint64, n int) { w.PutUint64(v, n) }
	ue := func(v uint64) {
		n := 0
		for (v+1)>>(n+1) != 0 {
			n++
		}
		if n > 0 {
			u(0, n)
		}
		u(v+1, n+1)
	}
	u(uint64(s.profile), 8)
	u(0, 8)
	u(0x28, 8)
	ue(s.id)
	if hasChromaFormat(s.profile) {
		ue(max(s.chroma, 1))
		ue(0)
		ue(0)
		u(0, 1)
		if s.scaling {
			u(1, 1)
			u(1, 1)
			for range 16 {
				ue(1) // +1
			}
			u(1, 1)
			ue(16) // -8: next is 0, use the default list
			u(0, 3)
			u(0, 1)
			u(1, 1)
			for range 64 {
				ue(1)
			}
			u(0, 1)
		} else {
			u(0, 1)
		}
	}
	ue(0)
	if s.pocCycle > 0 {
		ue(1)
		u(0, 1)
		ue(3)
		ue(4)
		ue(s.pocCycle)
		for i := uint64(0); i < s.pocCycle && i < 10; i++ {
			ue(5)
		}
	} else {
		ue(0)
		ue(0)
	}
	ue(1)
	u(0, 1)
	if s.width > 0 {
		ue(s.width - 1)
	} else {
		ue(39)
	}
	ue(22)
	u(1, 1)
	u(1, 1)
	u(1, 1)
	ue(s.crop)
	ue(s.crop)
	ue(0)
	ue(4 + s.crop)
	if s.timing != [2]uint32{} {
		u(1, 1)
		u(0, 4)
		u(1, 1)
		u(uint64(s.timing[0]), 32)
		u(uint64(s.timing[1]), 32)
		u(1, 1)
		for i := range 2 {
			if i >= len(s.hrd) || s.hrd[i] == (hrdBits{}) {
				u(0, 1)
				continue
			}
			u(1, 1)
			ue(1) // two buffers
			u(0x35, 8)
			for range 2 {
				ue(12345)
				ue(678)
				u(1, 1)
			}
			u(23, 5)
			u(s.hrd[i].cpb-1, 5)
			u(s.hrd[i].dpb-1, 5)
			u(s.hrd[i].offset, 5)
		}
		if len(s.hrd) > 0 {
			u(0, 1)
		}
		if s.structs {
			u(1, 1)
		} else {
			u(0, 1)
		}
		u(0, 1)
	} else {
		u(0, 1)
	}
	u(1, 1)
	return escape(0x67, w.Bits())
}

// escape makes a NAL unit with emulation prevention (ITU-T H.264, 7.4.1).
func escape(header byte, payload []byte) []byte {
	out, zeros := []byte{header}, 0
	for _, b := range payload {
		if zeros == 2 && b <= 3 {
			out, zeros = append(out, 3), 0
		}
		if zeros++; b != 0 {
			zeros = 0
		}
		out = append(out, b)
	}
	return out
}
