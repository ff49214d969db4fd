//go:build e2e

package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"headwater/playlist/playlisttest"
)

// A reply is what curl got.
type reply struct {
	version string // 1.1 or 2
	status  int
	header  map[string]string // by name in lower case
	body    []byte
}

// curl fetches a URL as an edge does.
func curl(t *testing.T, url string, args ...string) reply {
	t.Helper()
	head := filepath.Join(t.TempDir(), "head")
	args = append([]string{"-sS", "--max-time", "20", "-D", head, "-w", "%{stderr}%{http_version} %{http_code}"}, args...)
	p := startPeer(t, nil, "curl", append(args, url)...)
	if code := p.wait(t, startPatience); code != 0 {
		t.Fatalf("curl %q: exit status %d: %s", args, code, p.err.String())
	}
	r := reply{header: map[string]string{}, body: []byte(p.out.String())}
	if _, err := fmt.Sscan(p.err.String(), &r.version, &r.status); err != nil {
		t.Fatalf("curl printed %q", p.err.String())
	}
	b, err := os.ReadFile(head)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			r.header[strings.ToLower(name)] = value
		}
	}
	return r
}

// TestE2EEdge fetches as a CDN's edge does, with curl.
func TestE2EEdge(t *testing.T) {
	t.Parallel()
	r := startHeadwater(t)
	r.publish(t, "live/a", small)
	r.awaitLive(t, "live/a")
	index := r.URL("/live/a/index.m3u8")
	_, rest, _ := strings.Cut(string(curl(t, index).body), "\n#EXT-X-STREAM-INF:")
	media := r.URL("/live/a/" + strings.Split(rest, "\n")[1])
	folder := media[:strings.LastIndex(media, "/")+1]
	for _, protocol := range []struct{ flag, version string }{{"--http1.1", "1.1"}, {"--http2-prior-knowledge", "2"}} {
		t.Run("HTTP "+protocol.version, func(t *testing.T) {
			edge(t, index, media, folder, protocol.flag, protocol.version)
		})
	}
	r.checkLog(t)
}

func edge(t *testing.T, index, media, folder, flag, version string) {
	for _, url := range []string{index, media} {
		plain := curl(t, url, flag)
		if plain.version != version || plain.status != 200 {
			t.Errorf("%s: HTTP %s, status %d", url, plain.version, plain.status)
		}
		if ct := plain.header["content-type"]; ct != "application/vnd.apple.mpegurl" {
			t.Errorf("%s: Content-Type %q", url, ct)
		}
		if !strings.Contains(plain.header["cache-control"], "max-age=") || plain.header["etag"] == "" {
			t.Errorf("%s: headers %v", url, plain.header)
		}
		playlisttest.Check(t, plain.body)
	}

	// Of the multivariant playlist, which stays the same for some time: compressed, its head, and not again.
	plain := curl(t, index, flag)
	packed := curl(t, index, flag, "-H", "Accept-Encoding: gzip")
	if packed.header["content-encoding"] != "gzip" || packed.header["vary"] != "Accept-Encoding" || packed.header["etag"] == plain.header["etag"] {
		t.Errorf("gzip: %v, plain %v", packed.header, plain.header)
	} else if z, err := gzip.NewReader(bytes.NewReader(packed.body)); err != nil {
		t.Error(err)
	} else if b, err := io.ReadAll(z); err != nil || !sameButForRates(b, plain.body) {
		t.Errorf("gzip: %v\n%s\nplain:\n%s", err, b, plain.body)
	}
	if again := curl(t, index, flag, "-H", "If-None-Match: "+plain.header["etag"]); again.status != 304 && sameBytes(curl(t, index, flag), plain) {
		t.Errorf("If-None-Match: status %d", again.status)
	}

	// Of a segment, which never changes: all, its head, a range, no such range.
	p := playlisttest.Parse(curl(t, media, flag).body)
	segment := folder + p.Segments[len(p.Segments)-1].URI
	whole := curl(t, segment, flag)
	if whole.status != 200 || whole.header["content-length"] != strconv.Itoa(len(whole.body)) || len(whole.body) < 1000 {
		t.Fatalf("segment: status %d, %d bytes, %v", whole.status, len(whole.body), whole.header)
	}
	if !strings.Contains(whole.header["cache-control"], "immutable") || whole.header["accept-ranges"] != "bytes" {
		t.Errorf("segment: %v", whole.header)
	}
	head := curl(t, segment, flag, "-I")
	for _, h := range []string{"content-length", "content-type", "etag", "cache-control"} {
		if head.header[h] != whole.header[h] || head.status != 200 {
			t.Errorf("HEAD: %s is %q, with GET %q", h, head.header[h], whole.header[h])
		}
	}
	part := curl(t, segment, flag, "-r", "100-299")
	if want := fmt.Sprintf("bytes 100-299/%d", len(whole.body)); part.status != 206 || part.header["content-range"] != want ||
		!bytes.Equal(part.body, whole.body[100:300]) || part.header["etag"] != whole.header["etag"] {
		t.Errorf("range: status %d, %q, %d bytes", part.status, part.header["content-range"], len(part.body))
	}
	if beyond := curl(t, segment, flag, "-r", "999999999-"); beyond.status != 416 {
		t.Errorf("range beyond the end: status %d", beyond.status)
	}
	if same := curl(t, segment, flag, "-H", "If-None-Match: "+whole.header["etag"]); same.status != 304 || len(same.body) > 0 {
		t.Errorf("If-None-Match: status %d, %d bytes", same.status, len(same.body))
	}
	if none := curl(t, folder+"s1.m4s", flag); none.status != 404 || none.header["cache-control"] == "" {
		t.Errorf("a segment that never was: status %d, %v", none.status, none.header)
	}

	blocking(t, media, flag)
}

// blocking has 100 requests wait for the same part, each to be answered when it is there, with the same bytes (RFC 8216bis
// 6.2.5.2).
func blocking(t *testing.T, media, flag string) {
	p := playlisttest.Parse(curl(t, media, flag).body)
	msn := p.MSN + uint64(len(p.Segments)) + 1
	dir := t.TempDir()
	began := time.Now()
	// The fragment is not sent: all ask for one URL.
	all := startPeer(t, nil, "curl", "-sS", flag, "--max-time", "20", "-Z", "--parallel-immediate", "--parallel-max", "100",
		"-o", filepath.Join(dir, "#1"), "-w", "%{stderr}%{http_code} ", fmt.Sprintf("%s?_HLS_msn=%d&_HLS_part=1#[1-100]", media, msn))
	if code := all.wait(t, startPatience); code != 0 {
		t.Fatalf("curl: exit status %d", code)
	}
	if d := time.Since(began); d < 300*time.Millisecond || d > 12*time.Second {
		t.Errorf("100 requests for a part that was to come within 4 s took %v", d)
	}
	if n := strings.Count(all.err.String(), "200 "); n != 100 {
		t.Errorf("of 100 requests %d had status 200: %s", n, all.err.String())
	}
	var first []byte
	for i := range 100 {
		b, err := os.ReadFile(filepath.Join(dir, strconv.Itoa(i+1)))
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = b
		}
		if !bytes.Equal(b, first) {
			t.Fatalf("answer %d:\n%s\nthe first:\n%s", i+1, b, first)
		}
	}
	playlisttest.Check(t, first)
	if open := playlisttest.Parse(first).Find(msn); open == nil || len(open.Parts) < 2 && open.URI == "" {
		t.Errorf("the answer to a request for part 1 of %d:\n%s", msn, first)
	}
}

func sameBytes(a, b reply) bool { return bytes.Equal(a.body, b.body) }

// sameButForRates compares multivariant playlists fetched one after the other: bandwidths are measured, and may have risen.
func sameButForRates(a, b []byte) bool {
	return bytes.Equal(rates.ReplaceAll(a, nil), rates.ReplaceAll(b, nil))
}

var rates = regexp.MustCompile(`BANDWIDTH=\d+`)
