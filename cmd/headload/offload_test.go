package main

import (
	"bytes"
	"compress/gzip"
	"strings"
	"testing"
)

func TestSumRequests(t *testing.T) {
	for _, tt := range []struct {
		text string
		sum  float64
		bad  bool
	}{
		{"", 0, false},
		{"# HELP headwater_http_requests_total x\nheadwater_http_requests_total{class=\"part\",status=\"200\"} 12\n" +
			"headwater_http_requests_total{class=\"part\",status=\"404\"} 1.5e+02\nheadwater_http_requests_totals{class=\"part\"} 7\n", 162, false},
		{"headwater_http_requests_total{class=\"part\"}\n", 0, true},
		{"headwater_http_requests_total{class=\"part\"} many\n", 0, true},
	} {
		if sum, err := sumRequests(strings.NewReader(tt.text)); sum != tt.sum && !tt.bad || (err != nil) != tt.bad {
			t.Errorf("%q: %v, %v", tt.text, sum, err)
		}
	}
}

func TestAlike(t *testing.T) {
	for _, tt := range []struct {
		a, b offloadRow
		want bool
	}{
		{offloadRow{Origin: 200, Seconds: 60}, offloadRow{Origin: 209, Seconds: 60}, true},
		{offloadRow{Origin: 200, Seconds: 60}, offloadRow{Origin: 211, Seconds: 60}, false},
		{offloadRow{Origin: 200, Seconds: 60}, offloadRow{Origin: 189, Seconds: 60}, false},
		{offloadRow{Origin: 200, Seconds: 60}, offloadRow{Origin: 400, Seconds: 120}, true},
		{offloadRow{Origin: 20, Seconds: 5}, offloadRow{Origin: 24, Seconds: 5}, true}, // the ends
		{offloadRow{Origin: 20, Seconds: 5}, offloadRow{Origin: 25, Seconds: 5}, false},
		{offloadRow{Origin: 20, Seconds: 5}, offloadRow{Origin: 200, Seconds: 5}, false},
	} {
		if got := alike(&tt.a, &tt.b, 0.05); got != tt.want {
			t.Errorf("%v in %v s and %v in %v s are alike: %v", tt.a.Origin, tt.a.Seconds, tt.b.Origin, tt.b.Seconds, got)
		}
	}
}

func TestOffloadTable(t *testing.T) {
	r := &offloadReport{Rows: []offloadRow{{Edge: "nginx", Kind: "both", Players: 1000, Seconds: 60, AtEdge: 120_000, Origin: 240,
		Reports: []*playReport{{Examples: []string{"an example"}}}, Faults: map[string]int{"timeout": 3}}}}
	for _, want := range []string{"| nginx | 1000 low-latency + 1000 ordinary | 60 s | 120000 | 240 | 500 : 1 | 0 |", "3 x timeout", "an example"} {
		if !strings.Contains(r.String(), want) {
			t.Errorf("%q is not in\n%s", want, r)
		}
	}
}

// A memo makes of the same bytes the same playlist, and holds a bounded number of them.
func TestMemo(t *testing.T) {
	m := newMemo()
	const text = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:2,\ns7\n"
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write([]byte(text))
	z.Close()
	for range 2 {
		plain, err := m.unpack(bytes.Clone(packed.Bytes()))
		if err != nil || string(plain) != text {
			t.Fatalf("%q, %v", plain, err)
		}
		a, err := m.parse(plain)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := m.parse([]byte(text)); a != b || a.msn != 7 {
			t.Error("the same bytes are two playlists")
		}
	}
	if _, err := m.unpack([]byte("no gzip")); err == nil {
		t.Error("no error for what is not compressed")
	}
	if _, err := m.parse([]byte("no playlist")); err == nil {
		t.Error("no error for what is no playlist")
	}
	for i := range 3 * maxMemo {
		if _, err := m.parse([]byte(text + "#" + strings.Repeat("x", i) + "\n")); err != nil {
			t.Fatal(err)
		}
	}
	if len(m.parsed) > maxMemo {
		t.Errorf("%d playlists are kept", len(m.parsed))
	}
}
