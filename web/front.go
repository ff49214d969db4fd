package web

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/mux"

	"headwater/segmenter"
	"headwater/web/http1"
)

// A front is what every request passes first: it answers preflights, refuses paths
// that are not canonical, and counts and logs what became of the request.
type front struct {
	server  *Server
	router  *mux.Router
	private bool // the operations port: no CORS, no counting among the requests for media
}

// A response is a ResponseWriter that knows what has been written. It is used again after the request.
type response struct {
	http.ResponseWriter
	server  *Server
	deadlin deadliner
	match   mux.RouteMatch

	private bool // it has no CORS headers
	fields  []http1.Field
	room    [12]http1.Field // for fields

	object object // what the handler wants to be sent, if ready
	ready  bool

	class  Class
	stream *segmenter.Stream // that the request is about, if there is one
	began  time.Time
	first  time.Time     // when the header was written, where somebody wants to know
	status int           // 0 until the header is written
	sent   int64         // bytes of body
	size   int           // of the body to come, as far as known; -1: HEAD of what has not been made
	held   time.Duration // how long the request was made to wait
	failed error         // the body is incomplete: the connection must not look as if it were not
}

// A deadliner is a ResponseWriter whose peer can be given up on (http.ResponseController finds the same methods, but
// allocates an error when there are none).
type deadliner interface {
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

var responses = sync.Pool{New: func() any {
	return &response{match: mux.RouteMatch{Vars: map[string]string{}}}
}}

func (f *front) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	s := f.server
	w := responses.Get().(*response)
	w.ResponseWriter, w.server, w.private, w.class, w.began = rw, s, f.private, ClassOther, time.Now()
	w.fields = w.room[:0]
	w.deadlin = findDeadliner(rw)
	defer func() {
		if v := recover(); v != nil {
			f.panicked(w, r, v)
		}
		failed := w.failed
		if w.status == statusClientLeft {
			// It may only have said that no more requests come, and still listen (RFC 9112 9.6). Left alone, net/http would
			// say 200, of nothing, to be kept for as long as one likes.
			failed = errLeft
		}
		if !f.private {
			s.metrics.count(w)
			s.countCMCD(w, r)
			if s.AccessLog {
				s.logAccess(w, r)
			}
		}
		if w.held == 0 {
			clear(w.match.Vars)
			*w = response{match: mux.RouteMatch{Vars: w.match.Vars}}
			responses.Put(w)
		} // else thousands come back at once, for which the pool would have to grow
		if failed != nil {
			// Breaks off the connection or stream: neither a cache nor a player may take what was sent for the whole
			// (RFC 9112 8, RFC 9113 8.1).
			panic(http.ErrAbortHandler)
		}
	}()

	if !f.private || !isWeighing(r) { // whose handler reads the body
		if err := w.readBodyAway(r); err != nil {
			s.fail(w, r, err)
			return
		}
	}
	if r.Method == http.MethodOptions {
		preflight(w)
		return
	}
	if !canonical(r) {
		s.fail(w, r, errPath)
		return
	}
	// What mux.Router.ServeHTTP would do, without two copies of the request for a context that nobody reads.
	if f.router.Match(r, &w.match); w.match.Handler != nil {
		w.match.Handler.ServeHTTP(w, r)
	} else {
		s.fail(w, r, errUnknown)
	}
	if w.ready {
		s.serveObject(w, r, &w.object)
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
}

// reply has o sent when the handler has returned. Thousands of requests are held and answered at one time: writing takes more
// stack than waiting, and on top of the handler's own it would not fit into what a goroutine has at that time.
func (w *response) reply(o *object) { w.object, w.ready = *o, true }

func (f *front) panicked(w *response, r *http.Request, v any) {
	if v == http.ErrAbortHandler {
		w.failed = http.ErrAbortHandler
		return
	}
	f.server.metrics.panics.Add(1)
	f.server.log.Error("request failed", "path", r.URL.Path, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	f.server.fail(w, r, errInternal)
}

// preflight answers OPTIONS, for whatever path: it needs no authorisation and says the same to everybody (Fetch, CORS
// protocol).
func preflight(w *response) {
	w.add("Access-Control-Allow-Methods", allowed)
	w.add("Access-Control-Allow-Headers", allowedHeads)
	w.add("Access-Control-Max-Age", preflightAge)
	w.add("Allow", allowed)
	w.add("Cache-Control", cacheDay)
	w.writeFields(http.StatusNoContent)
}

// canonical says whether a request's path is the one under which a cache may keep the object. The path has been
// percent-decoded once; what could be read as another path is refused rather than redirected or guessed.
func canonical(r *http.Request) bool {
	p := r.URL.Path
	if p == "" || p[0] != '/' {
		return false
	}
	// RawPath is set when the path is not written as it would be by default. Of media that is an alias, and each would be
	// kept by caches beside the others; the playlists' own URIs need no escapes.
	if raw := r.URL.RawPath; raw != "" && (hasEscapedSlash(raw) || isMedia(r, nil)) {
		return false
	}
	for i := 0; i < len(p); i++ {
		switch c := p[i]; {
		case c == '\\' || c < ' ' || c == 0x7f:
			return false
		case c != '/':
			continue
		}
		// An element begins after i.
		rest := p[i+1:]
		if n := strings.IndexByte(rest, '/'); n >= 0 {
			rest = rest[:n]
			if n == 0 {
				return false
			}
		}
		if rest == "." || rest == ".." {
			return false
		}
	}
	return true
}

func hasEscapedSlash(raw string) bool {
	for i := 0; i+2 < len(raw); i++ {
		if raw[i] == '%' && (raw[i+1] == '2' && raw[i+2]|0x20 == 'f' || raw[i+1] == '5' && raw[i+2]|0x20 == 'c') {
			return true
		}
	}
	return false
}

// readBodyAway reads the body that a GET may carry but that means nothing. Left to net/http it would be read after the
// handler, without a deadline.
func (w *response) readBodyAway(r *http.Request) error {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil
	}
	w.readDeadline(requestBodyTimeout)
	if r.ContentLength > maxRequestBody {
		return errBody
	}
	n, err := io.Copy(io.Discard, io.LimitReader(r.Body, maxRequestBody+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errBodyLate
	case err != nil:
		return errBodyBroken
	case n > maxRequestBody:
		return errBody
	}
	if w.deadlin != nil {
		_ = w.deadlin.SetReadDeadline(time.Time{})
	}
	return nil
}

func findDeadliner(w http.ResponseWriter) deadliner {
	for {
		if d, ok := w.(deadliner); ok {
			return d
		}
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return nil
		}
		w = u.Unwrap()
	}
}

// A writer that cannot set deadlines is a test's, or one whose connection is gone.
func (w *response) readDeadline(d time.Duration) {
	if w.deadlin != nil {
		_ = w.deadlin.SetReadDeadline(time.Now().Add(d))
	}
}

// WriteHeader also gives a reply that does not say how long it may be kept the word that it may not, CORS headers, and the peer a time by which it
// has to have read everything.
func (w *response) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	if status < 200 {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	w.status = status
	h := w.Header()
	if len(h["Cache-Control"]) == 0 {
		h.Set("Cache-Control", cacheNever)
	}
	if !w.private {
		for i := range cors {
			h[cors[i].Name] = corsValues[i : i+1 : i+1]
		}
	}
	w.timed()
	w.limit()
	w.ResponseWriter.WriteHeader(status)
}

// limit gives the peer a time by which it has to have read everything.
func (w *response) limit() {
	if w.deadlin != nil {
		s := w.server
		d := s.WriteTimeout + time.Duration(w.size)*time.Second/time.Duration(s.MinRate)
		_ = w.deadlin.SetWriteDeadline(time.Now().Add(d))
	}
}

// A fieldWriter is a ResponseWriter of ours, which takes fields as they are.
type fieldWriter interface {
	WriteFields(status int, fields []http1.Field, length int)
}

// add adds a field to what writeFields sends; its name is in canonical form.
func (w *response) add(name, value string) {
	w.fields = append(w.fields, http1.Field{Name: name, Value: value})
}

// writeFields is WriteHeader for what has been added, Cache-Control with it. The fields go into the header map only where somebody needs one.
func (w *response) writeFields(status int) {
	if w.status != 0 {
		return
	}
	if to, ok := w.ResponseWriter.(fieldWriter); ok && len(w.Header()) == 0 && !w.server.AccessLog && !w.server.ServerTiming {
		w.status = status
		if !w.private {
			w.fields = append(w.fields, cors[:]...)
		}
		w.limit()
		to.WriteFields(status, w.fields, w.size)
		return
	}
	h, values := w.Header(), make([]string, len(w.fields))
	for i, f := range w.fields {
		values[i] = f.Value
		h[f.Name] = values[i : i+1 : i+1]
	}
	w.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	n, err := w.ResponseWriter.Write(b)
	w.sent += int64(n)
	if err != nil {
		w.failed = err
	}
	return n, err
}

// ReadFrom sends what src holds, by sendfile(2) where it is a file and the connection is plain.
func (w *response) ReadFrom(src io.Reader) (int64, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	n, err := io.Copy(w.ResponseWriter, src) // has that one's ReadFrom do it
	w.sent += n
	if err != nil {
		w.failed = err
	}
	return n, err
}

// WriteString is Write; an error is kept.
func (w *response) WriteString(s string) { _, _ = w.Write([]byte(s)) }

// Unwrap is for http.ResponseController, for deadlines alone: by its Flush a header would go out that lacks what WriteHeader adds.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }
