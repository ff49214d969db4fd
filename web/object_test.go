package web

import (
	"context"
	"net/http/httptest"
	"testing"
	"time"
)

// What cannot be read to its end is broken off: what was sent must not pass for the whole (RFC 9112 8, RFC 9113 8.1).
func TestUnreadable(t *testing.T) {
	s, e := newLive(t)
	s.Handler()
	part := e.video().Window().Segments[0].Parts[0]
	for _, beyond := range []int{0, 1} {
		w := &response{ResponseWriter: newSink(), server: s}
		o := object{contentType: typeVideo, cache: cacheForever, part: part, size: part.Size() + beyond}
		s.serveObject(w, httptest.NewRequest("GET", "/", nil), &o)
		if w.status != 200 || (w.failed != nil) != (beyond > 0) {
			t.Errorf("%d bytes that are not there: status %d, %v", beyond, w.status, w.failed)
		}
	}
}

// Places are given back however a wait ends.
func TestHoldPanics(t *testing.T) {
	s, e := newLive(t)
	s.Handler()
	func() {
		defer func() { recover() }()
		s.hold(&response{server: s}, httptest.NewRequest("GET", "/", nil), e.stream, time.Second, errHeld, func(context.Context, <-chan struct{}) error { panic("test") })
	}()
	if n := s.gate.now.Load(); n != 0 || len(s.gate.held) != 0 {
		t.Errorf("%d places are taken, of %d", n, len(s.gate.held))
	}
}
