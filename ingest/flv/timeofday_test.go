package flv

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"headwater/ingest"
	"headwater/ingest/amf0"
	"headwater/segmenter/codec"
	"headwater/segmenter/media"
)

// Made by the bit writers of package codec's tests: 25 frames a second with pic_struct_present_flag.
const (
	avcT   = "014d0028ffe10015674d0028f405017fcb0800000300080000030194a001000568cb83cb20"
	spsT   = "674d0028f405017fcb0800000300080000030194a0"
	seiT   = "0601090924051fb68000004080" // picture timing 13:59:07, frame 5
	seiBad = "0601090924001fbc000003004080"
	seiNo  = "0601010480" // without a clock timestamp
)

func onFI(ts int64, values ...any) message {
	m := data(values...)
	m.ts = ts
	return m
}

func st(s string) amf0.Object { return amf0.Object{"sd": "25-11-2026", "st": s} }

const (
	ms      = int64(1e6)
	sec     = 1000 * ms
	at      = (13*3600 + 59*60 + 7) * sec // 13:59:07
	seiTime = at + 200*ms
)

func TestTimeOfDay(t *testing.T) {
	config := v(0, "1700000000", avcT)
	key := func(ts int64, before ...string) message {
		m := v(ts, append([]string{"1701000050"}, append(before, idr)...)...) // presented 80 ms later
		return m
	}
	for _, c := range []struct {
		name     string
		messages []message
		want     []int64 // of each key frame
		bad      uint64
	}{
		{"in picture timing", []message{config, key(0, nal(seiT))}, []int64{seiTime}, 0},
		{"behind other SEI", []message{config, key(0, nal("0604017880"), nal("09f0"), nal(seiT))}, []int64{seiTime}, 0},
		{"in a message of its own", []message{config, v(0, "1701000000", nal("09f0"), nal(seiT)), key(0)}, []int64{seiTime}, 0},
		{"after the picture", []message{config, v(0, "1701000000", idr, nal(seiT))}, []int64{0}, 0},
		{"not asked of other frames", []message{config, v(0, "2701000000", nal(seiBad), inter), onFI(0, "onFI", st("13:59:07.250")), v(0, "2701000000", inter)}, nil, 0},
		{"picture timing without a time", []message{config, key(0, nal(seiNo))}, []int64{0}, 0},
		{"picture timing out of range", []message{config, key(0, nal(seiBad)), key(40)}, []int64{0, 0}, 1},
		{"parameter sets that tell of none", []message{v(0, "1700000000", avcA), key(0, nal(seiT))}, []int64{0}, 0},
		{"parameter sets that come later", []message{v(0, "1700000000", avcA), key(0, nal(spsT), nal(seiT))}, []int64{seiTime}, 0},
		{"length size 2", []message{v(0, "1700000000", "014d0028fd", avcT[10:]), v(0, "1701000000", "000d"+seiT, "0003658888")}, []int64{seiTime}, 0},
		{"onFI", []message{config, onFI(1000, "onFI", st("13:59:07.250")), key(1000), key(3000)}, []int64{at + 330*ms, at + 2330*ms}, 0},
		{"onFi, as data frame", []message{config, onFI(1000, "@setDataFrame", "onFi", st("13:59:07")), key(1000)}, []int64{at + 80*ms}, 0},
		{"onFI after the picture", []message{config, onFI(1000, "onFI", st("13:59:07.2")), key(500)}, []int64{at - 220*ms}, 0},
		{"picture timing before onFI", []message{config, onFI(1000, "onFI", st("01:02:03")), key(1000, nal(seiT)), key(1000, nal(seiNo))},
			[]int64{seiTime, 3723*sec + 80*ms}, 0},
		{"the last onFI counts", []message{config, onFI(0, "onFI", st("01:02:03")), onFI(1000, "onFI", st("13:59:07")), key(1000)}, []int64{at + 80*ms}, 0},
		{"an old onFI", []message{config, onFI(1000, "onFI", st("13:59:07")), key(10_920), key(10_921)}, []int64{at + 10*sec, 0}, 0},
		{"an onFI of another time", []message{config, onFI(0, "onFI", st("13:59:07")), key(1_000_000)}, []int64{0}, 0},
		{"an onFI far ahead", []message{config, onFI(100_000, "onFI", st("13:59:07")), key(0)}, []int64{0}, 0},
		{"over midnight", []message{config, onFI(0, "onFI", st("23:59:59.920")), key(0), key(1)}, []int64{media.Day, ms}, 0},
		{"before midnight", []message{config, onFI(1080, "onFI", st("00:00:00")), key(0), key(1000)}, []int64{media.Day - sec, media.Day}, 0},
		{"time code", []message{config, onFI(0, "onFI", amf0.Object{"tc": "13:59:07:12"}), key(0)}, []int64{at + 560*ms}, 0},
		{"time code that drops", []message{config, onFI(0, "onFI", amf0.Object{"tc": "13:59:07;12"}), key(0)}, []int64{at + 560*ms}, 0},
		{"system time before time code", []message{config, onFI(0, "onFI", amf0.Object{"tc": "01:02:03:04", "st": "13:59:07"}), key(0)}, []int64{at + 80*ms}, 0},
		{"time code of no known rate", []message{onFI(0, "onFI", amf0.Object{"tc": "13:59:07:12"}), config, key(0)}, []int64{0}, 0},
		{"time code past its rate", []message{config, onFI(0, "onFI", amf0.Object{"tc": "13:59:07:25"}), key(0)}, []int64{0}, 1},
		{"garbage", []message{config, onFI(0, "onFI"), onFI(0, "onFI", 5.0), onFI(0, "onFI", amf0.Object{}), onFI(0, "onFI", amf0.Object{"st": 5.0}),
			{'d', 0, "0200046f6e4649" + "0300"}, key(0)}, []int64{0}, 5},
		{"garbage leaves what was said", []message{config, onFI(0, "onFI", st("13:59:07")), onFI(0, "onFI", st("13:59:77")), key(0)}, []int64{at + 80*ms}, 1},
		{"an ECMA array", []message{config, {'d', 0, "0200046f6e4649" + "08" + "00000001" + "00027374" + "02" + "0008" + "31333a35393a3037" + "000009"}, key(0)},
			[]int64{at + 80*ms}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var l log
			d := Demuxer{W: &l}
			for i, m := range c.messages {
				if err := m.send(&d); err != nil {
					t.Fatalf("message %d: %v", i, err)
				}
			}
			if d := cmp.Diff(c.want, l.times); d != "" {
				t.Error(d)
			}
			if s := d.Stats(); s.BadTime != c.bad {
				t.Errorf("%+v", s)
			}
		})
	}
}

// Every track of a connection takes its time from the same onFI, by its own presentation time.
func TestTimeOfDayOfTracks(t *testing.T) {
	var first, second log
	d := Demuxer{W: &first, Open: func(int) (ingest.Writer, error) { return &second, nil }}
	for _, m := range []message{v(0, "96", "10", avc1, sized(0, avcA), sized(1, avcT)), onFI(1000, "onFI", st("13:59:07.250")),
		v(2000, "96", "11", avc1, sized(0, "000000"+idr), sized(1, "000050"+idr)), v(2040, "96", "13", avc1, sized(1, nal(seiT)+idr))} {
		if err := m.send(&d); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff([][]int64{{at + 1250*ms}, {at + 1330*ms, seiTime}}, [][]int64{first.times, second.times}); d != "" {
		t.Error(d)
	}
}

func TestParseTime(t *testing.T) {
	for s, want := range map[string]int64{
		"00:00:00": media.Day, "00:00:00.000": media.Day, "00:00:00.001": ms, "23:59:59.999999999": media.Day - 1, "9:5:7.5": 32707*sec + 500*ms,
		"": 0, "13:59": 0, "13:59:07:12": 0, "24:00:00": 0, "13:60:00": 0, "13:59:60": 0, "13:59:07.": 0, "13:59:07.1234567890": 0, "-1:00:00": 0,
		"13:59:07.-1": 0, "13:59:+7": 0, "13:59:07.12x": 0, "x13:59:07": 0, "::": 0, "0000000000001:00:00": 0,
	} {
		if got := parseTime(s); got != want {
			t.Errorf("%q: %d, want %d", s, got, want)
		}
	}
	if a, b := parseTimeCode("01:00:00:29", 30000./1001), int64(3600*sec+967633333); a != b {
		t.Errorf("%d, want %d", a, b)
	}
	if parseTimeCode("01:00:00:30", 30000./1001) != 0 || parseTimeCode("01:00:00", 30) != 0 {
		t.Error("a time code out of range")
	}
}

// FuzzOnFI has the time of a key frame in its range, or none.
func FuzzOnFI(f *testing.F) {
	for _, s := range []string{"13:59:07.250", "24:00:00", "00:00:00", "::.", "13:59:07:12"} {
		f.Add(s, s, 25., int64(1000), int64(3000))
	}
	f.Fuzz(func(t *testing.T, st, tc string, rate float64, ts, key int64) {
		for _, got := range []int64{parseTime(st), parseTimeCode(tc, rate)} {
			if got < 0 || got > media.Day {
				t.Fatal(got)
			}
		}
		var l log
		d := Demuxer{W: &l}
		for _, m := range []message{v(0, "1700000000", avcT), onFI(ts, "onFI", amf0.Object{"st": st}), onFI(ts, "onFI", amf0.Object{"tc": tc}), v(key, "1701000000", idr)} {
			if err := m.send(&d); err != nil {
				t.Fatal(err)
			}
		}
		if len(l.times) != 1 || l.times[0] < 0 || l.times[0] > media.Day {
			t.Fatal(l.times)
		}
	})
}

// The time of day costs nothing where there is none, and little where there is: key frames are few.
func BenchmarkTimeOfDay(b *testing.B) {
	p, err := codec.ParsePictureTiming(mustHex(spsT))
	if err != nil {
		b.Fatal(err)
	}
	au := mustHex(nal(seiT) + idr)
	d, track := Demuxer{}, &videoTrack{kind: avcKind, timing: p}
	b.ReportAllocs()
	for b.Loop() {
		if d.clock(track, au, 0) != seiTime {
			b.Fatal("no time")
		}
	}
}
