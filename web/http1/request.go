package http1

import (
	"bytes"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
)

// A request is an http.Request with what it is made of, all of which is used again for the next one of the connection.
type request struct {
	http.Request
	blank  http.Request // with the context and what else stays
	url    url.URL
	values []string // that the header map points into
	size   int      // of the header
	fields int      // in it
}

// forget lets go of what an unusual request has taken: maps do not shrink.
func (r *request) forget() {
	if r.size > firstBuffer || r.fields > manyFields {
		*r = request{blank: r.blank}
	}
}

// manyFields is how many header fields are usual.
const manyFields = 24

// methods are those that have no body to speak of (RFC 9110 9.3).
var methods = [...]string{http.MethodGet, http.MethodHead, http.MethodOptions}

// mayBegin says whether a request of one of the methods can begin with b, of which more may follow.
func mayBegin(b []byte) bool {
	for _, m := range methods {
		n := min(len(b), len(m))
		if string(b[:n]) == m[:n] && (n == len(b) || b[n] == ' ') {
			return true
		}
	}
	return false
}

// lines looks for the end of a header in b, of which the lines before line have been looked at. Every line has to end with CRLF: who
// writes it otherwise, or before a request, as a server may tolerate (RFC 9112 2.2), is somebody else's business.
func lines(b []byte, line int) (next int, ended, ok bool) {
	for {
		n := bytes.IndexByte(b[line:], '\n')
		switch {
		case n < 0:
			return line, false, true
		case n == 0 || b[line+n-1] != '\r':
			return line, false, false
		}
		line += n + 1
		if n == 1 {
			return line, true, true
		}
	}
}

// parse reads a header, to its empty line, whose lines all end with CRLF. It says false, and r is nothing, if it is not sure that this
// is a request without a body that http.ReadRequest would read in the same way.
func (r *request) parse(head []byte) bool {
	r.size, r.fields = len(head), 0
	text := string(head)               // what the fields and the URL are slices of
	n := strings.IndexByte(text, '\r') // there is one, and it is not the last byte
	line := text[:n]
	if text[n+1] != '\n' {
		return false
	}
	text = text[n+2:]

	const version = " HTTP/1.1"
	method, target, _ := strings.Cut(line, " ")
	target, ok := strings.CutSuffix(target, version)
	if !ok || !isMethod(method) || target == "" || target[0] != '/' || strings.Contains(target, " ") {
		return false
	}
	if r.Header == nil {
		r.Header = make(http.Header)
		r.values = make([]string, 0, manyFields)
		r.blank.Proto, r.blank.ProtoMajor, r.blank.ProtoMinor, r.blank.Body = version[1:], 1, 1, http.NoBody
	}
	header := r.Header
	r.Request = r.blank // whatever the handler has made of the one before
	clear(header)
	r.Header, r.Method, r.RequestURI, r.URL = header, method, target, &r.url
	r.values = r.values[:0]
	if !r.setURL(target) {
		return false
	}
	hosts := 0
	for len(text) > 2 {
		n := strings.IndexByte(text, '\r')
		line := text[:n]
		if text[n+1] != '\n' {
			return false
		}
		text = text[n+2:]
		n = strings.IndexByte(line, ':')
		if n <= 0 || !isToken(line[:n]) {
			return false
		}
		name, value := textproto.CanonicalMIMEHeaderKey(line[:n]), strings.Trim(line[n+1:], " \t")
		if !isText(value) {
			return false
		}
		switch name {
		case "Host":
			hosts++
			r.Host = value
			continue
		case "Content-Length", "Transfer-Encoding", "Trailer", "Expect":
			return false // there is a body, or somebody waits to be told to send it
		case "Upgrade", "Http2-Settings", "Proxy-Connection":
			return false
		}
		r.add(header, name, value)
	}
	if hosts != 1 || !isHost(r.Host) {
		return false
	}
	for _, v := range header["Connection"] {
		// Other options than these have to do with the connection too, and are not known here.
		switch {
		case strings.EqualFold(v, "close"):
			r.Close = true
		case !strings.EqualFold(v, "keep-alive"):
			return false
		}
	}
	// As net/http does for HTTP/1.0's way to say it (RFC 9111 5.4).
	if v := header["Pragma"]; len(v) > 0 && v[0] == "no-cache" && header["Cache-Control"] == nil {
		r.add(header, "Cache-Control", "no-cache")
	}
	return true
}

func (r *request) add(h http.Header, name, value string) {
	r.fields++
	if all, ok := h[name]; ok {
		h[name] = append(all, value)
		return
	}
	n := len(r.values)
	r.values = append(r.values, value)
	h[name] = r.values[n : n+1 : n+1]
}

// setURL sets the URL. Most paths are written as they are by default, and need not be parsed.
func (r *request) setURL(target string) bool {
	path, query, asked := strings.Cut(target, "?")
	if !isPlain(path) || strings.HasPrefix(path, "//") {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return false
		}
		r.url = *u
		return true
	}
	for i := 0; i < len(query); i++ {
		if c := query[i]; c <= ' ' || c == 0x7f {
			return false
		}
	}
	r.url = url.URL{Path: path, RawQuery: query, ForceQuery: asked && query == ""}
	return true
}

func isMethod(s string) bool {
	for _, m := range methods {
		if s == m {
			return true
		}
	}
	return false
}

// What a byte may be part of.
const (
	inToken = 1 << iota // RFC 9110 5.6.2
	inPath              // of a path that needs no escapes
	inHost
)

var classes = func() (t [256]byte) {
	const alphanumeric = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	for class, chars := range map[byte]string{
		inToken: alphanumeric + "!#$%&'*+-.^_`|~",
		inPath:  alphanumeric + "-_.~/",
		inHost:  alphanumeric + "-_.:[]",
	} {
		for i := range len(chars) {
			t[chars[i]] |= class
		}
	}
	return t
}()

func all(s string, class byte) bool {
	for i := range len(s) {
		if classes[s[i]]&class == 0 {
			return false
		}
	}
	return true
}

func isToken(s string) bool { return all(s, inToken) }
func isPlain(s string) bool { return all(s, inPath) }
func isHost(s string) bool  { return s != "" && all(s, inHost) }

// isText says whether s may be a field's value (RFC 9110 5.5).
func isText(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
