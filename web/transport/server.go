// Package transport serves over TLS what package web serves: HTTP/1.1 and HTTP/2 on a TCP port and HTTP/3 on the UDP port of
// the same number, with certificates from files or by ACME.
package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"headwater/web/conns"
)

// Limits of HTTP/3. Those of a header's size and of idle connections are the other protocols'.
const (
	// maxStreams is the requests of one connection at a time. Players need few, and edges, which need many, do not speak
	// HTTP/3 to origins.
	maxStreams = 100
	// maxUniStreams is for control, QPACK's two, and some of reserved types (RFC 9114 6.2).
	maxUniStreams = 16
	// What may be on its way to us, and has to be kept when it arrives: requests without bodies to speak of.
	streamWindow = 32 << 10
	connWindow   = 256 << 10
	// maxUnverified is how many handshakes may be under way before a client has to show that its address is its own, which
	// costs it a round trip (Retry; RFC 9000 8.1.2). Until then places can be taken with addresses that are made up.
	maxUnverified = 64
	// maxMissing is the streams of a connection that have been opened and have not become a request. quic-go sets no deadline
	// for that, and does not tell; but requests tell the number of their streams, which are opened in their order. A stream
	// that is given up before its request has come counts too, but hardly happens.
	maxMissing = 64
	// A peer that has gone silent is given up after maxSilence. Held requests are silent by nature, so it is asked meanwhile.
	maxSilence     = 45 * time.Second
	keepAliveEvery = 15 * time.Second
	handshakeIdle  = 5 * time.Second // without a packet; twice as long in all
	// goAwayLinger is how long a connection without a request is kept after it was told to go away (RFC 9114 5.2), for what
	// has been written to arrive. net/http does the same for HTTP/2.
	goAwayLinger = time.Second
	// altSvcAge is for how long a client may try HTTP/3 first (RFC 7838 3.1): a day, because it takes what it has at once
	// where it is wrong.
	altSvcAge = 24 * time.Hour
)

// portTries is how often Listen picks another port when only one of the pair is free.
const portTries = 16

// Listen binds a TCP port and, if udp is set, the UDP port of the same number. On an error what says whether that is "tcp"
// or "udp".
func Listen(addr string, udp bool) (ln net.Listener, conn *net.UDPConn, what string, err error) {
	_, port, _ := net.SplitHostPort(addr)
	for try := 1; ; try++ {
		ln, err = net.Listen("tcp", addr)
		if err != nil || !udp {
			return ln, nil, "tcp", err
		}
		host, _, _ := net.SplitHostPort(addr)
		bound := ln.Addr().(*net.TCPAddr).Port
		pc, err := net.ListenPacket("udp", net.JoinHostPort(host, fmt.Sprint(bound)))
		if err == nil {
			return ln, pc.(*net.UDPConn), "", nil
		}
		ln.Close()
		if port != "0" || !errors.Is(err, syscall.EADDRINUSE) || try == portTries {
			return nil, nil, "udp", err
		}
	}
}

// A Config says how to serve.
type Config struct {
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	NextProtos     []string // of TLS on TCP, beside those of HTTP
	// Admit is how many HTTP/3 connections there may be; nil sets no limit. The TCP listener has its own.
	Admit *conns.Port
	// AltSvcPort is the UDP port that is announced for HTTP/3, where that is mapped from another; 0 is the socket's.
	AltSvcPort int
	Log        *slog.Logger // nil discards
}

// A Server serves one handler over TLS.
type Server struct {
	tcp *http.Server
	ln  net.Listener

	h3    *http3.Server // nil without HTTP/3
	conn  *net.UDPConn
	quic  *quic.Transport // on conn
	conf  *quic.Config
	admit *conns.Port     // may be nil
	base  context.Context // of all requests
	idle  time.Duration
	first time.Duration // for a connection's first request; 0 is idle

	handshakes atomic.Int64
	shaking    atomic.Int64 // QUIC handshakes now

	mu       sync.Mutex // protects what follows
	conns    map[*conn3]struct{}
	stopping bool
	listener *quic.Listener // of quic, once it is served
}

// New returns a Server with the handler and the limits of srv, which it takes over; conn is nil without HTTP/3.
func New(srv *http.Server, c Config, ln net.Listener, conn *net.UDPConn) *Server {
	s := &Server{tcp: srv, ln: ln, conn: conn, conns: map[*conn3]struct{}{}}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	// The rest, cipher suites and key exchanges, is as crypto/tls has it, which moves with its time.
	config := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.GetCertificate, NextProtos: c.NextProtos}
	srv.TLSConfig = config
	srv.ErrorLog = log.New(&errorLog{next: srv.ErrorLog, log: c.Log, handshakes: &s.handshakes}, "", 0)
	if srv.Protocols != nil {
		srv.Protocols.SetUnencryptedHTTP2(false)
	}
	if conn == nil {
		return s
	}

	s.base = context.Background()
	if srv.BaseContext != nil {
		s.base = srv.BaseContext(ln)
	}
	s.idle, s.first, s.admit = srv.IdleTimeout, srv.ReadHeaderTimeout, c.Admit
	port := c.AltSvcPort
	if port == 0 {
		port = conn.LocalAddr().(*net.UDPAddr).Port
	}
	handler := announce(srv.Handler, fmt.Sprintf(`h3=":%d"; ma=%d`, port, int(altSvcAge.Seconds())))
	srv.Handler = handler
	s.h3 = &http3.Server{
		Handler:        http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve3(handler, w, r) }),
		TLSConfig:      http3.ConfigureTLSConfig(&tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: c.GetCertificate}),
		MaxHeaderBytes: srv.MaxHeaderBytes,
		ConnContext:    s.accepted,
		Logger:         slog.New(warnings{c.Log.Handler()}),
	}
	s.conf = &quic.Config{
		HandshakeIdleTimeout:           handshakeIdle,
		MaxIdleTimeout:                 maxSilence,
		KeepAlivePeriod:                keepAliveEvery,
		MaxIncomingStreams:             maxStreams,
		MaxIncomingUniStreams:          maxUniStreams,
		InitialStreamReceiveWindow:     streamWindow,
		MaxStreamReceiveWindow:         streamWindow,
		InitialConnectionReceiveWindow: connWindow,
		MaxConnectionReceiveWindow:     connWindow,
		// What comes in 0-RTT can be sent again by whoever has heard it (RFC 8470 2). A GET changes nothing here, but
		// one that is held takes a place, and the round trip is saved only by who comes back.
		Allow0RTT: false,
	}
	s.quic = &quic.Transport{Conn: conn, ConnContext: s.enter,
		VerifySourceAddress: func(net.Addr) bool { return s.shaking.Load() >= maxUnverified }}
	return s
}

// announce tells every client the same of HTTP/3, over HTTP/3 too: caches share replies.
func announce(h http.Handler, altSvc string) http.Handler {
	value := []string{altSvc}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Alt-Svc"] = value
		h.ServeHTTP(w, r)
	})
}

// Serve serves until the server is shut down or closed, or one of its sockets fails, which is an error.
func (s *Server) Serve() error {
	if s.h3 == nil {
		return closed(s.tcp.ServeTLS(s.ln, "", ""))
	}
	ended := make(chan error, 2)
	go func() { ended <- closed(s.tcp.ServeTLS(s.ln, "", "")) }()
	go func() { ended <- closed(s.serveQUIC()) }()
	err := <-ended
	if err != nil {
		s.Close()
	}
	return errors.Join(err, <-ended)
}

// serveQUIC waits for handshakes to end, which early connections would not: there is nothing that the server could send before.
func (s *Server) serveQUIC() error {
	ln, err := s.quic.Listen(s.h3.TLSConfig, s.conf)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.listener = ln
	stopping := s.stopping
	s.mu.Unlock()
	if stopping {
		ln.Close()
	}
	return s.h3.ServeListener(ln)
}

func closed(err error) error {
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, quic.ErrTransportClosed) {
		return nil
	}
	return err
}

// Shutdown tells clients to go away (GOAWAY), lets requests end, and returns when all have, or ctx has; then Close is due.
// What srv has registered by RegisterOnShutdown is called.
func (s *Server) Shutdown(ctx context.Context) error {
	if s.h3 == nil {
		return s.tcp.Shutdown(ctx)
	}
	tcp := make(chan error, 1)
	go func() { tcp <- s.tcp.Shutdown(ctx) }()
	s.mu.Lock()
	s.stopping = true
	for c := range s.conns {
		c.rest()
	}
	if s.listener != nil {
		s.listener.Close()
	}
	s.mu.Unlock()
	err := s.h3.Shutdown(ctx)
	s.quic.Close()
	s.conn.Close()
	return errors.Join(<-tcp, err)
}

// Close ends everything at once.
func (s *Server) Close() error {
	err := s.tcp.Close()
	if s.h3 != nil {
		err = errors.Join(err, s.h3.Close())
		s.quic.Close()
		s.conn.Close()
	}
	return err
}

// HandshakeErrors returns how many TLS handshakes have failed, on TCP.
func (s *Server) HandshakeErrors() int64 { return s.handshakes.Load() }

// A conn3 is an HTTP/3 connection. It is closed when it has had no request for the idle timeout. What only begins to be a
// request does not count: streams that are opened and left do not keep a connection.
type conn3 struct {
	server *Server
	conn   *quic.Conn

	// The server's mu protects what follows.
	requests int   // now
	seen     int64 // requests since it began
	opened   int64 // streams since it began, as far as their requests tell
	timer    *time.Timer
}

type (
	conn3Key   struct{}
	shakingKey struct{}
)

var errCrowded = errors.New("too many connections")

// enter takes a place for a connection whose first packet has come, or refuses it, which costs one packet and keeps nothing
// (CONNECTION_REFUSED; RFC 9000 5.2.2). ctx ends when the connection does, or its handshake fails.
func (s *Server) enter(ctx context.Context, _ *quic.ClientInfo) (context.Context, error) {
	if s.admit != nil {
		if !s.admit.Enter() {
			return nil, errCrowded
		}
		context.AfterFunc(ctx, s.admit.Leave)
	}
	s.shaking.Add(1)
	shaken := sync.OnceFunc(func() { s.shaking.Add(-1) })
	context.AfterFunc(ctx, shaken)
	return context.WithValue(ctx, shakingKey{}, shaken), nil
}

// accepted makes a connection's requests end with the server's base context too.
func (s *Server) accepted(ctx context.Context, qc *quic.Conn) context.Context {
	if shaken, ok := ctx.Value(shakingKey{}).(func()); ok {
		shaken()
	}
	ctx, cancel := context.WithCancel(ctx)
	unlink := context.AfterFunc(s.base, cancel)
	c := &conn3{server: s, conn: qc}
	s.mu.Lock()
	c.timer = time.AfterFunc(time.Hour, c.expire)
	if c.rest(); s.first > 0 && !s.stopping && (s.idle <= 0 || s.first < s.idle) {
		c.timer.Reset(s.first)
	}
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	context.AfterFunc(qc.Context(), func() {
		unlink()
		cancel()
		s.mu.Lock()
		c.timer.Stop()
		delete(s.conns, c)
		s.mu.Unlock()
	})
	return context.WithValue(ctx, conn3Key{}, c)
}

// rest starts the time without a request, if there is none. The server's mu is held.
func (c *conn3) rest() {
	switch {
	case c.requests > 0 || c.conn.Context().Err() != nil: // a timer would keep what is closed in memory
	case c.server.stopping:
		c.timer.Reset(goAwayLinger)
	case c.server.idle > 0:
		c.timer.Reset(c.server.idle)
	}
}

func (c *conn3) expire() {
	s := c.server
	s.mu.Lock()
	late := c.requests > 0
	s.mu.Unlock()
	if !late {
		c.conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
	}
}

func (s *Server) serve3(h http.Handler, w http.ResponseWriter, r *http.Request) {
	c, ok := r.Context().Value(conn3Key{}).(*conn3)
	if !ok {
		panic("transport: a request without its connection")
	}
	s.mu.Lock()
	c.requests++
	c.seen++
	if b, ok := r.Body.(interface{ StreamID() quic.StreamID }); ok {
		c.opened = max(c.opened, int64(b.StreamID())/4+1) // those that clients open are 0, 4, 8 (RFC 9000 2.1)
	}
	missing := c.opened - c.seen
	c.timer.Stop()
	s.mu.Unlock()
	if missing > maxMissing {
		c.conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeExcessiveLoad), "")
	}
	defer func() {
		s.mu.Lock()
		c.requests--
		c.rest()
		s.mu.Unlock()
	}()
	h.ServeHTTP(w, r)
}

// warnings leaves out what is below them: for whoever is debugging http3 logs every request with its query, which may hold a
// viewer's token.
type warnings struct{ slog.Handler }

func (w warnings) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && w.Handler.Enabled(ctx, l)
}

// An errorLog takes what net/http complains about. Handshakes fail all day on a public port, for scanners and for clients
// that trust nobody: they are counted, and logged for whoever is debugging.
type errorLog struct {
	next       *log.Logger
	log        *slog.Logger
	handshakes *atomic.Int64
}

var handshakeError = []byte("http: TLS handshake error") // as net/http writes it

func (l *errorLog) Write(line []byte) (int, error) {
	if bytes.HasPrefix(line, handshakeError) {
		l.handshakes.Add(1)
		l.log.Debug(string(bytes.TrimSpace(line)))
	} else if l.next != nil {
		l.next.Print(string(line))
	}
	return len(line), nil
}
