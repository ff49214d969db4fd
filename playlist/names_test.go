package playlist

import (
	"math"
	"testing"
)

const someHash = "0123456789abcdef01234567"

var nameCases = []struct {
	s  string
	n  Name
	ok bool
}{
	{"s1.m4s", Name{Kind: Segment, N: 1}, true},
	{"s0.m4s", Name{Kind: Segment}, true},
	{"s1764033360.m4s", Name{Kind: Segment, N: 1764033360}, true},
	{"s18446744073709551615.m4s", Name{Kind: Segment, N: math.MaxUint64}, true},
	{"p0.m4s", Name{Kind: Part}, true},
	{"p90000.m4s", Name{Kind: Part, N: 90000}, true},
	{"p9223372036854775807.m4s", Name{Kind: Part, N: math.MaxInt64}, true},
	{"i" + someHash + ".mp4", Name{Kind: Init, Hash: someHash}, true},
	{"s1.ts", Name{Kind: TSSegment, N: 1}, true},

	{s: "p1.ts"},
	{s: "s01.ts"},
	{s: "s18446744073709551616.m4s"},
	{s: "s99999999999999999999.m4s"},
	{s: "s111111111111111111111.m4s"},
	{s: "p9223372036854775808.m4s"},
	{s: "s01.m4s"},
	{s: "s00.m4s"},
	{s: "s+1.m4s"},
	{s: "s-1.m4s"},
	{s: "p-1.m4s"},
	{s: "s 1.m4s"},
	{s: "s1 .m4s"},
	{s: "s1_0.m4s"},
	{s: "s0x1.m4s"},
	{s: "S1.m4s"},
	{s: "s1.M4S"},
	{s: "s1.mp4"},
	{s: "s1.m4s/"},
	{s: "s1.m4s.m4s"},
	{s: "s.m4s"},
	{s: "p.m4s"},
	{s: ".m4s"},
	{s: ""},
	{s: "s"},
	{s: "x1.m4s"},
	{s: "index.m3u8"},
	{s: "i.mp4"},
	{s: "i0123456789ABCDEF01234567.mp4"},
	{s: "i0123456789abcdef0123456.mp4"},
	{s: "i0123456789abcdef012345678.mp4"},
	{s: "i0123456789abcdef0123456g.mp4"},
	{s: "i" + someHash + ".m4s"},
	{s: "s٣.m4s"},
}

// write is ParseName's inverse.
func (n Name) write() string {
	switch n.Kind {
	case Segment:
		return SegmentName(n.N)
	case Part:
		return PartName(int64(n.N))
	case Init:
		return InitName(n.Hash)
	case TSSegment:
		return TSSegmentName(n.N)
	}
	return ""
}

func TestNames(t *testing.T) {
	for _, c := range nameCases {
		n, ok := ParseName(c.s)
		if ok != c.ok || ok && n != c.n {
			t.Errorf("ParseName(%q) = %+v, %v; want %+v, %v", c.s, n, ok, c.n, c.ok)
		}
		if c.ok && c.n.write() != c.s {
			t.Errorf("%+v is written %q, want %q", c.n, c.n.write(), c.s)
		}
		if a := testing.AllocsPerRun(10, func() { _, _ = ParseName(c.s) }); a != 0 {
			t.Errorf("ParseName(%q) allocates %v times", c.s, a)
		}
	}
}

// FuzzParseName: what parses is written back as it was, so no two names stand for one object.
func FuzzParseName(f *testing.F) {
	for _, c := range nameCases {
		f.Add(c.s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, ok := ParseName(s); ok && n.write() != s {
			t.Errorf("%q parses as %+v, which is written %q", s, n, n.write())
		}
	})
}
