package web

import (
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"headwater/segmenter"
	"headwater/segmenter/store"
)

// TestStoredBytes: what is old lies on the disk alone, and has the same bytes and headers there, in every form.
func TestStoredBytes(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d, err := store.OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		s := &Server{Origin: &segmenter.Origin{Config: func(string) segmenter.Config {
			return segmenter.Config{PartTarget: segmenter.DefaultPartTarget, WindowMin: 10 * time.Minute}
		}}}
		s.Origin.Recover(d, time.Now())
		e := publish(t, s.Origin, "live/demo").run(6*testGOP + 25)
		h := s.Handler()
		before := map[string]*reply{}
		for _, at := range []string{"/live/demo/index.m3u8", "/live/demo/ts/index.m3u8"} {
			crawl(t, h, at, before)
		}
		e.run(60 * testGOP)
		st, _ := s.Origin.Stream("live/demo")
		r, _ := st.Run().Rendition("video")
		for _, seg := range r.Window().Segments[:6] {
			if !seg.Stored() {
				t.Fatalf("segment %d is not stored", seg.MSN)
			}
		}
		s.ts = tsCache{} // and what has been made of them is not there any more
		objects := map[string]int{}
		for at, was := range before {
			name := at[strings.LastIndexByte(at, '/')+1:]
			if strings.HasSuffix(at, ".m3u8") || name[0] == 'p' {
				continue
			}
			now := call(t.Context(), h, "GET", at)
			objects[name[strings.LastIndexByte(name, '.'):]]++
			if now.StatusCode != 200 || now.body != was.body {
				t.Errorf("%s: %s, or other bytes", at, now.Status)
			}
			for _, k := range []string{"ETag", "Last-Modified", "Cache-Control", "Content-Type"} {
				if now.header(k) != was.header(k) {
					t.Errorf("%s: %s was %q and is %q", at, k, was.header(k), now.header(k))
				}
			}
			part := call(t.Context(), h, "GET", at, "Range: bytes=100-299")
			if part.StatusCode != 206 || part.body != was.body[100:300] {
				t.Errorf("%s: a range: %s", at, part.Status)
			}
		}
		if objects[".m4s"] < 12 || objects[".ts"] < 6 {
			t.Errorf("%v", objects)
		}
	})
}

// BenchmarkDVR renders and sends what a new part changes, with windows of half a minute and of twelve hours.
func BenchmarkDVR(b *testing.B) {
	for _, window := range []time.Duration{30 * time.Second, 12 * time.Hour} {
		s, e := newDVR(b, window)
		h := s.Handler()
		for _, form := range []struct{ name, query string }{{"delta", "?_HLS_skip=YES"}, {"full", ""}} {
			b.Run(form.name+"/"+window.String(), func(b *testing.B) {
				r := httptest.NewRequest("GET", e.dir("video")+"index.m3u8"+form.query, nil)
				r.Header.Set("Accept-Encoding", "gzip")
				w := newSink()
				b.ReportAllocs()
				for b.Loop() {
					b.StopTimer()
					e.part()
					b.StartTimer()
					w.reset()
					h.ServeHTTP(w, r)
				}
				b.ReportMetric(float64(len(e.video().Window().Segments)), "segments")
				b.SetBytes(int64(w.bytes))
			})
		}
		b.Run("part/"+window.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				e.part()
			}
		})
	}
}

// newDVR is a server of a stream of which so much is listed.
func newDVR(t testing.TB, window time.Duration) (*Server, *encoder) {
	t.Helper()
	d, err := store.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	s := &Server{Origin: &segmenter.Origin{Config: func(string) segmenter.Config {
		return segmenter.Config{PartTarget: segmenter.DefaultPartTarget, WindowMin: window}
	}}}
	s.Origin.Recover(d, time.Now())
	e := publish(t, s.Origin, "live/demo")
	e.frame = []byte{0, 0, 0, 12, 0x65, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11} // little, for the disk
	e.run(int(window/time.Second)*testFPS + 20*testGOP + 25)
	if n := len(e.video().Window().Segments); n < int(window/(2*time.Second)) {
		t.Fatalf("%d segments", n)
	}
	return s, e
}
