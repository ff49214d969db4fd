package web

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

// A GET may have a body, which means nothing; one that is too large, or does not come, is not waited for.
func TestRequestBody(t *testing.T) {
	s, _ := newLive(t)
	base, _ := listen(t, s)
	for _, c := range []struct {
		body   io.Reader
		length int64
		want   int
	}{
		{strings.NewReader("hello"), 5, 200},
		{io.LimitReader(zeros{}, 1000), -1, 200},
		{io.LimitReader(zeros{}, maxRequestBody), maxRequestBody, 200},
		{io.LimitReader(zeros{}, maxRequestBody+1), maxRequestBody + 1, 413},
		{io.LimitReader(zeros{}, maxRequestBody+1), -1, 413},
	} {
		req, _ := http.NewRequest("GET", base+"/live/demo/index.m3u8", c.body)
		req.ContentLength = c.length
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Errorf("%d bytes: %v", c.length, err)
			continue
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.want || resp.Header.Get("Cache-Control") == "" {
			t.Errorf("%d bytes: %d %v", c.length, resp.StatusCode, resp.Header)
		}
	}
}

// A body that does not come in time, or breaks off, is not said to be too large; and a connection that others use is not
// closed for it: HTTP/2 has no Connection field (RFC 9113 8.2.2).
func TestRequestBodyFails(t *testing.T) {
	s, _ := newLive(t)
	h := s.Handler()
	for _, c := range []struct {
		err    error
		major  int
		status int
		close  string
	}{
		{os.ErrDeadlineExceeded, 1, 408, "close"},
		{os.ErrDeadlineExceeded, 2, 408, ""},
		{io.ErrUnexpectedEOF, 1, 400, "close"},
		{io.ErrUnexpectedEOF, 2, 400, ""},
		{nil, 1, 413, "close"},
		{nil, 2, 413, ""},
	} {
		body := io.LimitReader(zeros{}, maxRequestBody+1)
		if c.err != nil {
			body = iotest.ErrReader(c.err)
		}
		r := httptest.NewRequest("GET", "/live/demo/index.m3u8", body)
		r.ProtoMajor = c.major
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.status || w.Header().Get("Connection") != c.close || w.Header().Get("Cache-Control") != "private, no-store" {
			t.Errorf("%v on HTTP/%d: %d %v", c.err, c.major, w.Code, w.Header())
		}
		if s.metrics.requests[ClassOther][statusIndex(c.status)].Load() == 0 || statusIndex(c.status) == 0 {
			t.Errorf("%d is not counted", c.status)
		}
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }
