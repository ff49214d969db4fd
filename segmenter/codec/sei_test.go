package codec

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/Eyevinn/mp4ff/avc"
	"github.com/Eyevinn/mp4ff/sei"
	bits "github.com/yapingcat/gomedia/go-codec"

	"headwater/segmenter/media"
)

// A clockBits is one clock timestamp. The zero one is absent, the others have the flags as given.
type clockBits struct {
	set, nuit, full           bool
	frames, second, min, hour uint64
	flags                     int // of seconds, minutes and hours, how many are there; when not full
	offset                    int64
}

// A timingBits makes the payload of a picture timing message.
type timingBits struct {
	structure uint64
	hrd       hrdBits
	clocks    []clockBits
}

func (m timingBits) payload() []byte {
	w := bits.NewBitStreamWriter(256)
	n := 0
	u := func(v uint64, bits int) {
		if n += bits; bits > 0 {
			w.PutUint64(v, bits)
		}
	}
	flag := func(b bool) {
		if b {
			u(1, 1)
		} else {
			u(0, 1)
		}
	}
	offset := m.hrd.offset
	if m.hrd.cpb > 0 {
		u(5, int(m.hrd.cpb))
		u(3, int(m.hrd.dpb))
	} else {
		offset = 24
	}
	u(m.structure, 4)
	for _, c := range m.clocks {
		if flag(c.set); !c.set {
			continue
		}
		u(0, 2)
		flag(c.nuit)
		u(4, 5)
		flag(c.full)
		u(0, 2)
		u(c.frames, 8)
		if c.full {
			u(c.second, 6)
			u(c.min, 6)
			u(c.hour, 5)
		} else {
			for i, v := range []uint64{c.second, c.min, c.hour} {
				if flag(i < c.flags); i >= c.flags {
					break
				}
				u(v, []int{6, 6, 5}[i])
			}
		}
		u(uint64(c.offset)&(1<<offset-1), int(offset))
	}
	if n%8 != 0 {
		u(1, 1)
		for n%8 != 0 {
			u(0, 1)
		}
	}
	return w.Bits()
}

// seiOf makes an SEI NAL unit of messages.
func seiOf(messages ...[]byte) []byte { return escape(6, append(bytes.Join(messages, nil), 0x80)) }

// seiMessage is one of them.
func seiMessage(typ int, payload []byte) []byte {
	var b []byte
	for _, n := range []int{typ, len(payload)} {
		for ; n >= 255; n -= 255 {
			b = append(b, 255)
		}
		b = append(b, byte(n))
	}
	return append(b, payload...)
}

const (
	sec = int64(media.Second)
	at  = (13*3600 + 59*60 + 7) * sec // 13:59:07
)

var (
	full      = clockBits{set: true, nuit: true, full: true, hour: 13, min: 59, second: 7}
	hrd24     = hrdBits{cpb: 24, dpb: 24, offset: 24}
	hrd32     = hrdBits{cpb: 32, dpb: 5, offset: 31}
	hrd5      = hrdBits{cpb: 1, dpb: 1, offset: 5}
	hrdNone   = hrdBits{cpb: 10, dpb: 9}
	fifty     = [2]uint32{1, 50} // 25 frames a second
	drop60    = [2]uint32{1001, 120000}
	transport = [2]uint32{1, 180000}
)

func (c clockBits) with(f func(*clockBits)) clockBits { f(&c); return c }

var clockCases = []struct {
	name    string
	timing  [2]uint32
	hrd     []hrdBits
	message timingBits
	want    int64
	err     string
}{
	{name: "full", timing: fifty, message: timingBits{clocks: []clockBits{full}}, want: at},
	{name: "midnight is a day", timing: fifty, message: timingBits{clocks: []clockBits{{set: true, full: true}}}, want: media.Day},
	{name: "frames of two units", timing: fifty, message: timingBits{clocks: []clockBits{full.with(func(c *clockBits) { c.frames = 24 })}}, want: at + 24*sec/25},
	{name: "frames of one unit", timing: fifty, message: timingBits{clocks: []clockBits{full.with(func(c *clockBits) { c.frames, c.nuit = 24, false })}}, want: at + 12*sec/25},
	{name: "59.94 frames a second", timing: drop60, message: timingBits{clocks: []clockBits{full.with(func(c *clockBits) { c.frames = 59 })}}, want: at + 984316667},
	{name: "time offset of 24 bits without HRD", timing: fifty, message: timingBits{clocks: []clockBits{full.with(func(c *clockBits) { c.offset = -25 })}}, want: at - sec/2},
	{name: "before midnight", timing: fifty, message: timingBits{clocks: []clockBits{{set: true, full: true, offset: -1}}}, want: media.Day - sec/50},
	{name: "with HRD", timing: fifty, hrd: []hrdBits{hrd24}, message: timingBits{hrd: hrd24, clocks: []clockBits{full}}, want: at},
	{name: "with HRD of VCL NAL units", timing: fifty, hrd: []hrdBits{{}, hrd32}, message: timingBits{hrd: hrd32, clocks: []clockBits{full.with(func(c *clockBits) { c.offset = 50 })}}, want: at + sec},
	{name: "with both", timing: fifty, hrd: []hrdBits{hrd5, hrd5}, message: timingBits{hrd: hrd5, clocks: []clockBits{full.with(func(c *clockBits) { c.offset = -16 })}}, want: at - 16*sec/50},
	{name: "without time offset", timing: fifty, hrd: []hrdBits{hrdNone}, message: timingBits{hrd: hrdNone, clocks: []clockBits{full}}, want: at},
	{name: "not full, but complete", timing: fifty, message: timingBits{clocks: []clockBits{full.with(func(c *clockBits) { c.full, c.flags = false, 3 })}}, want: at},
	{name: "hours of an earlier one", timing: fifty, message: timingBits{clocks: []clockBits{full.with(func(c *clockBits) { c.full, c.flags = false, 2 })}}},
	{name: "seconds of an earlier one", timing: fifty, message: timingBits{clocks: []clockBits{full.with(func(c *clockBits) { c.full, c.flags = false, 0 })}}},
	{name: "the second of two fields", timing: fifty, message: timingBits{structure: 3, clocks: []clockBits{{}, full}}, want: at},
	{name: "the third of three fields", timing: fifty, message: timingBits{structure: 5, clocks: []clockBits{{}, {}, full}}, want: at},
	{name: "none", timing: fifty, message: timingBits{structure: 8, clocks: []clockBits{{}, {}, {}}}},
	{name: "as many frames as a second has", timing: fifty, message: timingBits{clocks: []clockBits{full.with(func(c *clockBits) { c.frames = 25 })}}, err: "25 frames"},
	{name: "second 60", timing: fifty, message: timingBits{clocks: []clockBits{full.with(func(c *clockBits) { c.second = 60 })}}, err: "13:59:60"},
	{name: "minute 60", timing: fifty, message: timingBits{clocks: []clockBits{full.with(func(c *clockBits) { c.min = 60 })}}, err: "13:60:7"},
	{name: "hour 24", timing: fifty, message: timingBits{clocks: []clockBits{full.with(func(c *clockBits) { c.hour = 24 })}}, err: "24:59:7"},
	{name: "reserved structure", timing: fifty, message: timingBits{structure: 9}, err: "pic_struct 9"},
	{name: "cut off", timing: fifty, message: timingBits{structure: 5}, err: "ends early"},
	{name: "ticks of the transport", timing: transport, message: timingBits{clocks: []clockBits{full}}},
}

func TestClock(t *testing.T) {
	for _, c := range clockCases {
		t.Run(c.name, func(t *testing.T) {
			set := spsBits{profile: 77, timing: c.timing, hrd: c.hrd, structs: true}.nal()
			p, err := ParsePictureTiming(set)
			if err != nil {
				t.Fatal(err)
			}
			message := seiMessage(1, c.message.payload())
			for name, nal := range map[string][]byte{
				"alone":             seiOf(message),
				"behind others":     seiOf(seiMessage(5, bytes.Repeat([]byte{0, 0, 1}, 200)), seiMessage(300, nil), message, seiMessage(4, []byte("x"))),
				"with zeros behind": append(seiOf(message), 0, 0),
			} {
				before := hex.EncodeToString(nal)
				got, err := p.Clock(nal)
				var format *media.FormatError
				if c.err != "" && (!errors.As(err, &format) || !strings.Contains(err.Error(), c.err)) || c.err == "" && err != nil || got != c.want {
					t.Errorf("%s: %d, %v; want %d, %q", name, got, err, c.want, c.err)
				}
				if hex.EncodeToString(nal) != before {
					t.Errorf("%s: the argument was modified", name)
				}
			}
		})
	}
}

// TestClockSecondOpinion compares with mp4ff.
func TestClockSecondOpinion(t *testing.T) {
	for _, c := range clockCases {
		if c.want == 0 {
			continue
		}
		set := spsBits{profile: 77, timing: c.timing, hrd: c.hrd, structs: true}.nal()
		theirs, err := avc.ParseSPSNALUnit(set, true)
		if err != nil || !theirs.VUI.PicStructPresentFlag {
			t.Fatalf("%s: %v", c.name, err)
		}
		hrd := theirs.VUI.NalHrdParameters
		if hrd == nil {
			hrd = theirs.VUI.VclHrdParameters
		}
		var delays *sei.CbpDbpDelay
		offset := byte(24)
		if hrd != nil {
			delays = &sei.CbpDbpDelay{CpbRemovalDelayLengthMinus1: byte(hrd.CpbRemovalDelayLengthMinus1),
				DpbOutputDelayLengthMinus1: byte(hrd.DpbOutputDelayLengthMinus1)}
			offset = byte(hrd.TimeOffsetLength)
		}
		m, err := sei.DecodePicTimingAvcSEIHRD(sei.NewSEIData(1, c.message.payload()), delays, offset)
		if err != nil {
			t.Fatalf("%s: mp4ff: %v", c.name, err)
		}
		for _, k := range m.(*sei.PicTimingAvcSEI).Clocks {
			if !k.ClockTimeStampFlag {
				continue
			}
			units := float64(theirs.VUI.NumUnitsInTick)
			if k.NuitFieldBasedFlag {
				units *= 2
			}
			want := float64((int(k.Hours)*60+int(k.Minutes))*60+int(k.Seconds)) + (float64(k.NFrames)*units+float64(k.TimeOffsetValue))/float64(theirs.VUI.TimeScale)
			if want <= 0 {
				want += 86400
			}
			if got := float64(c.want) / media.Second; got-want > 1e-6 || want-got > 1e-6 {
				t.Errorf("%s: %f, mp4ff says %f", c.name, got, want)
			}
		}
	}
}

// Rungs that state one frame rate differently, and rates that do not divide a second, have equal times for equal labels.
func TestClockAcrossRungs(t *testing.T) {
	var want int64
	for _, timing := range [][2]uint32{{1001, 60000}, {2002, 120000}, {1001000, 60000000}} {
		p, err := ParsePictureTiming(spsBits{profile: 77, timing: timing, structs: true}.nal())
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.Clock(seiOf(seiMessage(1, timingBits{clocks: []clockBits{full.with(func(c *clockBits) { c.frames = 17 })}}.payload())))
		if want == 0 {
			want = got
		}
		if err != nil || got == 0 || got != want {
			t.Errorf("%v: %d, %v; want %d", timing, got, err, want)
		}
	}
}

func TestPictureTimingAbsent(t *testing.T) {
	clock := seiOf(seiMessage(1, timingBits{clocks: []clockBits{full}}.payload()))
	for name, set := range map[string]spsBits{
		"no VUI": {profile: 77}, "no pic_struct": {profile: 77, timing: fifty}, "no pic_struct, HRD": {profile: 77, timing: fifty, hrd: []hrdBits{hrd24}},
	} {
		p, err := ParsePictureTiming(set.nal())
		if err != nil || p.Told() {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
		if got, err := p.Clock(clock); got != 0 || err != nil {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
	whole := spsBits{profile: 77, timing: fifty, hrd: []hrdBits{hrd24}, structs: true}.nal()
	if p, err := ParsePictureTiming(whole[:len(whole)-8]); err == nil || p.Told() {
		t.Errorf("an SPS that ends in its HRD parameters: %+v, %v", p, err)
	}
	if _, err := H264(record(4, whole[:len(whole)-8], pps)); err != nil {
		t.Errorf("but its pictures can be decoded: %v", err)
	}
}

func TestRecoveryPoint(t *testing.T) {
	for messages, want := range map[string]bool{
		"06010480":                                        true,
		"01020000060104" + "80":                           true,
		"0103000003" + "01060104" + "80":                  true,  // with an emulation prevention byte, which does not count
		"0104000003" + "010601" + "80":                    false, // there is one that is not
		"05ff01" + strings.Repeat("06", 256) + "06010480": true,
		"ff06" + "020006" + "80":                          false, // type 261
		"0601":                                            true,
		"05ff":                                            false,
		"ffff":                                            false,
		"06":                                              false,
		"80":                                              false,
		"":                                                false,
	} {
		b, err := hex.DecodeString(messages)
		if err != nil {
			t.Fatal(err)
		}
		if got := RecoveryPoint(b); got != want {
			t.Errorf("%s: %v", messages, got)
		}
		if n := testing.AllocsPerRun(10, func() { RecoveryPoint(b) }); len(b) <= 256 && n > 0 {
			t.Errorf("%s: %v allocations", messages, n)
		}
	}
}

func TestClockMalformedSEI(t *testing.T) {
	p, err := ParsePictureTiming(spsBits{profile: 77, timing: fifty, structs: true}.nal())
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []string{"0601ff80", "06ffff80", "0601", "06010480", "0604058080"} {
		nal, _ := hex.DecodeString(h)
		got, err := p.Clock(nal)
		var format *media.FormatError
		if got != 0 || len(nal) > 2 && !errors.As(err, &format) {
			t.Errorf("%s: %d, %v", h, got, err)
		}
	}
	for _, nal := range [][]byte{nil, {6}, {0x65, 1, 2, 3}, make([]byte, MaxConfig+1)} {
		if got, err := p.Clock(nal); got != 0 || err != nil {
			t.Errorf("%.8x: %d, %v", nal, got, err)
		}
	}
}

func FuzzClock(f *testing.F) {
	for _, c := range clockCases {
		f.Add(spsBits{profile: 77, timing: c.timing, hrd: c.hrd, structs: true}.nal(), seiOf(seiMessage(5, []byte("abc")), seiMessage(1, c.message.payload())))
	}
	f.Fuzz(func(t *testing.T, set, nal []byte) {
		var format *media.FormatError
		p, err := ParsePictureTiming(set)
		if err != nil && (!errors.As(err, &format) || p.Told()) {
			t.Fatalf("%T, %+v", err, p)
		}
		RecoveryPoint(nal)
		got, err := p.Clock(nal)
		if err != nil && !errors.As(err, &format) || got < 0 || got > media.Day || err != nil && got != 0 {
			t.Fatalf("%d, %v", got, err)
		}
	})
}

func BenchmarkClock(b *testing.B) {
	p, err := ParsePictureTiming(spsBits{profile: 77, timing: fifty, hrd: []hrdBits{hrd24}, structs: true}.nal())
	if err != nil {
		b.Fatal(err)
	}
	nal := seiOf(seiMessage(1, timingBits{hrd: hrd24, clocks: []clockBits{full}}.payload()))
	b.ReportAllocs()
	for b.Loop() {
		if c, err := p.Clock(nal); c != at || err != nil {
			b.Fatal(c, err)
		}
	}
}
