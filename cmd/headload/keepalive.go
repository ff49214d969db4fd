package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// A keepAlive is one HTTP/1.1 connection that asks for one thing after the other, and costs the machine as little as it can:
// what is measured is the server.
type keepAlive struct {
	conn net.Conn
	buf  []byte
}

// An answer is what came for one request. Its head is valid until the next.
type answer struct {
	status int
	size   int // of the body
	head   []byte
}

const (
	maxHead       = 4 << 10
	keepAliveWait = 30 * time.Second // for one answer
)

func dialKeepAlive(ctx context.Context, d *net.Dialer, addr string) (*keepAlive, error) {
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &keepAlive{conn: c, buf: make([]byte, maxHead)}, nil
}

// request returns a GET with these header lines.
func request(host, path string, headers ...string) []byte {
	b := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\n", path, host)
	for _, h := range headers {
		b = append(append(b, h...), '\r', '\n')
	}
	return append(b, '\r', '\n')
}

// ask sends a request and takes the whole answer. body, if not nil, gets a copy of what was sent.
func (k *keepAlive) ask(request []byte, body io.Writer) (answer, error) {
	k.conn.SetDeadline(time.Now().Add(keepAliveWait))
	if _, err := k.conn.Write(request); err != nil {
		return answer{}, err
	}
	n, end := 0, -1
	for end < 0 {
		if n == len(k.buf) {
			return answer{}, errors.New("the head of an answer is too long")
		}
		m, err := k.conn.Read(k.buf[n:])
		if err != nil {
			return answer{}, err
		}
		n += m
		end = bytes.Index(k.buf[:n], []byte("\r\n\r\n"))
	}
	a, err := parseHead(k.buf[:end+2])
	if err != nil {
		return a, err
	}
	rest := k.buf[end+4 : n]
	if len(rest) > a.size {
		return a, errors.New("an answer is longer than its Content-Length")
	}
	left := int64(a.size - len(rest))
	if body == nil {
		return a, throwAway(k.conn, left)
	}
	if _, err := body.Write(rest); err != nil {
		return a, err
	}
	_, err = io.CopyN(body, k.conn, left)
	return a, err
}

// parseHead reads a status line and headers, of which every line ends with CR LF.
func parseHead(head []byte) (answer, error) {
	a := answer{head: head, size: -1}
	if len(head) < 12 || string(head[:9]) != "HTTP/1.1 " {
		return a, errors.New("not an answer in HTTP/1.1")
	}
	var err error
	if a.status, err = strconv.Atoi(string(head[9:12])); err != nil {
		return a, err
	}
	if v := header(head, "Content-Length"); v != "" {
		if a.size, err = strconv.Atoi(v); err != nil || a.size < 0 {
			return a, fmt.Errorf("Content-Length %q", v)
		}
	}
	if a.status == 304 {
		a.size = 0
	}
	if a.size < 0 {
		return a, errors.New("an answer without Content-Length")
	}
	return a, nil
}

// header returns a header's value in a head, or "".
func header(head []byte, name string) string {
	for len(head) > 0 {
		var line []byte
		line, head, _ = bytes.Cut(head, []byte("\r\n"))
		k, v, ok := bytes.Cut(line, []byte(":"))
		if ok && bytes.EqualFold(k, []byte(name)) {
			return string(bytes.TrimSpace(v))
		}
	}
	return ""
}
