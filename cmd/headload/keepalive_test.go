package main

import (
	"bytes"
	"net"
	"strings"
	"testing"
)

func TestKeepAlive(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nETag: \"a\"\r\ncontent-length: 5\r\n\r\nhello"
	for _, c := range []struct {
		name, sent string
		status     int
		body, err  string
	}{
		{"whole", ok, 200, "hello", ""},
		{"nothing changed", "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n", 304, "", ""},
		{"without a length", "HTTP/1.1 200 OK\r\n\r\nhello", 200, "", "without Content-Length"},
		{"a length that is none", "HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n", 200, "", "five"},
		{"longer than it says", ok + "!", 200, "", "longer"},
		{"cut off", ok[:len(ok)-1], 200, "", "EOF"},
		{"another protocol", "RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", 0, "", "not an answer"},
		{"a head without end", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxHead), 0, "", "too long"},
	} {
		for _, keep := range []bool{false, true} {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				conn.Read(make([]byte, 1024))
				conn.Write([]byte(c.sent))
			}()
			k, err := dialKeepAlive(t.Context(), guard{}.dialer(), ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			var body bytes.Buffer
			var a answer
			if keep {
				a, err = k.ask(request("a.test", "/"), &body)
			} else {
				a, err = k.ask(request("a.test", "/"), nil)
			}
			switch {
			case c.err == "" && (err != nil || a.status != c.status || a.size != len(c.body) || keep && body.String() != c.body):
				t.Errorf("%s: %d, %d bytes, %q, %v", c.name, a.status, a.size, body.String(), err)
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
				t.Errorf("%s: error %v, want one of %q", c.name, err, c.err)
			case c.err == "" && header(a.head, "etag") != `"a"`:
				t.Errorf("%s: no entity tag in %q", c.name, a.head)
			}
			k.conn.Close()
			ln.Close()
		}
	}
}
