package conns

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestRefusalsOfTheServer: what net/http refuses before any handler has it is kept by no cache (RFC 9110 15.1 lets them keep a 501 by habit), and what handlers say is as
// they say it.
func TestRefusalsOfTheServer(t *testing.T) {
	s := serve(t, 100, false)
	s.srv.Config.MaxHeaderBytes = 4 << 10
	for _, c := range []struct {
		request string
		status  int
		cache   string
	}{
		{"WHAT IS THIS GARBAGE\r\n\r\n", 400, cacheNever},
		{"GET / HTTP/1.1\r\n\r\n", 400, cacheNever}, // no Host
		{"GET / HTTP/1.1\r\nHost: a.test\r\nbad header: x\r\n\r\n", 400, cacheNever},
		{"GET / HTTP/3.7\r\nHost: a.test\r\n\r\n", 505, cacheNever},
		{"GET / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: rot13\r\n\r\n", 501, cacheNever},
		{"GET / HTTP/1.1\r\nHost: a.test\r\nA: " + strings.Repeat("x", 16<<10) + "\r\n\r\n", 431, cacheNever},
		{"GET / HTTP/1.1\r\nHost: a.test\r\nExpect: miracles\r\n\r\n", 417, cacheNever},
		{"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", 200, ""},
		{"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n", 200, ""},
	} {
		conn := s.dial(false)
		conn.SetDeadline(time.Now().Add(patience))
		io.WriteString(conn, c.request)
		r, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Errorf("%.40q: %v", c.request, err)
			continue
		}
		body, err := io.ReadAll(r.Body)
		if got := strings.Join(r.Header["Cache-Control"], ", "); r.StatusCode != c.status || got != c.cache || err != nil || c.status != 417 && len(body) == 0 {
			t.Errorf("%.40q: %d, Cache-Control %q, %q, %v", c.request, r.StatusCode, got, body, err)
		}
	}
}

// TestBareEnd: nothing but a refusal is touched.
func TestBareEnd(t *testing.T) {
	for _, c := range []struct {
		b  string
		at int
	}{
		{"HTTP/1.1 400 Bad Request" + bareHeaders + "400 Bad Request", 24},
		{"HTTP/1.1 417 Expectation Failed\r\nConnection: close\r\n\r\n", 31},
		{"HTTP/1.1 417 Expectation", -1},
		{"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n", -1},
		{"HTTP/1.1 200 OK\r\nDate: x" + bareHeaders, -1},
		{"HTTP/1.1 " + strings.Repeat("x", maxStatusLine) + bareHeaders, -1},
		{"HTTP/1.1", -1}, {"", -1}, {"\x00\x00\x00\x20styp", -1},
	} {
		if at := bareEnd([]byte(c.b)); at != c.at {
			t.Errorf("%.60q: %d, want %d", c.b, at, c.at)
		}
	}
}

func BenchmarkBareEnd(b *testing.B) {
	reply := []byte(fmt.Sprintf("HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nCache-Control: public, max-age=1\r\n\r\n%2000d", 1))
	b.ReportAllocs()
	for b.Loop() {
		if bareEnd(reply) >= 0 {
			b.Fatal("taken for a refusal")
		}
	}
}
