package web

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"headwater/playlist"
	"headwater/segmenter"
)

// An object is what a GET is answered with, and what is said of it. One of bytes, part, segment and ts is set.
type object struct {
	contentType string
	cache       string
	tag         string // of the strong entity tag, without quotes
	quoted      string // with them, if that is there already
	length      string // size, likewise
	modified    int64  // Unix seconds; 0 is not known
	live        bool   // it may change again within the second modified
	coding      playlist.Encoding
	varies      bool // with Accept-Encoding
	ranges      bool // ranges of it may be asked for
	cmsd        cmsd
	size        int // bytes

	bytes   []byte
	part    *segmenter.Part
	segment *segmenter.Segment
	ts      *tsObject // made when it is needed: until then size is not known
	target  int       // the target duration that an error is told with; seconds
}

func (o *object) setPlaylist(p *playlist.Rendered) {
	o.contentType = typePlaylist
	o.bytes, o.size, o.tag, o.coding, o.varies = p.Body, len(p.Body), p.ETag, p.Encoding, true
	o.quoted, o.length = p.Tag, p.Length
}

// serveObject answers GET and HEAD: preconditions first, in the order of RFC 9110 13.2.2, then the range, then the whole.
func (s *Server) serveObject(w *response, r *http.Request, o *object) {
	tag := o.quoted
	if tag == "" {
		tag = `"` + o.tag + `"`
	}
	switch o.conditions(r.Header, tag) {
	case http.StatusNotModified:
		o.describe(w, tag)
		w.writeFields(http.StatusNotModified)
		return
	case http.StatusPreconditionFailed:
		if o.varies {
			w.Header().Set("Vary", varyEncoding)
		}
		s.fail(w, r, errPrecondition)
		return
	}
	o.describe(w, tag)
	w.add("Content-Type", o.contentType)
	if v := o.cmsd.String(); v != "" {
		w.add("Cmsd-Static", v)
	}
	if o.coding != playlist.Identity { // which has no name here (RFC 9110 8.4)
		w.add("Content-Encoding", o.coding.String())
	}
	if o.ranges {
		w.add("Accept-Ranges", rangeUnit)
	}
	if o.ts != nil && !s.loadTS(w, r, o) {
		return
	}
	status, from, n := http.StatusOK, 0, o.size
	// Range is defined for GET alone (RFC 9110 14.2).
	if v := r.Header["Range"]; o.ranges && len(v) == 1 && r.Method == http.MethodGet && o.ifRange(r.Header, tag) {
		first, length, kind := parseRange(v[0], o.size)
		switch kind {
		case rangeOne:
			status, from, n = http.StatusPartialContent, first, length
			w.add("Content-Range", "bytes "+strconv.Itoa(from)+"-"+strconv.Itoa(from+n-1)+"/"+strconv.Itoa(o.size))
		case rangeBeyond:
			w.Header().Set("Content-Range", "bytes */"+strconv.Itoa(o.size))
			s.fail(w, r, errRange)
			return
		}
	}
	length := o.length
	if length == "" {
		length = strconv.Itoa(n)
	}
	w.add("Content-Length", length)
	w.size = n
	w.writeFields(status)
	if r.Method != http.MethodHead {
		// It is acted upon when the handler is done. What w could not send it has kept by itself; what could not be read is told here.
		if err := o.writeRange(w, from, n); err != nil && w.failed == nil {
			w.failed = err
		}
	}
}

// describe adds what 304 says too.
func (o *object) describe(w *response, tag string) {
	w.add("Etag", tag)
	w.add("Cache-Control", o.cache)
	if o.modified > 0 {
		w.add("Last-Modified", httpDate(o.modified))
	}
	if o.varies {
		w.add("Vary", varyEncoding)
	}
}

// writeRange writes n bytes from offset from on.
func (o *object) writeRange(w io.Writer, from, n int) error {
	switch {
	case o.segment != nil:
		return o.segment.WriteRange(w, from, n)
	case o.part != nil:
		return o.part.WriteRange(w, from, n)
	}
	_, err := w.Write(o.bytes[from : from+n])
	return err
}

// conditions evaluates a request's preconditions (RFC 9110 13.2.2): the status that they make of the reply, or 0.
func (o *object) conditions(h http.Header, tag string) int {
	if v := h["If-Match"]; len(v) > 0 {
		if !listsTag(v, tag, false) {
			return http.StatusPreconditionFailed
		}
	} else if v := h["If-Unmodified-Since"]; len(v) == 1 && o.modified > 0 {
		if t, err := http.ParseTime(v[0]); err == nil && o.modified > t.Unix() {
			return http.StatusPreconditionFailed
		}
	}
	if v := h["If-None-Match"]; len(v) > 0 {
		if listsTag(v, tag, true) {
			return http.StatusNotModified
		}
		return 0
	}
	if v := h["If-Modified-Since"]; len(v) == 1 && o.modified > 0 {
		t, err := http.ParseTime(v[0])
		if err != nil {
			return 0
		}
		// A live playlist changes several times a second: one that was modified in the second in question may not be the
		// one that the client has.
		if since := t.Unix(); since > o.modified || since == o.modified && !o.live {
			return http.StatusNotModified
		}
	}
	return 0
}

// ifRange says whether the condition under which a range is wanted holds (RFC 9110 13.1.5).
func (o *object) ifRange(h http.Header, tag string) bool {
	v := h["If-Range"]
	if len(v) == 0 {
		return true
	}
	if strings.HasPrefix(v[0], `"`) || strings.HasPrefix(v[0], "W/") {
		return v[0] == tag
	}
	t, err := http.ParseTime(v[0])
	return err == nil && o.modified > 0 && t.Equal(time.Unix(o.modified, 0))
}

// listsTag says whether a list of entity tags has tag in it, or is "*". weakly compares as RFC 9110 8.8.3.2 says.
func listsTag(values []string, tag string, weakly bool) bool {
	for _, v := range values {
		if v == tag {
			return true
		}
		for {
			v = strings.TrimLeft(v, " \t,")
			if v == "" {
				break
			}
			if v[0] == '*' {
				return true
			}
			weak := strings.HasPrefix(v, "W/")
			if weak {
				v = v[2:]
			}
			if v == "" || v[0] != '"' {
				break
			}
			end := strings.IndexByte(v[1:], '"')
			if end < 0 {
				break
			}
			if v[:end+2] == tag && (weakly || !weak) {
				return true
			}
			v = v[end+2:]
		}
	}
	return false
}

// What a Range header asks for.
const (
	rangeNone   = iota // nothing that has to be honoured: the whole is sent
	rangeOne           // one range
	rangeBeyond        // only what is not there
)

// parseRange reads a Range header for an object of that size (RFC 9110 14.1.2, 14.2). Another unit, bad syntax and more
// than one range are rangeNone. A last byte beyond the end, such as 2^53-1 (RFC 8673), is the end.
func parseRange(v string, size int) (from, n, kind int) {
	const unit = "bytes="
	if len(v) < len(unit) || !strings.EqualFold(v[:len(unit)], unit) {
		return 0, 0, rangeNone
	}
	first, last, ok := strings.Cut(trimSpace(v[len(unit):]), "-")
	if !ok {
		return 0, 0, rangeNone
	}
	if first == "" {
		suffix, ok := rangeNumber(last, size)
		switch {
		case !ok:
			return 0, 0, rangeNone
		case suffix == 0:
			return 0, 0, rangeBeyond
		}
		return size - suffix, suffix, rangeOne
	}
	from, ok = rangeNumber(first, size)
	if !ok {
		return 0, 0, rangeNone
	}
	to := size
	if last != "" {
		if to, ok = rangeNumber(last, size); !ok || less(last, first) {
			return 0, 0, rangeNone
		}
	}
	if from >= size {
		return 0, 0, rangeBeyond
	}
	return from, min(to, size-1) - from + 1, rangeOne
}

// rangeNumber reads a decimal number, however large, as at most limit.
func rangeNumber(s string, limit int) (n int, ok bool) {
	for i := range len(s) {
		c := s[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		n = min(n*10+int(c-'0'), limit)
	}
	return n, s != ""
}

// less compares decimal numbers of any length.
func less(a, b string) bool {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if len(a) != len(b) {
		return len(a) < len(b)
	}
	return a < b
}
