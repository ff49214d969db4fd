package web

import (
	"errors"
	"net/http"
	"strconv"

	"headwater/playlist"
	"headwater/segmenter"
)

// Why a request is not given what it asks for, besides the segmenter's reasons.
var (
	errUnknown      = errors.New("nothing is known under this path")
	errGone         = errors.New("no longer here")
	errUnsteered    = errors.New("this stream has no pathways")
	errBrowser      = errors.New("a page may ask this only under an address or localhost")
	errNoTS         = errors.New("MPEG-TS carries H.264 and AAC alone here, and this is something else")
	errPath         = errors.New("not a canonical path")
	errDirective    = errors.New("malformed delivery directive")
	errMethod       = errors.New("method not allowed")
	errCoding       = errors.New("no acceptable content coding")
	errPrecondition = errors.New("precondition failed")
	errRange        = errors.New("range not satisfiable")
	errBody         = errors.New("request body not wanted")
	errBodyLate     = errors.New("the request body did not come in time")
	errBodyBroken   = errors.New("the request body broke off")
	errHeld         = errors.New("held as long as allowed")
	errCrowded      = errors.New("too many requests are being held")
	errDraining     = errors.New("shutting down")
	errStarved      = errors.New("nothing comes in")
	errInternal     = errors.New("internal error")
	errLeft         = errors.New("the client went away")
)

// statusClientLeft is what log and metrics say of a request whose client did not wait for the reply; nothing is sent.
const statusClientLeft = 499

// A verdict is how an error is told.
type verdict struct {
	status int
	cache  string
	retry  bool
}

// judge maps every error to its reply. What is not there yet is 404 and not 5xx, because some edges honour no-store on
// 404 only; whatever a player should try again is 5xx, because players give up on 4xx. td is the target duration of the
// stream in question, 0 when there is none.
func judge(err error, td int) verdict {
	switch {
	case errors.Is(err, errUnknown), errors.Is(err, errNoTime), errors.Is(err, errNoTS):
		return verdict{status: http.StatusNotFound, cache: maxAge(ageUnknown)}
	case errors.Is(err, errGone), errors.Is(err, playlist.ErrGone):
		return verdict{status: http.StatusNotFound, cache: maxAge(max(td, 1))}
	case errors.Is(err, errUnsteered):
		return verdict{status: http.StatusGone, cache: cacheNever} // whoever gets it never asks again
	case errors.Is(err, errBrowser):
		return verdict{status: http.StatusForbidden, cache: cacheNever}
	case errors.Is(err, segmenter.ErrNotFound), errors.Is(err, segmenter.ErrNotReady):
		return verdict{status: http.StatusNotFound, cache: cacheNever}
	case errors.Is(err, segmenter.ErrTooFar), errors.Is(err, errDirective), errors.Is(err, errPath), errors.Is(err, errBodyBroken), errors.Is(err, errWeighing), errors.Is(err, errTime), errors.As(err, new(errClone)):
		return verdict{status: http.StatusBadRequest, cache: cacheNever}
	case errors.Is(err, errMethod):
		return verdict{status: http.StatusMethodNotAllowed, cache: cacheNever}
	case errors.Is(err, errCoding):
		return verdict{status: http.StatusNotAcceptable, cache: cacheNever}
	case errors.Is(err, errPrecondition):
		return verdict{status: http.StatusPreconditionFailed, cache: cacheNever}
	case errors.Is(err, errBodyLate):
		return verdict{status: http.StatusRequestTimeout, cache: cacheNever}
	case errors.Is(err, errBody):
		return verdict{status: http.StatusRequestEntityTooLarge, cache: cacheNever}
	case errors.Is(err, errRange):
		return verdict{status: http.StatusRequestedRangeNotSatisfiable, cache: cacheNever}
	case errors.Is(err, errHeld), errors.Is(err, errCrowded), errors.Is(err, errDraining), errors.Is(err, errStarved):
		return verdict{status: http.StatusServiceUnavailable, cache: cacheNever, retry: true}
	case errors.Is(err, errLeft):
		return verdict{status: statusClientLeft}
	}
	return verdict{status: http.StatusInternalServerError, cache: cacheNever, retry: true}
}

// fail answers with an error. The text says what is wrong and nothing of what was asked.
func (s *Server) fail(w *response, r *http.Request, err error) { s.failIn(w, r, err, 0) }

// failIn is fail where the target duration is known.
func (s *Server) failIn(w *response, r *http.Request, err error, td int) {
	v := judge(err, td)
	if v.status == statusClientLeft {
		w.status = v.status
		return
	}
	if w.status != 0 {
		w.failed = err // too late for anything but breaking off
		return
	}
	h := w.Header()
	for _, k := range [...]string{"Etag", "Last-Modified", "Content-Encoding", "Accept-Ranges"} {
		delete(h, k) // of the reply that has become this one
	}
	w.fields = w.fields[:0]
	if v.retry {
		w.add("Retry-After", retrySoon)
	}
	switch v.status {
	case http.StatusMethodNotAllowed:
		if len(h["Allow"]) == 0 {
			w.add("Allow", allowed)
		}
	case http.StatusNotAcceptable:
		w.add("Vary", varyEncoding)
	}
	// What is left of a body would be taken for the next request. HTTP/2 has streams for that, and no Connection field
	// (RFC 9113 8.2.2): net/http would close everybody's connection for it.
	if r.ProtoMajor < 2 && (errors.Is(err, errBody) || errors.Is(err, errBodyLate) || errors.Is(err, errBodyBroken)) {
		h.Set("Connection", "close")
	}
	w.say(r, v.status, v.cache, err.Error()+"\n")
}

// say answers with a line of text.
func (w *response) say(r *http.Request, status int, cache, text string) {
	w.add("Cache-Control", cache)
	w.add("Content-Type", typeText)
	w.add("X-Content-Type-Options", nosniff)
	w.add("Content-Length", strconv.Itoa(len(text)))
	w.size = len(text)
	w.writeFields(status)
	if r.Method != http.MethodHead {
		w.WriteString(text)
	}
}
