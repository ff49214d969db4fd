package web

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"headwater/playlist"
	"headwater/segmenter"
	"headwater/segmenter/media"
)

func TestCMSDText(t *testing.T) {
	for want, c := range map[string]cmsd{
		"ot=i,sf=h,st=l":                 {init: true},
		"br=3200,d=2002,ot=v,sf=h,st=l":  {kind: media.Video, scale: 90000, ticks: 180180, bytes: 800_800},
		"br=128,d=341,ot=a,sf=h,st=l":    {kind: media.Audio, scale: 48000, ticks: 16384, bytes: 5461},
		"br=3328,d=2000,ot=av,sf=h,st=l": {kind: media.Video, muxed: true, scale: 90000, ticks: 180000, bytes: 832_000},
		"ot=v,sf=h,st=l":                 {kind: media.Video, scale: 90000, ticks: 1, bytes: 100}, // too short for a rate
		"br=0,d=2000,ot=a,sf=h,st=l":     {kind: media.Audio, scale: 48000, ticks: 96000},
		"br=3200,d=10010,ot=v,sf=h,st=l": {kind: media.Video, scale: 90000, ticks: 900900, bytes: 4_004_000},
		"br=1,d=86400000,ot=v,sf=h,st=l": {kind: media.Video, scale: 90000, ticks: 86400 * 90000, bytes: 10_800_000},
		"br=800,d=33,ot=v,sf=h,st=l":     {kind: media.Video, scale: 90000, ticks: 3000, bytes: 3300},
		"br=3,d=2000,ot=a,sf=h,st=l":     {kind: media.Audio, scale: 48000, ticks: 96000, bytes: 700},
		"br=2,d=2000,ot=a,sf=h,st=l":     {kind: media.Audio, scale: 48000, ticks: 96000, bytes: 600},
	} {
		if got := string(c.append(nil)); got != want {
			t.Errorf("%+v: %q, want %q", c, got, want)
		}
	}
}

// CMSD-Static is on media and on nothing else, is true, and is the same for good: before and after the end of the stream, for the
// whole and for a range, and on every origin that is fed alike (CTA-5006).
func TestCMSD(t *testing.T) {
	now := time.Now()
	s := &Server{Origin: &segmenter.Origin{}}
	e := publishAt(t, s.Origin, "live/demo", now).run(4*testGOP + 25)
	base, _ := listen(t, s)
	twin := &Server{Origin: &segmenter.Origin{}}
	publishAt(t, twin.Origin, "live/demo", now).run(4*testGOP + 25)
	other, _ := listen(t, twin)

	const header = "Cmsd-Static"
	first := map[string]string{}
	for _, o := range append(e.objects(), e.plainObjects()...) {
		r := ask(t, "GET", base+o.path)
		got := r.header(header)
		if !o.ranges {
			if got != "" {
				t.Errorf("%s: %q", o.path, got)
			}
			continue
		}
		first[o.path] = got
		fields := map[string]string{}
		for pair := range strings.SplitSeq(got, ",") {
			k, v, _ := strings.Cut(pair, "=")
			fields[k] = v
		}
		kind := map[bool]string{true: "a", false: "v"}[strings.Contains(o.path, "/audio/")]
		switch {
		case o.class == "init":
			kind = "i"
		case o.contentType == "video/mp2t" && kind == "v":
			kind = "av"
		}
		if fields["ot"] != kind || fields["sf"] != "h" || fields["st"] != "l" {
			t.Errorf("%s: %q", o.path, got)
		}
		if o.class == "init" {
			if len(fields) != 3 {
				t.Errorf("%s: %q", o.path, got)
			}
			continue
		}
		ms, _ := strconv.Atoi(fields["d"])
		if want := map[string]int{"segment": 2000, "part": 333}[o.class]; ms < want-25 || ms > want+25 {
			t.Errorf("%s lasts about %d ms: %q", o.path, want, got)
		}
		size := len(r.body)
		if o.contentType == "video/mp2t" { // what is said is known without making it
			size = 0
			for _, rend := range []*segmenter.Rendition{e.video(), e.audio()} {
				if seg, ok := rend.Window().Segment(e.video().Window().LastMSN() - 1); ok && (kind == "av" || rend.Kind == media.Audio) {
					size += seg.Size()
				}
			}
		}
		if want := fmt.Sprint((size*8 + ms/2) / ms); fields["br"] != want {
			t.Errorf("%s, %d bytes: %q, want br=%s", o.path, size, got, want)
		}
		if x := ask(t, "GET", base+o.path, "Range: bytes=0-9"); x.header(header) != got {
			t.Errorf("%s: of a range %q, of the whole %q", o.path, x.header(header), got)
		}
		if x := ask(t, "GET", other+o.path); x.header(header) != got || x.StatusCode != 200 {
			t.Errorf("%s: on another origin %d %q, want %q", o.path, x.StatusCode, x.header(header), got)
		}
		if x := ask(t, "GET", base+o.path, "Range: bytes=9999999-"); x.StatusCode != 416 || x.header(header) != "" {
			t.Errorf("%s: %d %q", o.path, x.StatusCode, x.header(header))
		}
	}
	if r := ask(t, "GET", base+e.dir("video")+playlist.SegmentName(1)); r.header(header) != "" {
		t.Errorf("404: %q", r.header(header))
	}
	if r := ask(t, "HEAD", base+e.dir("video")+"ts/"+playlist.TSSegmentName(e.video().Window().Segments[0].MSN)); r.StatusCode != 200 || !strings.HasPrefix(r.header(header), "br=") {
		t.Errorf("HEAD of a segment that has not been made: %d %v", r.StatusCode, r.Header)
	}
	e.end()
	for path, want := range first {
		if r := ask(t, "GET", base+path); r.StatusCode != 200 || r.header(header) != want {
			t.Errorf("%s, after the end: %d %q, want %q", path, r.StatusCode, r.header(header), want)
		}
	}
}

// Server-Timing is there only when it is wanted, on every reply, and says what a request was held for (W3C Server Timing).
func TestServerTiming(t *testing.T) {
	s, e := newLive(t)
	base, _ := listen(t, s)
	paths := []string{"/live/demo/index.m3u8", e.dir("video") + "index.m3u8", e.dir("video") + playlist.SegmentName(e.video().Window().LastMSN()), "/nothing"}
	for _, p := range paths {
		if r := ask(t, "GET", base+p); len(r.Header["Server-Timing"]) > 0 {
			t.Errorf("%s: %q", p, r.header("Server-Timing"))
		}
	}
	s, e = newLive(t)
	s.ServerTiming = true
	base, _ = listen(t, s)
	paths[1] = e.dir("video") + "index.m3u8"
	for _, p := range paths {
		r := ask(t, "GET", base+p)
		var hold, render float64
		if _, err := fmt.Sscanf(r.header("Server-Timing"), "hold;dur=%g, render;dur=%g", &hold, &render); err != nil || hold != 0 || render < 0 || render > 10_000 {
			t.Errorf("%s: %q, %v", p, r.header("Server-Timing"), err)
		}
		if r.header("Timing-Allow-Origin") != "*" {
			t.Errorf("%s: %v", p, r.Header)
		}
	}

	// In a bubble time is exact.
	synctest.Test(t, func(t *testing.T) {
		s, e := newLive(t)
		s.ServerTiming = true
		p := begin(s.Handler(), e.dir("video")+"index.m3u8"+edgeQuery(e.video().Window(), 1))
		if !p.held() {
			t.Fatal("not held")
		}
		time.Sleep(250500 * time.Microsecond)
		e.part()
		if r := p.answer(t, 200, "public, max-age=12"); r.header("Server-Timing") != "hold;dur=250.5, render;dur=0" {
			t.Errorf("%q", r.header("Server-Timing"))
		}
	})
}
