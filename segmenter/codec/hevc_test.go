package codec

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/Eyevinn/mp4ff/hevc"
	"github.com/google/go-cmp/cmp"

	"headwater/segmenter/media"
)

// What x265 3.5 makes of ffmpeg's testsrc2, without its SEI.
const (
	hevc180  = "0101600000009000000000003cf000fcfdf8f800000f03a00001001840010c01ffff01600000030090000003000003003c959009a10001002b42010101600000030090000003000003003ca00a080c1f3e595912930bc05a020000030002000003003c10a2000100064401c073c189"
	hevcHDR  = "0102200000009000000000007bf000fcfdfafa00000f03a00001001840010c01ffff02200000030090000003000003007b959409a10001003042010102200000030090000003000003007ba003c0801107cad965654a4c2f016a122012080000030008000003019040a2000100064401c073c189"
	hevcWide = "0101600000009000000000005af000fcfdf8f800000f03a00001001840010c01ffff01600000030090000003000003005a959809a10001002b42010101600000030090000003000003005aa005a20090596566924caf046808000003000800000300c840a2000100074401c172b46240"
)

var hevcCases = []struct {
	name string
	hex  string
	want media.Track // of which ID, Kind, Type, Timescale and Config are the same for all
	err  string
}{
	{name: "Main, 30 frames a second", hex: hevc180,
		want: media.Track{Codec: media.Codec{String: "hvc1.1.6.L60.90"}, Width: 320, Height: 180, FrameRate: media.Ratio{Num: 30, Den: 1}}},
	{name: "Main 10, HDR, 50 frames a second", hex: hevcHDR,
		want: media.Track{Codec: media.Codec{String: "hvc1.2.4.L123.90"}, Width: 1920, Height: 1080, FrameRate: media.Ratio{Num: 50, Den: 1},
			Color: media.Color{Primaries: 9, Transfer: 16, Matrix: 9}}},
	{name: "pixels that are wide", hex: hevcWide,
		want: media.Track{Codec: media.Codec{String: "hvc1.1.6.L90.90"}, Width: 720, Height: 576, FrameRate: media.Ratio{Num: 25, Den: 1},
			PixelAspect: media.Ratio{Num: 16, Den: 11}}},
	{name: "empty", hex: "", err: "0 bytes long"},
	{name: "version 2", hex: "02" + hevc180[2:], err: "version 2"},
	{name: "without arrays", hex: hevc180[:44] + "00", err: "0 VPS"},
	{name: "ends in an array", hex: hevc180[:len(hevc180)-2], err: "ends inside"},
	{name: "length size of 3", hex: hevc180[:42] + "0e" + hevc180[44:], err: "length size of 3"},
	{name: "something else for a VPS", hex: strings.Replace(hevc180, "40010c01", "42010c01", 1), err: "something else"},
	{name: "too long", hex: strings.Repeat("01", MaxConfig+1), err: "at most"},
}

func TestHEVC(t *testing.T) {
	for _, c := range hevcCases {
		t.Run(c.name, func(t *testing.T) {
			record, err := hex.DecodeString(c.hex)
			if err != nil {
				t.Fatal(err)
			}
			got, err := HEVC(record)
			if c.err != "" {
				var format *media.FormatError
				if err == nil || !strings.Contains(err.Error(), c.err) || !errors.As(err, &format) {
					t.Fatalf("error %T %v, want one that says %q", err, err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			c.want.ID, c.want.Kind, c.want.Timescale = 1, media.Video, 90000
			c.want.Codec.Type, c.want.Codec.Config = "hvc1", record
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
			config, err := ParseHEVCConfig(record)
			if err != nil {
				t.Fatal(err)
			}
			// mp4ff has a parser and a writer of codec strings of its own.
			theirs, err := hevc.ParseSPSNALUnit(config.SPS[0])
			if err != nil {
				t.Fatal(err)
			}
			if s := hevc.CodecString("hvc1", theirs); s != got.Codec.String {
				t.Errorf("mp4ff says %s", s)
			}
			if w, h := theirs.ImageSize(); int(w) != got.Width || int(h) != got.Height {
				t.Errorf("mp4ff says %dx%d", w, h)
			}
			again, err := config.Append(nil)
			if err != nil || hevcStringOf(t, again) != got.Codec.String {
				t.Errorf("made again, it is %x, %v", again, err)
			}
			if d, err := ParseHEVCConfig(again); err != nil || !cmp.Equal(d, config) {
				t.Errorf("made again, it has %+v, %v", d, err)
			}
		})
	}
}

// What encoders send with version 0, or as if there were parameter sets in the stream besides, is made what hvc1 has: version 1, and
// all parameter sets in the record (ISO/IEC 14496-15, 8.3.3.1.3 and 8.4.1.1). Other arrays are left as they are.
func TestHEVCComplete(t *testing.T) {
	const sei = "270001" + "00044e010580"
	arrays := strings.NewReplacer("a0000100", "20000100", "a1000100", "21000100", "a2000100", "22000100")
	given, _ := hex.DecodeString("00" + arrays.Replace(hevc180)[2:44] + "04" + arrays.Replace(hevc180)[46:] + sei)
	before := hex.EncodeToString(given)
	track, err := HEVC(given)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := hex.EncodeToString(track.Codec.Config), hevc180[:44]+"04"+hevc180[46:]+sei; got != want {
		t.Errorf("%s, want\n%s", got, want)
	}
	if hex.EncodeToString(given) != before {
		t.Error("HEVC has modified its argument")
	}
}

func hevcStringOf(t *testing.T, record []byte) string {
	t.Helper()
	track, err := HEVC(record)
	if err != nil {
		t.Fatal(err)
	}
	return track.Codec.String
}

// Parameter sets in the stream take the place of those with their identifiers.
func TestHEVCReplace(t *testing.T) {
	parse := func(s string) HEVCConfig {
		record, _ := hex.DecodeString(s)
		c, err := ParseHEVCConfig(record)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c, other := parse(hevc180), parse(hevcHDR)
	for _, nal := range [][]byte{c.VPS[0], c.SPS[0], c.PPS[0]} {
		if changed, err := c.Replace(nal); changed || err != nil || !c.Have(nal) {
			t.Errorf("%x: changed %v, %v", nal, changed, err)
		}
	}
	for _, nal := range [][]byte{other.VPS[0], other.SPS[0]} {
		if c.Have(nal) {
			t.Errorf("has %x already", nal)
		}
		if changed, err := c.Replace(nal); !changed || err != nil || !c.Have(nal) {
			t.Errorf("%x: changed %v, %v", nal, changed, err)
		}
	}
	if len(c.VPS) != 1 || len(c.SPS) != 1 || len(c.PPS) != 1 {
		t.Errorf("%d, %d, %d sets", len(c.VPS), len(c.SPS), len(c.PPS))
	}
	record, err := c.Append(nil)
	if err != nil || hevcStringOf(t, record) != "hvc1.2.4.L123.90" {
		t.Errorf("%x, %v", record, err)
	}
	for _, nal := range [][]byte{nil, {0x42, 1}, {0x02, 1, 2, 3}, {0x42, 1, 1}, make([]byte, MaxConfig+1)} {
		if _, err := c.Replace(nal); err == nil {
			t.Errorf("Replace(%.8x) accepted", nal)
		}
	}
}

func FuzzHEVC(f *testing.F) {
	for _, c := range hevcCases {
		if b, err := hex.DecodeString(c.hex); err == nil && len(b) < 1000 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		track, err := HEVC(b)
		if err != nil {
			return
		}
		if track.Width < 1 || track.Height < 1 || track.Width > maxHEVCSide || track.Height > maxHEVCSide {
			t.Fatalf("%+v", track)
		}
		c, _ := ParseHEVCConfig(b)
		if again, err := c.Append(nil); err == nil {
			if same, err := HEVC(again); err != nil || same.Width != track.Width || same.FrameRate != track.FrameRate {
				t.Fatalf("made again, %x is %+v, %v", again, same, err)
			}
		}
	})
}
