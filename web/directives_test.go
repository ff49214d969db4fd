package web

import (
	"net/url"
	"strconv"
	"strings"
	"testing"

	"headwater/playlist"
)

// RFC 8216bis 6.2.5.
var directiveCases = []struct {
	query string
	want  directives
	bad   bool
}{
	{query: "", want: directives{part: -1}},
	{query: "_HLS_msn=12", want: directives{msn: 12, part: -1, blocking: true}},
	{query: "_HLS_msn=0", want: directives{msn: 0, part: -1, blocking: true}},
	{query: "_HLS_msn=007", want: directives{msn: 7, part: -1, blocking: true}},
	{query: "_HLS_msn=12&_HLS_part=3", want: directives{msn: 12, part: 3, blocking: true}},
	{query: "_HLS_part=3&_HLS_msn=12", want: directives{msn: 12, part: 3, blocking: true}},
	{query: "a=b&_HLS_part=0&x&_HLS_msn=12&&CMCD=bl%3D3", want: directives{msn: 12, part: 0, blocking: true}},
	{query: "_HLS_skip=YES", want: directives{part: -1, skip: playlist.SkipYes}},
	{query: "_HLS_skip=v2&_HLS_msn=1", want: directives{msn: 1, part: -1, blocking: true, skip: playlist.SkipV2}},
	{query: "_HLS_skip=yes", want: directives{part: -1}},
	{query: "_HLS_skip=", want: directives{part: -1}},
	{query: "_HLS_skip=v3", want: directives{part: -1}},
	{query: "_HLS_other=x&_HLS_other=y", want: directives{part: -1}},
	{query: "_hls_msn=x", want: directives{part: -1}},
	{query: "x_HLS_msn=x", want: directives{part: -1}},
	{query: "%5FHLS_m%73n=%31%32", want: directives{msn: 12, part: -1, blocking: true}},
	{query: "%zz=1&_HLS_msn%=2&_HLS_ms%6=3", want: directives{part: -1}},
	{query: "_HLS_msn=18446744073709551615", want: directives{msn: 1<<64 - 1, part: -1, blocking: true}},
	{query: "_HLS_msn=1&_HLS_part=18446744073709551615", want: directives{msn: 1, part: 1<<31 - 1, blocking: true}},

	{query: "_HLS_part=3", bad: true},
	{query: "_HLS_part=3&_HLS_skip=YES", bad: true},
	{query: "_HLS_msn", bad: true},
	{query: "_HLS_msn=", bad: true},
	{query: "_HLS_msn=-1", bad: true},
	{query: "_HLS_msn=+1", bad: true},
	{query: "_HLS_msn=%2B1", bad: true},
	{query: "_HLS_msn=1.5", bad: true},
	{query: "_HLS_msn=0x10", bad: true},
	{query: "_HLS_msn=1%20", bad: true},
	{query: "_HLS_msn=%zz", bad: true},
	{query: "_HLS_msn=%3", bad: true},
	{query: "_HLS_msn=1=2", bad: true},
	{query: "_HLS_msn=1;_HLS_part=0", bad: true},
	{query: "_HLS_msn=18446744073709551616", bad: true},
	{query: "_HLS_msn=99999999999999999999999999", bad: true},
	{query: "_HLS_msn=1&_HLS_part=-1", bad: true},
	{query: "_HLS_msn=1&_HLS_part=", bad: true},
	{query: "_HLS_msn=1&_HLS_part=18446744073709551616", bad: true},
	{query: "_HLS_msn=1&_HLS_msn=1", bad: true},
	{query: "_HLS_msn=1&%5fHLS_msn=2", bad: true},
	{query: "_HLS_msn=1&_HLS_part=1&_HLS_part=1", bad: true},
	{query: "_HLS_skip=YES&_HLS_skip=YES", bad: true},
}

func TestDirectives(t *testing.T) {
	for _, c := range directiveCases {
		got, ok := parseDirectives(c.query)
		if ok == c.bad || ok && got != c.want {
			t.Errorf("%q: %+v, %v; want %+v, bad %v", c.query, got, ok, c.want, c.bad)
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		parseDirectives("CMCD=bl%3D21300%2Cbr%3D3200&_HLS_msn=1234&_HLS_part=3&_HLS_skip=YES")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzDirectives compares with net/url, which reads the same format at leisure.
func FuzzDirectives(f *testing.F) {
	for _, c := range directiveCases {
		f.Add(c.query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		got, ok := parseDirectives(query)
		if strings.Contains(query, ";") {
			return // net/url refuses them
		}
		values := url.Values{}
		for pair := range strings.SplitSeq(query, "&") {
			k, v, _ := strings.Cut(pair, "=")
			name, err := url.QueryUnescape(k)
			if err != nil {
				continue
			}
			value, err := url.QueryUnescape(v)
			if err != nil {
				value = "broken"
			}
			values.Add(name, value)
		}
		number := func(name string) (n uint64, present, good bool) {
			v, present := values[name]
			if !present {
				return 0, false, true
			}
			for _, c := range v[0] {
				if c < '0' || c > '9' {
					return 0, true, false
				}
			}
			n, err := strconv.ParseUint(v[0], 10, 64)
			return n, true, err == nil && len(v) == 1
		}
		msn, hasMSN, goodMSN := number("_HLS_msn")
		part, hasPart, goodPart := number("_HLS_part")
		want := goodMSN && goodPart && (hasMSN || !hasPart) && len(values["_HLS_skip"]) <= 1
		if ok != want {
			t.Fatalf("%q: ok %v, want %v", query, ok, want)
		}
		if !ok {
			return
		}
		if got.blocking != hasMSN || got.msn != msn || hasPart != (got.part >= 0) || hasPart && got.part != int(min(part, 1<<31-1)) {
			t.Fatalf("%q: %+v", query, got)
		}
		if skip := values.Get("_HLS_skip"); (got.skip == playlist.SkipYes) != (skip == "YES") || (got.skip == playlist.SkipV2) != (skip == "v2") {
			t.Fatalf("%q: skip %v", query, got.skip)
		}
	})
}
