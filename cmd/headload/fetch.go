package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// A statusError is an answer other than 200.
type statusError struct{ code int }

func (e statusError) Error() string {
	return fmt.Sprintf("status %d %s", e.code, http.StatusText(e.code))
}

// newClient returns what all players share: connections enough for each to hold a few requests open.
func newClient(g guard, players int) *http.Client {
	d := g.dialer()
	d.KeepAlive = 30 * time.Second
	return &http.Client{
		Transport: &http.Transport{
			DialContext:         d.DialContext,
			MaxIdleConns:        8*players + 16,
			MaxIdleConnsPerHost: 8*players + 16,
			IdleConnTimeout:     time.Minute,
			ReadBufferSize:      16 << 10,
		},
		// Playlists and media are not redirected (Apple's authoring rules, 8.18): a redirect is an error.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// A fetcher makes one player's requests and counts them.
type fetcher struct {
	client  *http.Client
	timeout time.Duration // of one request, held or not
	known   *memo         // of all players; nil: everything is read anew
	stats   *playStats
	// expect404 says that the stream may not be there yet. It is set only while the player makes no other request.
	expect404 bool
}

// get fetches a URL; keep says whether the body is wanted. It returns its size, too.
func (f *fetcher) get(run context.Context, u *url.URL, keep bool) (body []byte, n int64, err error) {
	ctx, cancel := context.WithTimeout(run, f.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, 0, err
	}
	if keep {
		req.Header.Set("Accept-Encoding", "gzip") // and it is unpacked here, once for all players
	}
	defer func() {
		if err != nil && run.Err() != nil {
			err = run.Err() // the player has been stopped; that is no error of the server's
			f.stats.request(n, nil)
			return
		}
		if f.expect404 && err == (statusError{http.StatusNotFound}) {
			f.stats.request(n, nil)
			return
		}
		f.stats.request(n, err)
	}()
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		io.CopyN(io.Discard, resp.Body, 4<<10) // so that the connection serves again
		return nil, 0, statusError{resp.StatusCode}
	}
	if keep {
		body, err = io.ReadAll(io.LimitReader(resp.Body, maxPlaylist+1))
		n = int64(len(body))
		if err == nil && resp.Header.Get("Content-Encoding") == "gzip" {
			body, err = f.known.unpack(body)
		}
		return body, n, err
	}
	n, err = io.Copy(io.Discard, resp.Body)
	if err == nil && n == 0 {
		err = errors.New("200 with an empty body")
	}
	return nil, n, err
}

// A memo keeps what has been made of the latest playlists: a thousand players get the same ones.
type memo struct {
	mu     sync.Mutex // protects what follows
	plain  map[string][]byte
	parsed map[string]*mediaPlaylist
}

// maxMemo bounds the playlists that are kept.
const maxMemo = 256

func newMemo() *memo {
	return &memo{plain: map[string][]byte{}, parsed: map[string]*mediaPlaylist{}}
}

// unpack reads what is compressed by gzip. Nobody may modify what it returns.
func (m *memo) unpack(b []byte) ([]byte, error) {
	if m == nil {
		return gunzip(b)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if p, ok := m.plain[string(b)]; ok {
		return p, nil
	}
	p, err := gunzip(b)
	if err == nil {
		if len(m.plain) >= maxMemo {
			clear(m.plain)
		}
		m.plain[string(b)] = p
	}
	return p, err
}

func gunzip(b []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(z, maxPlaylist+1))
}

// parse reads a media playlist. Nobody may modify what it returns.
func (m *memo) parse(b []byte) (*mediaPlaylist, error) {
	if m == nil {
		return parseMedia(b)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if p, ok := m.parsed[string(b)]; ok {
		return p, nil
	}
	p, err := parseMedia(b)
	if err == nil {
		if len(m.parsed) >= maxMemo {
			clear(m.parsed)
		}
		m.parsed[string(b)] = p
	}
	return p, err
}

// playStats is what players found, all together.
type playStats struct {
	mu sync.Mutex // protects everything below

	requests, bytes       int64
	errors                map[string]int // by status or kind
	violations            map[string]int // of the protocol
	parts, segments       int64
	stalls                int
	stalled               time.Duration
	latency, reload       durations
	playing, neverStarted int
	examples              []string
}

func newPlayStats() *playStats {
	return &playStats{errors: map[string]int{}, violations: map[string]int{}}
}

func (s *playStats) request(n int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	s.bytes += n
	if err != nil {
		s.errors[errorKind(err)]++
	}
}

// maxExamples bounds the violations that are reported in full.
const maxExamples = 5

// violation counts a broken rule.
func (s *playStats) violation(kind, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.violations[kind]++
	if len(s.examples) < maxExamples {
		s.examples = append(s.examples, kind+": "+fmt.Sprintf(format, args...))
	}
}

// errorKind sorts errors into few kinds.
func errorKind(err error) string {
	var status statusError
	var remote errRemote
	var op *net.OpError
	var ne net.Error
	switch {
	case errors.As(err, &status):
		return status.Error()
	case errors.As(err, &remote):
		return remote.Error()
	case errors.As(err, &ne) && ne.Timeout():
		return "timeout"
	case errors.As(err, &op):
		return op.Op + ": " + op.Err.Error()
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return "connection closed in the middle"
	}
	return err.Error()
}
