// Package web serves what an Origin holds over HTTP: playlists with blocking reload, segments, parts and initialization
// sections, the pages and their data, and on another port health and metrics. It refuses what no cache could share:
// sessions, cookies, redirects of media, more than one path for an object.
package web

import (
	"context"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/mux"

	"headwater/segmenter"
	"headwater/web/http1"
)

// Defaults of a Server's limits.
const (
	DefaultReadHeaderTimeout = 10 * time.Second
	// DefaultIdleTimeout is longer than the keep-alive of the usual edges, so that it is they who close.
	DefaultIdleTimeout = 120 * time.Second
	// DefaultWriteTimeout and DefaultMinRate bound how long a reply may take once it is ready: the first, and on top of it
	// the time that its bytes take at the second.
	DefaultWriteTimeout = 15 * time.Second
	DefaultMinRate      = 32 << 10 // bytes a second
	// DefaultMaxHeaderBytes bounds a request's header, query included; CMCD makes queries of a kilobyte or two.
	DefaultMaxHeaderBytes = 16 << 10
	// DefaultWarmUp is how long a request for a stream that is starting is held, at least, where the first group of
	// pictures may settle the target duration (at most 10 s) and has to end first.
	DefaultWarmUp = 15 * time.Second
	// DefaultMaxBlocked bounds the requests that are held at one time. One stream gets half of them, so that none
	// can take the places of all others.
	DefaultMaxBlocked = 100_000
	// DefaultMaxStreams is the HTTP/2 streams on one connection: an edge sends all its viewers' blocked requests on few.
	DefaultMaxStreams = 1000
)

// How a request's body, of which no use is made, is read away.
const (
	maxRequestBody     = 64 << 10
	requestBodyTimeout = 5 * time.Second
)

// What may be on its way to us on an HTTP/2 connection, and has to be kept when it arrives; by default 1 MiB each. Requests
// have no bodies to speak of. These are the least that the protocol allows (RFC 9113 4.2, 6.9.2).
const (
	maxFrame      = 16 << 10
	receiveBuffer = 64<<10 - 1
)

// How a silent HTTP/2 peer is found out.
const (
	pingAfter       = 30 * time.Second
	pingTimeout     = 15 * time.Second
	writeByteWindow = 30 * time.Second
)

// A Server serves the streams of an Origin. Its fields are set before its first use; zero values stand for the defaults.
type Server struct {
	Origin    *segmenter.Origin
	Log       *slog.Logger // nil discards
	AccessLog bool         // one line a request
	// ServerTiming lets each reply say how long the request was held and how long the rest took. Replies to one URL then differ
	// in that header.
	ServerTiming bool
	Page         http.Handler // what is neither media nor data; nil is 404
	Counters     []Counter    // what other packages count, for /metrics

	// Steering, if set, returns the content steering of the stream of that name, nil for none. Steerings are all that it may return.
	Steering  func(stream string) *Steering
	Steerings []*Steering
	steer     sync.Mutex // held by who changes what is in force of them

	// Ready, if set, says why the origin should get no traffic yet; nil from it means that it may.
	Ready func() error
	// Warning is what /readyz says beside that it is ready; "" is nothing. nil never says anything.
	Warning func() string

	ReadHeaderTimeout time.Duration
	IdleTimeout       time.Duration
	WriteTimeout      time.Duration
	MinRate           int // bytes a second
	MaxHeaderBytes    int
	WarmUp            time.Duration
	MaxBlocked        int // requests held at one time, in all
	MaxBlockedStream  int // and for one stream; half of them by default
	MaxStreams        int // HTTP/2 streams on one connection

	once     sync.Once
	log      *slog.Logger
	base     context.Context // of every request; Drain cancels it
	cancel   context.CancelFunc
	draining atomic.Bool
	metrics  Metrics
	cmcd     cmcdStats
	gate     gate
	alarms   alarms
	streams  memo
	ts       tsCache
	spans    spanCache

	recordings memo
}

func orDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

func (s *Server) init() {
	s.once.Do(func() {
		s.log = s.Log
		if s.log == nil {
			s.log = slog.New(slog.DiscardHandler)
		}
		orDefault(&s.ReadHeaderTimeout, DefaultReadHeaderTimeout)
		orDefault(&s.IdleTimeout, DefaultIdleTimeout)
		orDefault(&s.WriteTimeout, DefaultWriteTimeout)
		orDefault(&s.MinRate, DefaultMinRate)
		orDefault(&s.MaxHeaderBytes, DefaultMaxHeaderBytes)
		orDefault(&s.WarmUp, DefaultWarmUp)
		orDefault(&s.MaxBlocked, DefaultMaxBlocked)
		orDefault(&s.MaxBlockedStream, max(s.MaxBlocked/2, 1))
		orDefault(&s.MaxStreams, DefaultMaxStreams)
		s.gate.total, s.gate.each = int64(s.MaxBlocked), s.MaxBlockedStream
		s.base, s.cancel = context.WithCancel(context.Background())
	})
}

// Metrics returns what the server counts. Its ObservePart is made for Origin.OnPart.
func (s *Server) Metrics() *Metrics { return &s.metrics }

// Handler returns the handler of the media port: media, pages and their data.
func (s *Server) Handler() http.Handler {
	s.init()
	r := newRouter(s)
	// Media first, and without a pattern: its tail is parsed by hand, once, where it is served.
	r.MatcherFunc(isMedia).HandlerFunc(s.serveMedia)
	r.MatcherFunc(isSteering).HandlerFunc(s.serveSteering)
	s.routeAPI(r)
	if s.Page != nil {
		r.PathPrefix("/").HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			w.(*response).class = ClassPage
			s.Page.ServeHTTP(w, req)
		})
	}
	return &front{server: s, router: r}
}

// OpsHandler returns the handler of the operations port: /healthz, /readyz, /metrics, and the data of the pages.
func (s *Server) OpsHandler() http.Handler {
	s.init()
	r := newRouter(s)
	s.routeOps(r)
	s.routePathways(r)
	s.routeRemoval(r)
	s.routeAPI(r)
	return &front{server: s, router: r, private: true}
}

// newRouter returns a router that never redirects: it takes paths as they are.
func newRouter(s *Server) *mux.Router {
	r := mux.NewRouter().SkipClean(true).UseEncodedPath()
	r.NotFoundHandler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s.fail(w.(*response), req, errUnknown)
	})
	r.MethodNotAllowedHandler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s.fail(w.(*response), req, errMethod)
	})
	return r
}

// HTTPServer returns a server for one of the handlers: HTTP/1.1 and HTTP/2 without TLS (prior knowledge; RFC 9113 3.3).
// Its Shutdown drains: held requests are answered at once, bodies are finished, and from then on nothing is held.
func (s *Server) HTTPServer(h http.Handler) *http.Server {
	s.init()
	srv := &http.Server{
		Handler: h,
		// There is no ReadTimeout and no WriteTimeout: both would run while a request is held. Bodies of requests and
		// replies have deadlines of their own.
		ReadHeaderTimeout:            s.ReadHeaderTimeout,
		IdleTimeout:                  s.IdleTimeout,
		MaxHeaderBytes:               s.MaxHeaderBytes,
		DisableGeneralOptionsHandler: true,
		Protocols:                    new(http.Protocols),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          s.MaxStreams,
			MaxReadFrameSize:              maxFrame,
			MaxReceiveBufferPerConnection: receiveBuffer,
			MaxReceiveBufferPerStream:     receiveBuffer,
			SendPingTimeout:               pingAfter,
			PingTimeout:                   pingTimeout,
			WriteByteTimeout:              writeByteWindow,
		},
		BaseContext: func(net.Listener) context.Context { return s.base },
		ErrorLog:    log.New(io.Discard, "", 0),
	}
	if s.Log != nil {
		srv.ErrorLog = slog.NewLogLogger(s.log.Handler(), slog.LevelWarn)
	}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetHTTP2(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	srv.RegisterOnShutdown(s.Drain)
	return srv
}

// PlainServer is HTTPServer for a port without TLS, from conns: what players and edges ask over HTTP/1.1 does not go through net/http.
func (s *Server) PlainServer(h http.Handler) *http1.Server {
	return &http1.Server{HTTP: s.HTTPServer(h)}
}

// Drain answers every held request at once, with 503, and lets none be held from now on; /readyz says so. What does not
// have to wait is served as before. To wake them with playlists that have ended instead, end the Origin first.
func (s *Server) Drain() {
	s.init()
	s.draining.Store(true)
	s.cancel()
}
