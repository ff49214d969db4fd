package web

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"headwater/playlist/playlisttest"
	"headwater/segmenter"
	"headwater/segmenter/store"
)

// crawl fetches a multivariant playlist and everything below it, and returns it by URL.
func crawl(t *testing.T, h http.Handler, at string, got map[string]*reply) {
	t.Helper()
	if got[at] != nil {
		return
	}
	r := call(t.Context(), h, "GET", at)
	if r.StatusCode != 200 {
		t.Fatalf("%s: %s", at, r.Status)
	}
	got[at] = r
	if !strings.HasSuffix(at, ".m3u8") {
		return
	}
	base, _ := url.Parse(at)
	for line := range strings.Lines(r.body) {
		uri := strings.TrimSpace(line)
		if i := strings.Index(line, `URI="`); i >= 0 {
			uri, _, _ = strings.Cut(line[i+len(`URI="`):], `"`)
		} else if uri == "" || uri[0] == '#' {
			continue
		}
		if strings.HasPrefix(line, "#EXT-X-PRELOAD-HINT") || strings.HasPrefix(line, "#EXT-X-RENDITION-REPORT") {
			continue
		}
		u, err := base.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		crawl(t, h, u.String(), got)
	}
}

var rates = regexp.MustCompile(`BANDWIDTH=\d+`)

func notLower(was, now []string) bool {
	for i, w := range was {
		n := now[i]
		if len(n) < len(w) || len(n) == len(w) && n < w {
			return false
		}
	}
	return true
}

// keptServer is a server whose origin keeps its runs in dir.
func keptServer(t *testing.T, dir string) (*Server, *store.Dir) {
	t.Helper()
	d, err := store.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Origin: &segmenter.Origin{}}
	if _, errs := s.Origin.Recover(d, time.Now()); len(errs) > 0 {
		t.Fatal(errs)
	}
	t.Cleanup(func() { d.Close() })
	return s, d
}

// TestRecoveredBytes: whatever was listed before a crash has the same bytes and tags after it, in every form; playlists are lawful
// successors of what they were; and who waits for what comes next gets it when the publisher is back, or is told after three target
// durations that it does not come.
func TestRecoveredBytes(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, d := keptServer(t, dir)
		e := publish(t, s.Origin, "live/demo").run(4*testGOP + 25)
		h := s.Handler()
		before := map[string]*reply{}
		for _, at := range []string{"/live/demo/index.m3u8", "/live/demo/ts/index.m3u8"} {
			crawl(t, h, at, before)
		}
		run := e.dir("video")
		d.Close()

		time.Sleep(time.Second)
		s, _ = keptServer(t, dir)
		h = s.Handler()
		objects := 0
		for at, was := range before {
			now := call(t.Context(), h, "GET", at)
			switch {
			case now.StatusCode != 200:
				t.Errorf("%s: %s", at, now.Status)
			case !strings.HasSuffix(at, ".m3u8"):
				objects++
				if now.body != was.body || now.header("ETag") != was.header("ETag") || now.header("Cache-Control") != was.header("Cache-Control") {
					t.Errorf("%s: other bytes, or another tag: %s, %s", at, was.header("ETag"), now.header("ETag"))
				}
			case playlisttest.IsMultivariant([]byte(was.body)):
				// The segment that the crash has cut short may raise a rate; none falls.
				if rates.ReplaceAllString(now.body, "") != rates.ReplaceAllString(was.body, "") || !notLower(rates.FindAllString(was.body, -1), rates.FindAllString(now.body, -1)) {
					t.Errorf("%s was\n%s\nis\n%s", at, was.body, now.body)
				}
			default:
				playlisttest.CheckSuccession(t, []byte(was.body), []byte(now.body))
				for _, p := range playlisttest.Problems([]byte(now.body)) {
					t.Errorf("%s: %s\n%s", at, p, now.body)
				}
			}
		}
		if objects < 30 {
			t.Errorf("only %d objects", objects)
		}

		st, _ := s.Origin.Stream("live/demo")
		r, _ := st.Run().Rendition("video")
		next := fmt.Sprintf("%sindex.m3u8?_HLS_msn=%d&_HLS_part=0", run, r.Window().Open.MSN)
		held := begin(h, next)
		if !held.held() {
			t.Fatalf("it is not waited for: %s", held.reply.Status)
		}
		<-held.done
		if held.reply.StatusCode != 503 || held.took != 6*time.Second {
			t.Errorf("%s after %v", held.reply.Status, held.took)
		}
		held = begin(h, next)
		if !held.held() {
			t.Fatal("it is not waited for")
		}
		publish(t, s.Origin, "live/demo").run(25)
		<-held.done
		older := call(t.Context(), h, "GET", run+"index.m3u8")
		if p := playlisttest.Parse([]byte(held.reply.body)); held.reply.StatusCode != 200 || p.Open == nil || !p.Open.Discontinuity || p.Open.DiscSeq != 1 {
			t.Errorf("%s\n%s", held.reply.Status, held.reply.body)
		}
		playlisttest.CheckSuccession(t, []byte(before[run+"index.m3u8"].body), []byte(held.reply.body))
		playlisttest.CheckSuccession(t, []byte(held.reply.body), []byte(older.body))
	})
}

// TestWarning: what is wrong without making the origin useless is said where the origin is asked how it is.
func TestWarning(t *testing.T) {
	warning := ""
	s := &Server{Origin: &segmenter.Origin{}, Warning: func() string { return warning }}
	h := s.OpsHandler()
	for _, want := range []string{"ready\n", "ready\nwarning: the disk is full\n"} {
		if r := call(t.Context(), h, "GET", "/readyz"); r.StatusCode != 200 || r.body != want {
			t.Errorf("%s %q, want %q", r.Status, r.body, want)
		}
		warning = "the disk is full"
	}
}
