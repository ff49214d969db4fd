package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const lowLatencyPlaylist = `#EXTM3U
#EXT-X-VERSION:9
#EXT-X-TARGETDURATION:2
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.002,CAN-SKIP-UNTIL=12,HOLD-BACK=6
#EXT-X-PART-INF:PART-TARGET=0.334
#EXT-X-MEDIA-SEQUENCE:100
#EXT-X-MAP:URI="i1.mp4"
#EXT-X-PROGRAM-DATE-TIME:2024-05-01T12:00:00.000Z
#EXTINF:2.00000,
s100.m4s
#EXT-X-PART:DURATION=1.0,URI="p0.m4s",INDEPENDENT=YES
#EXT-X-PART:DURATION=1.0,URI="p1,=.m4s"
#EXTINF:2.00000,
s101.m4s
#EXT-X-PROGRAM-DATE-TIME:2024-05-01T12:00:04.500+00:00
#EXT-X-PART:DURATION=0.33333,URI="p2.m4s",INDEPENDENT=YES
#EXT-X-PRELOAD-HINT:TYPE=MAP,URI="m"
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="p3.m4s"
#EXT-X-RENDITION-REPORT:URI="../audio/index.m3u8",LAST-MSN=102,LAST-PART=0
`

func TestParseMedia(t *testing.T) {
	for _, in := range []string{lowLatencyPlaylist, strings.ReplaceAll(lowLatencyPlaylist, "\n", "\r\n")} {
		p, err := parseMedia([]byte(in))
		if err != nil {
			t.Fatal(err)
		}
		if p.target != 2*time.Second || p.partTarget != 334*time.Millisecond || p.holdBack != 1002*time.Millisecond || !p.canBlock || p.ended {
			t.Errorf("header: %+v", p)
		}
		if p.init != "i1.mp4" || p.hint != "p3.m4s" || p.msn != 100 || len(p.segments) != 3 {
			t.Fatalf("body: %+v", p)
		}
		var starts []string
		for _, s := range p.segments {
			starts = append(starts, fmt.Sprint(s.uri, s.duration, s.start.UTC().Format("05.000"), len(s.parts)))
		}
		want := "[s100.m4s2s00.0000 s101.m4s2s02.0002 333.33ms04.5001]"
		if got := fmt.Sprint(starts); got != want {
			t.Errorf("segments %s, want %s", got, want)
		}
		if uri := p.segments[1].parts[1].uri; uri != "p1,=.m4s" {
			t.Errorf("quoted URI read as %q", uri)
		}
		if msn, n := p.next(); msn != 102 || n != 1 {
			t.Errorf("next is %d.%d, want 102.1", msn, n)
		}
	}
	ordinary, err := parseMedia([]byte("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:3.5,title\na.ts\n#EXT-X-ENDLIST\n"))
	if err != nil || ordinary.holdBack != 12*time.Second || !ordinary.ended || ordinary.canBlock {
		t.Errorf("ordinary: %+v, %v", ordinary, err)
	}
	if msn, n := ordinary.next(); msn != 1 || n != 0 {
		t.Errorf("next is %d.%d, want 1.0", msn, n)
	}
}

var badPlaylists = map[string]string{
	"empty":          "",
	"HTML":           "<html>",
	"no target":      "#EXTM3U\n#EXTINF:2,\na\n",
	"bad duration":   "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:x,\na\n",
	"negative":       "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:-1,\na\n",
	"not a number":   "#EXTM3U\n#EXT-X-TARGETDURATION:NaN\n",
	"bad sequence":   "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:-4\n",
	"bad date":       "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-PROGRAM-DATE-TIME:today\n",
	"part of no URI": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-PART:DURATION=1\n",
	"multivariant":   "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na\n",
	"delta":          "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n",
	"many lines":     "#EXTM3U\n" + strings.Repeat("\n", maxPlaylistLines+1),
}

func TestParseMediaRefuses(t *testing.T) {
	for name, in := range badPlaylists {
		if _, err := parseMedia([]byte(in)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestParseMultivariant(t *testing.T) {
	for _, tt := range []struct {
		in    string
		want  variant
		media bool
		ok    bool
	}{
		{"#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"A, B\",URI=\"r/a.m3u8\"\n#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"avc1,mp4a\",AUDIO=\"a\"\nr/v.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=2\nr/w.m3u8\n", variant{"r/v.m3u8", "r/a.m3u8"}, false, true},
		{"#EXTM3U\n#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"a\",URI=\"s\"\n#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"a\"\n\nv\n", variant{"v", ""}, false, true},
		{"#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",URI=\"a.m3u8\"\n#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"a\"\na.m3u8\n", variant{"a.m3u8", ""}, false, true},
		{lowLatencyPlaylist, variant{}, true, true},
		{"#EXTM3U\n", variant{}, false, false},
		{"nothing", variant{}, false, false},
	} {
		v, media, err := parseMultivariant([]byte(tt.in))
		if v != tt.want || media != tt.media || (err == nil) != tt.ok {
			t.Errorf("%q: %+v, %v, %v", tt.in, v, media, err)
		}
	}
}

func FuzzPlaylists(f *testing.F) {
	f.Add([]byte(lowLatencyPlaylist))
	for _, in := range badPlaylists {
		f.Add([]byte(in[:min(len(in), 1000)]))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := parseMedia(b); err == nil {
			p.next()
			p.at(p.msn)
		}
		parseMultivariant(b)
	})
}
