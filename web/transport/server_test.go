package transport

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"headwater/segmenter"
	"headwater/web"
	"headwater/web/conns"
)

// A site is a Server of a handler that says what protocol it was asked in.
type site struct {
	*Server
	t     testing.TB
	files *files
	url   string
	held  chan struct{} // has one for each request of /held that has come
	free  chan struct{} // closed, it frees them
	drain context.CancelFunc
	log   *lines
	level slog.LevelVar // of log
	ended chan error
}

// lines is a log.
type lines struct {
	mu sync.Mutex // protects b
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func serveSite(t testing.TB, change func(*http.Server)) *site {
	t.Helper()
	return serveLimited(t, change, nil)
}

func serveLimited(t testing.TB, change func(*http.Server), admit *conns.Port) *site {
	t.Helper()
	s := &site{t: t, files: newFiles(t, makePair(t, "one.test", time.Hour)), log: &lines{},
		held: make(chan struct{}, 10), free: make(chan struct{}), ended: make(chan error, 1)}
	if err := s.files.Load(); err != nil {
		t.Fatal(err)
	}
	base, drain := context.WithCancel(t.Context())
	s.drain = drain
	srv := &http.Server{
		Handler: http.HandlerFunc(s.answer), MaxHeaderBytes: 16 << 10, IdleTimeout: time.Minute,
		Protocols: new(http.Protocols), BaseContext: func(net.Listener) context.Context { return base },
	}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetHTTP2(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	if change != nil {
		change(srv)
	}
	ln, conn, _, err := Listen("127.0.0.1:0", true)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: &s.level}))
	s.Server = New(srv, Config{GetCertificate: s.files.GetCertificate, Admit: admit, Log: log}, ln, conn)
	s.url = "https://" + ln.Addr().String()
	go func() { s.ended <- s.Serve() }()
	t.Cleanup(func() {
		s.Close()
		if err := <-s.ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
		drain()
	})
	return s
}

func (s *site) answer(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/held":
		s.held <- struct{}{}
		select {
		case <-s.free:
		case <-r.Context().Done():
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
	case "/stays":
		s.held <- struct{}{}
		<-s.free
	case "/broken":
		w.Header().Set("Content-Length", "100000")
		w.Write(make([]byte, 50000))
		panic(http.ErrAbortHandler)
	}
	io.WriteString(w, r.Proto)
}

// config trusts what the site has now and what pairs are given.
func (s *site) config(more ...pair) *tls.Config {
	c, _ := s.files.read()
	pool := pair{}.roots()
	pool.AddCert(c.Leaf)
	for _, p := range more {
		pool.AppendCertsFromPEM(p.cert)
	}
	return &tls.Config{RootCAs: pool}
}

// clients are one for each protocol, by what it is called in requests.
func (s *site) clients(more ...pair) map[string]*http.Client {
	all := map[string]*http.Client{}
	for proto, set := range map[string]func(*http.Protocols, bool){"HTTP/1.1": (*http.Protocols).SetHTTP1, "HTTP/2.0": (*http.Protocols).SetHTTP2} {
		tr := &http.Transport{TLSClientConfig: s.config(more...), Protocols: new(http.Protocols)}
		set(tr.Protocols, true)
		s.t.Cleanup(tr.CloseIdleConnections)
		all[proto] = &http.Client{Transport: tr}
	}
	tr := &http3.Transport{TLSClientConfig: s.config(more...)}
	s.t.Cleanup(func() { tr.Close() })
	all["HTTP/3.0"] = &http.Client{Transport: tr}
	for _, c := range all {
		c.Timeout = 20 * time.Second
	}
	return all
}

func fetch(t testing.TB, c *http.Client, url string) (*http.Response, string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

// All protocols are there, on ports of one number, and all say the same of HTTP/3.
func TestProtocols(t *testing.T) {
	s := serveSite(t, nil)
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(s.url, "https://"))
	want := []string{`h3=":` + port + `"; ma=86400`}
	for proto, c := range s.clients() {
		for range 2 {
			resp, body := fetch(t, c, s.url)
			if body != proto || resp.Proto != proto {
				t.Errorf("%s: answered in %s to %s", proto, resp.Proto, body)
			}
			if got := resp.Header["Alt-Svc"]; fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: Alt-Svc %q, want %q", proto, got, want)
			}
		}
	}
}

// Of what a client offers, HTTP/2 comes first.
func TestALPN(t *testing.T) {
	s := serveSite(t, nil)
	for _, tt := range []struct {
		offer []string
		want  string
	}{{[]string{"http/1.1", "h2"}, "h2"}, {[]string{"http/1.1"}, "http/1.1"}, {nil, ""}} {
		c := s.config()
		c.NextProtos = tt.offer
		conn, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "https://"), c)
		if err != nil {
			t.Fatal(err)
		}
		if got := conn.ConnectionState().NegotiatedProtocol; got != tt.want {
			t.Errorf("of %q: %q, want %q", tt.offer, got, tt.want)
		}
		conn.Close()
	}
}

func TestVersions(t *testing.T) {
	s := serveSite(t, nil)
	for _, tt := range []struct {
		version uint16
		ok      bool
	}{{tls.VersionTLS10, false}, {tls.VersionTLS11, false}, {tls.VersionTLS12, true}, {tls.VersionTLS13, true}} {
		c := s.config()
		c.MinVersion, c.MaxVersion = tt.version, tt.version
		conn, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "https://"), c)
		if err == nil {
			conn.Close()
		}
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", tls.VersionName(tt.version), err)
		}
	}
	for s.HandshakeErrors() < 2 { // the server's side may still be at it
		if t.Context().Err() != nil {
			return
		}
		time.Sleep(time.Millisecond)
	}
	if s.log.String() != "" {
		t.Errorf("what scanners do is logged:\n%s", s.log)
	}
}

// A session is resumed, but its first request waits for the handshake (RFC 8470 2).
func TestNo0RTT(t *testing.T) {
	s := serveSite(t, nil)
	c := s.config()
	c.ClientSessionCache, c.NextProtos = tls.NewLRUClientSessionCache(1), []string{http3.NextProtoH3}
	addr := strings.TrimPrefix(s.url, "https://")
	for _, resumed := range []bool{false, true} {
		conn, err := quic.DialAddrEarly(t.Context(), addr, c, nil)
		if err != nil {
			t.Fatal(err)
		}
		<-conn.HandshakeComplete()
		if state := conn.ConnectionState(); state.Used0RTT || state.TLS.DidResume != resumed {
			t.Errorf("0-RTT %v, resumed %v", state.Used0RTT, state.TLS.DidResume)
		}
		await(t, func() bool { _, ok := c.ClientSessionCache.Get("127.0.0.1"); return ok })
		conn.CloseWithError(0, "")
	}
}

// New connections get the new certificate, those that are there go on.
func TestReloadKeepsConnections(t *testing.T) {
	s := serveSite(t, nil)
	two := makePair(t, "two.test", time.Hour)
	before := s.clients(two)
	names := func(c *http.Client) string {
		resp, _ := fetch(t, c, s.url)
		return resp.TLS.PeerCertificates[0].Subject.CommonName
	}
	for proto, c := range before {
		if got := names(c); got != "one.test" {
			t.Errorf("%s: %s", proto, got)
		}
	}
	s.files.put(two, 1)
	s.files.look()
	s.files.look()
	for proto, c := range before {
		if got := names(c); got != "one.test" {
			t.Errorf("%s: the connection was not kept: %s", proto, got)
		}
	}
	for proto, c := range s.clients() {
		if got := names(c); got != "two.test" {
			t.Errorf("%s: a new connection got %s", proto, got)
		}
	}
}

func TestHeaderLimit(t *testing.T) {
	s := serveSite(t, nil)
	for proto, c := range s.clients() {
		req, _ := http.NewRequest("GET", s.url, nil)
		req.Header.Set("X-Long", strings.Repeat("x", 64<<10))
		resp, err := c.Do(req)
		if err != nil {
			continue // HTTP/2 and 3 say beforehand what they take, and clients may give up by themselves
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%s: status %d", proto, resp.StatusCode)
		}
	}
}

// A reply that is broken off does not look whole.
func TestBrokenOff(t *testing.T) {
	s := serveSite(t, nil)
	for proto, c := range s.clients() {
		resp, err := c.Get(s.url + "/broken")
		if err != nil {
			continue
		}
		if _, err := io.Copy(io.Discard, resp.Body); err == nil {
			t.Errorf("%s: looks whole", proto)
		}
		resp.Body.Close()
	}
}

// A reader that takes nothing is given up by the deadline of package web, and what it has does not look whole.
func TestStalled(t *testing.T) {
	ended := make(chan error, 1)
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var err error
		for range 64 { // more than buffers and windows hold
			if _, err = w.Write(make([]byte, 1<<20)); err != nil {
				break
			}
		}
		ended <- err
	})
	pages := &web.Server{Origin: &segmenter.Origin{}, WriteTimeout: 300 * time.Millisecond, MinRate: 1 << 30, Page: page}
	s := serveSite(t, func(srv *http.Server) { srv.Handler = pages.Handler() })
	for proto, c := range s.clients() {
		resp, err := c.Get(s.url)
		if err != nil {
			t.Fatalf("%s: %v", proto, err)
		}
		select {
		case err = <-ended:
		case <-time.After(10 * time.Second):
			err = nil
		}
		if err == nil {
			t.Errorf("%s: not given up", proto)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err == nil {
			t.Errorf("%s: looks whole", proto)
		}
		resp.Body.Close()
	}
}

// A held request ends with its connection, and when the server's base context does.
func TestHeld(t *testing.T) {
	s := serveSite(t, nil)
	clients := s.clients()
	status := make(chan string, len(clients))
	for proto, c := range clients {
		go func() {
			resp, err := c.Get(s.url + "/held")
			if err != nil {
				status <- fmt.Sprint(proto, ": ", err)
				return
			}
			resp.Body.Close()
			status <- resp.Status
		}()
	}
	for range clients {
		<-s.held
	}
	s.drain()
	for range clients {
		if got := <-status; got != "503 Service Unavailable" {
			t.Error(got)
		}
	}
}

// Shutdown lets a request end, closes the connections that have none, and takes no new ones.
func TestShutdown(t *testing.T) {
	s := serveSite(t, nil)
	busy, idle := s.clients(), s.clients()
	for _, c := range idle {
		fetch(t, c, s.url)
	}
	bodies := make(chan string, len(busy))
	for proto, c := range busy {
		go func() {
			resp, err := c.Get(s.url + "/held")
			if err != nil {
				bodies <- fmt.Sprint(proto, ": ", err)
				return
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				b = []byte(err.Error())
			}
			bodies <- proto + " " + string(b)
		}()
	}
	for range busy {
		<-s.held
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(ctx) }()
	for s.open3() != 1 { // the idle connection goes, the other stays
		if ctx.Err() != nil {
			t.Fatalf("%d HTTP/3 connections", s.open3())
		}
		time.Sleep(10 * time.Millisecond)
	}
	select {
	case err := <-done:
		t.Fatalf("not waited for requests: %v", err)
	default:
	}
	for proto, c := range s.clients() {
		c.Timeout = time.Second
		if resp, err := c.Get(s.url); err == nil {
			resp.Body.Close()
			t.Errorf("%s: a new connection is taken", proto)
		}
	}
	close(s.free)
	for range busy {
		if got := <-bodies; len(strings.Fields(got)) != 2 || strings.Fields(got)[0] != strings.Fields(got)[1] {
			t.Error(got)
		}
	}
	if err := <-done; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	t.Logf("after %v", time.Since(began))
}

func (s *site) open3() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Shutdown ends when its context does, and Close ends the rest.
func TestShutdownInTime(t *testing.T) {
	s := serveSite(t, nil)
	clients := s.clients()
	ended := make(chan error, len(clients))
	for _, c := range clients {
		go func() {
			resp, err := c.Get(s.url + "/held")
			if err == nil {
				resp.Body.Close()
			}
			ended <- err
		}()
	}
	for range clients {
		<-s.held
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v", err)
	}
	s.Close()
	for range clients {
		<-ended
	}
}

// persist tries again what fails when a connection is closed for being idle before this process had its turn.
func persist(t *testing.T, try func() error) {
	t.Helper()
	var err error
	for range 5 {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

// An HTTP/3 connection without requests is closed, one that only opens streams too.
func TestIdle3(t *testing.T) {
	s := serveSite(t, func(srv *http.Server) { srv.IdleTimeout = 300 * time.Millisecond })
	var conn *quic.Conn
	persist(t, func() (err error) {
		if conn, err = s.dial3(); err != nil {
			return err
		}
		str, err := conn.OpenStreamSync(t.Context())
		if err == nil {
			_, err = str.Write([]byte{1, 0x44, 0}) // of a HEADERS frame of 1024 bytes, the beginning
		}
		return err
	})
	select {
	case <-conn.Context().Done():
	case <-time.After(20 * time.Second):
		t.Fatal("still open")
	}
	var app *quic.ApplicationError
	if err := context.Cause(conn.Context()); !errors.As(err, &app) || app.ErrorCode != quic.ApplicationErrorCode(http3.ErrCodeNoError) {
		t.Errorf("closed for %v", err)
	}

	// A held request is not idleness.
	got := make(chan error, 1)
	persist(t, func() error {
		h3 := s.clients()["HTTP/3.0"]
		go func() {
			resp, err := h3.Get(s.url + "/held")
			if err == nil {
				resp.Body.Close()
				if resp.StatusCode != 200 {
					err = errors.New(resp.Status)
				}
			}
			got <- err
		}()
		select {
		case <-s.held:
			return nil
		case err := <-got:
			return cmp.Or(err, errors.New("it is not held"))
		}
	})
	time.Sleep(600 * time.Millisecond) // twice as long as a connection without one would live
	close(s.free)
	if err := <-got; err != nil {
		t.Error(err)
	}
}

// A request that outlives its connection does not start its idle time again, for which it would be kept in memory.
func TestOutlived3(t *testing.T) {
	s := serveSite(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tr := &http3.Transport{TLSClientConfig: s.config()}
	req, _ := http.NewRequestWithContext(ctx, "GET", s.url+"/stays", nil)
	left := make(chan struct{})
	go func() {
		defer close(left)
		if resp, err := tr.RoundTrip(req); err == nil {
			resp.Body.Close()
		}
	}()
	<-s.held
	s.mu.Lock()
	var c *conn3
	for c = range s.conns {
	}
	s.mu.Unlock()
	cancel()
	<-left
	tr.Close()
	await(t, func() bool { return s.open3() == 0 })
	close(s.free)
	await(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return c.requests == 0
	})
	if c.timer.Stop() {
		t.Error("its time runs")
	}
}

// await waits until ok.
func await(t testing.TB, ok func() bool) {
	t.Helper()
	for late := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("in vain")
		}
	}
}

// Whoever is debugging does not see viewers' queries, which may hold tokens.
func TestNoQueryInLog(t *testing.T) {
	s := serveSite(t, nil)
	s.level.Set(slog.LevelDebug)
	for proto, c := range s.clients() {
		fetch(t, c, s.url+"/?token=secret")
		if l := s.log.String(); strings.Contains(l, "secret") {
			t.Errorf("%s:\n%s", proto, l)
		}
	}
}

// The port of a pair that cannot be had is said by its kind, and the other one is given back.
func TestListen(t *testing.T) {
	free, pc, _, err := Listen("127.0.0.1:0", true) // another program may use the number of a free UDP port for TCP
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	free.Close()
	if _, _, what, err := Listen(pc.LocalAddr().String(), true); err == nil || what != "udp" {
		t.Errorf("%q, %v", what, err)
	}
	ln, conn, _, err := Listen(pc.LocalAddr().String(), false)
	if err != nil || conn != nil {
		t.Fatalf("%v, %v", conn, err)
	}
	defer ln.Close()
	if _, _, what, err := Listen(ln.Addr().String(), true); err == nil || what != "tcp" {
		t.Errorf("%q, %v", what, err)
	}
}

// Without HTTP/3 nothing is announced.
func TestWithoutHTTP3(t *testing.T) {
	ln, _, _, err := Listen("127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	p := makePair(t, "one.test", time.Hour)
	f := newFiles(t, p)
	if err := f.Load(); err != nil {
		t.Fatal(err)
	}
	s := New(&http.Server{Handler: http.NotFoundHandler()}, Config{GetCertificate: f.GetCertificate}, ln, nil)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve() }()
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.roots()}}
	resp, _ := fetch(t, &http.Client{Transport: tr}, "https://"+ln.Addr().String())
	if _, ok := resp.Header["Alt-Svc"]; ok {
		t.Error("HTTP/3 is announced")
	}
	tr.CloseIdleConnections()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
