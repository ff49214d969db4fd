//go:build e2e

package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"headwater/playlist/playlisttest"
)

// A history is what has been fetched from a path, in order, for playlists.
type history struct {
	mu     sync.Mutex // protects bodies
	bodies map[string][][]byte

	drops bool // the encoder leaves frames out when the machine is busy
}

func (h *history) add(path string, body []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.bodies == nil {
		h.bodies = map[string][][]byte{}
	}
	if old := h.bodies[path]; len(old) == 0 || !bytes.Equal(old[len(old)-1], body) {
		h.bodies[path] = append(old, body)
	}
}

// check checks each playlist by itself and against the one before. It returns the paths of the media playlists.
func (h *history) check(t *testing.T) []string {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	var media []string
	for _, path := range slices.Sorted(maps.Keys(h.bodies)) {
		var full []byte // the latest that is not a delta update
		for _, body := range h.bodies[path] {
			if t.Failed() {
				return nil // one of them says enough
			}
			if h.drops {
				playlisttest.CheckDropping(t, body)
			} else {
				playlisttest.Check(t, body)
			}
			if playlisttest.IsMultivariant(body) {
				continue
			}
			p := playlisttest.Parse(body)
			if full == nil {
				media = append(media, path)
			} else if old := playlisttest.Parse(full); p.Skipped == 0 || p.MSN >= old.MSN && p.MSN+uint64(p.Skipped) <= old.MSN+uint64(len(old.Segments)) {
				playlisttest.CheckSuccession(t, full, body)
			}
			if p.Skipped == 0 {
				full = body
			}
		}
	}
	if len(media) == 0 {
		t.Error("no media playlist has been fetched")
	}
	return media
}

// checkSuccession checks each media playlist, but for delta updates, against the one before.
func (h *history) checkSuccession(t *testing.T) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	compared := 0
	for _, bodies := range h.bodies {
		var full []byte
		for _, body := range bodies {
			if playlisttest.IsMultivariant(body) || playlisttest.Parse(body).Skipped > 0 {
				continue
			}
			if full != nil {
				playlisttest.CheckSuccession(t, full, body)
				compared++
			}
			full = body
		}
	}
	if compared < 10 {
		t.Errorf("%d media playlists compared", compared)
	}
}

// last returns the newest full playlist of a rendition, "video" or "audio", that has been fetched.
func (h *history) last(rendition string) *playlisttest.Media {
	h.mu.Lock()
	defer h.mu.Unlock()
	for path, bodies := range h.bodies {
		if !strings.HasSuffix(path, "/"+rendition+"/index.m3u8") {
			continue
		}
		for _, b := range slices.Backward(bodies) {
			if p := playlisttest.Parse(b); p.Skipped == 0 {
				return p
			}
		}
	}
	return &playlisttest.Media{}
}

// A tap is a wire between a peer and the origin on which somebody listens: bytes pass unchanged, playlists are kept for the
// checks, and replies that are not what a player should get are noted.
type tap struct {
	history
	addr  string
	began time.Time

	mu       sync.Mutex // protects what follows
	problems []string
	log      []string // of what passed, for people
	conns    []net.Conn
}

// tap returns a new tap before the origin's media port.
func (r *running) tap(t *testing.T) *tap {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{addr: ln.Addr().String(), began: time.Now()}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { p.serve(c, r.HTTP) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			c.Close()
		}
		p.mu.Unlock()
		conns.Wait()
		if t.Failed() {
			t.Logf("requests of a peer, with the seconds when each was made and answered:\n%s", tail(strings.Join(p.log, "\n"), 8000))
		}
	})
	return p
}

func (p *tap) URL(path string) string { return "http://" + p.addr + path }

func (p *tap) serve(down net.Conn, origin string) {
	defer down.Close()
	up, err := net.Dial("tcp", origin)
	if err != nil {
		return
	}
	defer up.Close()
	p.mu.Lock()
	p.conns = append(p.conns, down, up)
	p.mu.Unlock()
	reqR, reqW := io.Pipe()
	respR, respW := io.Pipe()
	var copies sync.WaitGroup
	pass := func(to, from net.Conn, copy *io.PipeWriter) {
		io.Copy(to, io.TeeReader(from, copy))
		copy.Close()
		to.Close()
	}
	copies.Go(func() { pass(up, down, reqW) })
	copies.Go(func() { pass(down, up, respW) })
	copies.Go(func() {
		p.listen(bufio.NewReader(reqR), bufio.NewReader(respR))
		copies.Go(func() { io.Copy(io.Discard, reqR) })
		io.Copy(io.Discard, respR)
	})
	copies.Wait()
}

// listen reads requests and replies until one of them does not end.
func (p *tap) listen(reqs, resps *bufio.Reader) {
	for {
		req, err := http.ReadRequest(reqs)
		if err != nil {
			return
		}
		asked := time.Since(p.began)
		resp, err := http.ReadResponse(resps, req)
		if err != nil {
			return
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return
		}
		line := fmt.Sprintf("%s %s: %s", req.Method, req.RequestURI, resp.Status)
		p.mu.Lock()
		p.log = append(p.log, fmt.Sprintf("%7.3f %7.3f %s, %d bytes", asked.Seconds(), time.Since(p.began).Seconds(), line, len(body)))
		if resp.StatusCode != 200 && resp.StatusCode != 206 && resp.StatusCode != 304 {
			p.problems = append(p.problems, line)
		}
		p.mu.Unlock()
		if len(body) == 0 || resp.StatusCode != 200 || !strings.HasSuffix(req.URL.Path, ".m3u8") {
			continue
		}
		if body, err = decoded(resp.Header.Get("Content-Encoding"), body); err != nil {
			body = []byte(err.Error()) // which is no playlist
		}
		p.add(req.URL.Path, body)
	}
}

// decoded undoes a content coding.
func decoded(coding string, body []byte) ([]byte, error) {
	var r io.Reader = bytes.NewReader(body)
	switch coding {
	case "":
		return body, nil
	case "gzip":
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		r = z
	case "br":
		r = brotli.NewReader(r)
	case "zstd":
		z, err := zstd.NewReader(r)
		if err != nil {
			return nil, err
		}
		defer z.Close()
		r = z
	default:
		return nil, fmt.Errorf("content coding %q", coding)
	}
	return io.ReadAll(r)
}

// check checks what has passed.
func (p *tap) check(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	for _, problem := range p.problems {
		t.Errorf("a reply to the player: %s", problem)
	}
	p.mu.Unlock()
	p.history.check(t)
}

// A follower reloads all playlists of a stream as a low-latency player does, every other time as a delta update.
type follower struct {
	history
	stop chan struct{}
	done sync.WaitGroup
}

// follow begins to follow a stream that can be played. When it returns, each playlist has been fetched once.
func (r *running) follow(t *testing.T, name string) *follower {
	t.Helper()
	f := &follower{stop: make(chan struct{})}
	index := r.URL("/" + name + "/index.m3u8")
	body := f.fetch(t, index)
	for _, line := range strings.Split(string(body), "\n") {
		uri := line
		if i := strings.Index(line, `URI="`); i >= 0 {
			uri, _, _ = strings.Cut(line[i+len(`URI="`):], `"`)
		} else if strings.HasPrefix(line, "#") || line == "" {
			continue
		}
		base, _ := url.Parse(index)
		at, err := base.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		first := f.fetch(t, at.String())
		if first == nil {
			t.FailNow()
		}
		f.done.Go(func() { f.reload(t, at.String(), first) })
	}
	t.Cleanup(f.end)
	return f
}

func (f *follower) end() {
	select {
	case <-f.stop:
	default:
		close(f.stop)
	}
	f.done.Wait()
}

// check ends it and checks what it has got.
func (f *follower) check(t *testing.T) {
	t.Helper()
	f.end()
	f.history.check(t)
}

func (f *follower) reload(t *testing.T, at string, body []byte) {
	query := ""
	for n := 0; ; n++ {
		if n > 0 {
			body = f.fetch(t, at+query)
		}
		if body == nil {
			return
		}
		p := playlisttest.Parse(body)
		if p.End {
			return
		}
		if p.Control["CAN-BLOCK-RELOAD"] != "YES" { // a playlist of I-frames
			select {
			case <-f.stop:
				return
			case <-time.After(time.Second):
			}
			continue
		}
		msn, part := p.MSN+uint64(p.Skipped+len(p.Segments)), 0
		if p.Open != nil {
			part = len(p.Open.Parts)
		}
		query = fmt.Sprintf("?_HLS_msn=%d&_HLS_part=%d", msn, part)
		if n%2 == 0 {
			query += "&_HLS_skip=YES"
		}
		select {
		case <-f.stop:
			return
		default:
		}
	}
}

// fetch keeps what it returns. It returns nil when the test is over or nothing came for a while: a publisher may be away.
func (f *follower) fetch(t *testing.T, at string) []byte {
	for {
		resp, err := http.Get(at)
		if err != nil {
			t.Errorf("follower: %v", err)
			return nil
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err == nil && resp.StatusCode == 200 {
			f.add(resp.Request.URL.Path, body)
			return body
		}
		if err != nil || resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("follower: %s: %s, %v\n%s", at, resp.Status, err, body)
			return nil
		}
		select { // the part that was announced did not come in time
		case <-f.stop:
			return nil
		case <-time.After(time.Second):
		}
	}
}
