package transport

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"headwater/web/conns"
)

const patience = 20 * time.Second

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// dial3 opens a connection that may become HTTP/3's.
func (s *site) dial3() (*quic.Conn, error) {
	c := s.config()
	c.NextProtos = []string{http3.NextProtoH3}
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	conn, err := quic.DialAddr(ctx, strings.TrimPrefix(s.url, "https://"), c, nil)
	if err == nil {
		s.t.Cleanup(func() { conn.CloseWithError(0, "") })
	}
	return conn, err
}

// Past the limit HTTP/3 connections are refused at their first packet (CONNECTION_REFUSED; RFC 9000 20.1), and taken again
// when others have left.
func TestRefused3(t *testing.T) {
	port := &conns.Port{Limit: &conns.Limit{Max: 3}}
	s := serveLimited(t, nil, port)
	var all []*quic.Conn
	for range 3 {
		c, err := s.dial3()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	var refused *quic.TransportError
	if _, err := s.dial3(); !errors.As(err, &refused) || refused.ErrorCode != quic.ConnectionRefused {
		t.Errorf("%v, want that it is refused", err)
	}
	if n := port.Stats(); n.Open != 3 || n.Refused == 0 { // a ClientHello may take two packets, each of which is refused
		t.Errorf("%+v", n)
	}
	all[0].CloseWithError(0, "")
	eventually(t, "it has left", func() bool { return port.Stats().Open == 2 })
	fetch(t, s.clients()["HTTP/3.0"], s.url)
	all[1].CloseWithError(0, "")
	all[2].CloseWithError(0, "")
	eventually(t, "two are left", func() bool { return port.Stats().Open <= 1 })
	if n := s.shaking.Load(); n != 0 {
		t.Errorf("%d handshakes are said to be under way", n)
	}
}

// Addresses that nobody has shown to be their own can take so many places and no more: then each has to come back with a token
// (Retry; RFC 9000 8.1.2). Who really is there notices nothing.
func TestRetry3(t *testing.T) {
	port := &conns.Port{Limit: &conns.Limit{Max: 1000}}
	s := serveLimited(t, nil, port)
	// A first packet, as it comes from somebody who never hears the answer.
	trap, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer trap.Close()
	server, _ := net.ResolveUDPAddr("udp", strings.TrimPrefix(s.url, "https://"))
	for range 4 * maxUnverified { // a ClientHello may take two packets
		ctx, cancel := context.WithCancel(t.Context())
		c := s.config()
		c.NextProtos = []string{http3.NextProtoH3}
		go quic.DialAddr(ctx, trap.LocalAddr().String(), c, nil)
		b := make([]byte, 2000)
		trap.SetReadDeadline(time.Now().Add(patience))
		n, _, err := trap.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		out, err := net.DialUDP("udp", nil, server)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		out.Write(b[:n])
		out.Close()
	}
	eventually(t, "handshakes begin", func() bool { return s.shaking.Load() >= maxUnverified/2 })
	fetch(t, s.clients()["HTTP/3.0"], s.url)
	if n := port.Stats().Open; n > maxUnverified+1 {
		t.Errorf("%d places are taken", n)
	}
	t.Logf("%d places are taken", port.Stats().Open)
}

// The first request has to come in the time that one may take.
func TestFirstRequest3(t *testing.T) {
	s := serveLimited(t, func(srv *http.Server) { srv.ReadHeaderTimeout = 300 * time.Millisecond }, nil)
	var conn *quic.Conn
	persist(t, func() (err error) {
		conn, err = s.dial3()
		return err
	})
	select {
	case <-conn.Context().Done():
	case <-time.After(patience):
		t.Fatal("still open")
	}
	// After that a connection may be idle for longer.
	h3 := s.clients()["HTTP/3.0"]
	persist(t, func() error {
		resp, err := h3.Get(s.url)
		if err == nil {
			resp.Body.Close()
		}
		return err
	})
	eventually(t, "one is open", func() bool { return s.open3() == 1 })
	time.Sleep(600 * time.Millisecond)
	if s.open3() != 1 {
		t.Error("closed")
	}
}

// Streams that are opened, between requests that keep the connection, and never become requests, are found out.
func TestMissingRequests3(t *testing.T) {
	s := serveLimited(t, nil, nil)
	conn, err := s.dial3()
	if err != nil {
		t.Fatal(err)
	}
	h3 := (&http3.Transport{}).NewClientConn(conn)
	get := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		req, _ := http.NewRequestWithContext(ctx, "GET", s.url, nil)
		r, err := h3.RoundTrip(req)
		if err == nil {
			r.Body.Close()
		}
		return err
	}
	begin := func(n int) {
		for range n {
			str, err := conn.OpenStreamSync(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			str.Write([]byte{1, 0x44, 0}) // of a HEADERS frame of 1024 bytes, the beginning
		}
	}
	begin(maxMissing)
	if err := get(); err != nil {
		t.Errorf("so many may be on their way: %v", err)
	}
	begin(1)
	_ = get()
	select {
	case <-conn.Context().Done():
	case <-time.After(patience):
		t.Fatal("still open")
	}
	var app *quic.ApplicationError
	if err := context.Cause(conn.Context()); !errors.As(err, &app) || app.ErrorCode != quic.ApplicationErrorCode(http3.ErrCodeExcessiveLoad) {
		t.Errorf("closed for %v", err)
	}
}
