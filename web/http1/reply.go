package http1

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// replyBuffer is what is put together before it is written: a header and a playlist. What is longer is written from where it lies.
	replyBuffer = 16 << 10
	// unsizedBody is how much of a body whose length the handler has not said is kept, to say it for him; a longer one is sent in chunks.
	unsizedBody = 4 << 10
)

var buffers = sync.Pool{New: func() any { return new([replyBuffer]byte) }}

// A response is the http.ResponseWriter of a connection's requests, one after the other.
type response struct {
	conn   *conn
	req    *http.Request
	header http.Header

	status  int   // 0 until WriteHeader
	length  int64 // of the body, as the handler has said; -1 if it has not
	sent    int64 // of the body, to out or beyond
	mute    bool  // the body is not sent
	framed  bool  // the header is whole: in out, or sent
	chunked bool
	untyped bool // the body's type is to be told from its beginning
	last    bool // the connection ends with it
	limited bool // it has had a deadline
	err     error

	out  []byte // what is to be written, in a buffer of the pool; nil before WriteHeader and when it has been
	body []byte // what is to follow the header, of which the length is not known yet
}

func (w *response) begin(r *http.Request) {
	if w.header == nil {
		w.header = make(http.Header)
	}
	clear(w.header)
	*w = response{conn: w.conn, req: r, header: w.header}
}

// Header implements http.ResponseWriter.
func (w *response) Header() http.Header { return w.header }

// SetReadDeadline is for http.ResponseController. There is nothing to read.
func (w *response) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline is for http.ResponseController.
func (w *response) SetWriteDeadline(t time.Time) error {
	w.limited = true
	return w.conn.nc.SetWriteDeadline(t)
}

// bodiless says whether replies of that status have none (RFC 9110 6.4.1).
func bodiless(status int) bool {
	return status < 200 || status == http.StatusNoContent || status == http.StatusNotModified
}

// WriteHeader implements http.ResponseWriter. Informational replies are not sent.
func (w *response) WriteHeader(status int) {
	if status < 100 || status > 999 {
		panic("http1: status " + strconv.Itoa(status)) // as net/http does
	}
	if w.status != 0 || status < 200 {
		return
	}
	w.startHeader(status)
	var room [manyFields]string
	names := room[:0]
	for name := range w.header {
		names = append(names, name)
		for i := len(names) - 1; i > 0 && names[i] < names[i-1]; i-- {
			names[i], names[i-1] = names[i-1], names[i]
		}
	}
	dated := false
	for _, name := range names {
		values := w.header[name]
		switch name {
		case "Date":
			dated = true
		case "Transfer-Encoding":
			continue // is not the handler's business
		case "Content-Length":
			if w.length = contentLength(values); w.length < 0 || bodiless(status) {
				w.length = -1
				continue
			}
		case "Connection":
			for _, v := range values {
				w.last = w.last || hasToken(v, "close")
			}
		case "Content-Type":
			if status == http.StatusNotModified {
				continue
			}
		}
		if !isToken(name) || name == "" {
			continue
		}
		for _, v := range values {
			w.out = appendField(w.out, name, v)
		}
	}
	_, typed := w.header["Content-Type"]
	w.untyped = !typed && w.header["Content-Encoding"] == nil
	w.endHeader(dated)
}

// A Field is a header field.
type Field struct{ Name, Value string }

// WriteFields is WriteHeader with these fields in the place of those in the header map, whose use takes longer than all else that a small reply costs here.
// Their names are in canonical form; Content-Type is one of them if there is a body, and Date, Connection and Transfer-Encoding are not. length is
// what Content-Length says, which is one of them too; -1: it is not.
func (w *response) WriteFields(status int, fields []Field, length int) {
	if w.status != 0 || status < 200 {
		return
	}
	w.startHeader(status)
	if !bodiless(status) {
		w.length = int64(length)
	}
	for i := range fields {
		w.out = appendField(w.out, fields[i].Name, fields[i].Value)
	}
	w.endHeader(false)
}

// startHeader begins the header.
func (w *response) startHeader(status int) {
	w.status, w.length = status, -1
	w.mute = w.req.Method == http.MethodHead || bodiless(status)
	w.out = buffers.Get().(*[replyBuffer]byte)[:0]
	w.out = appendStatus(w.out, status)
}

// endHeader ends it, or leaves it open for what depends on the body.
func (w *response) endHeader(dated bool) {
	if !dated {
		w.out = appendField(w.out, "Date", w.conn.srv.now())
	}
	if !w.last && (w.req.Close || w.conn.srv.draining.Load()) {
		w.last = true
		w.out = appendField(w.out, "Connection", "close")
	}
	if bodiless(w.status) || w.length >= 0 && !w.untyped {
		w.frame()
	}
}

// frame ends the header.
func (w *response) frame() {
	w.framed, w.untyped = true, false
	w.out = append(w.out, "\r\n"...)
}

// Write implements http.ResponseWriter.
func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.err != nil:
		return 0, w.err
	case len(b) == 0:
		return 0, nil
	case bodiless(w.status):
		return 0, http.ErrBodyNotAllowed
	case w.length >= 0 && w.sent+int64(len(b)) > w.length:
		w.last = w.last || !w.mute // who is wrong about that may be wrong about more
		return 0, http.ErrContentLength
	}
	if w.untyped {
		w.untyped = false
		w.out = appendField(w.out, "Content-Type", http.DetectContentType(b))
		if w.length >= 0 {
			w.frame()
		}
	}
	n := len(b)
	switch {
	case w.mute:
	case w.length >= 0:
		n = w.put(b)
	case !w.chunked && len(w.body)+len(b) <= unsizedBody:
		w.body = append(w.body, b...)
	default:
		if !w.chunked {
			w.chunk()
		}
		n = w.putChunk(b)
	}
	w.sent += int64(n)
	return n, w.err
}

// ReadFrom implements io.ReaderFrom: a file goes out by sendfile(2) if its length has been said.
func (w *response) ReadFrom(src io.Reader) (int64, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	to, ok := w.conn.nc.(io.ReaderFrom)
	if !ok || w.length < 0 || w.mute || !w.framed || w.err != nil {
		return io.Copy(struct{ io.Writer }{w}, src)
	}
	if w.out != nil {
		w.send(nil)
	}
	if w.err != nil {
		return 0, w.err
	}
	n, err := to.ReadFrom(src)
	if w.sent += n; err == nil && w.sent > w.length {
		err = http.ErrContentLength // too late: what follows would be taken for a reply
	}
	w.err = err
	return n, err
}

// chunk begins a body whose length is not known (RFC 9112 7.1), with what has been kept of it.
func (w *response) chunk() {
	w.chunked = true
	w.out = appendField(w.out, "Transfer-Encoding", "chunked")
	w.frame()
	w.putChunk(w.body)
	w.body = nil
}

// putChunk is put for a chunk of b.
func (w *response) putChunk(b []byte) int {
	if len(b) == 0 {
		return 0 // it would be the end
	}
	w.putString(strconv.FormatInt(int64(len(b)), 16) + "\r\n")
	n := w.put(b)
	w.putString("\r\n")
	return n
}

func (w *response) putString(s string) { w.put([]byte(s)) }

// put writes b, or keeps it to be written with what follows, and returns how much of it.
func (w *response) put(b []byte) int {
	if w.out == nil && len(b) <= replyBuffer {
		w.out = buffers.Get().(*[replyBuffer]byte)[:0]
	}
	if len(w.out)+len(b) <= cap(w.out) {
		w.out = append(w.out, b...)
		return len(b)
	}
	return w.send(b)
}

// send writes what is kept, and b, and returns how much of that.
func (w *response) send(b []byte) (n int) {
	if w.err != nil {
		return 0
	}
	switch {
	case w.out == nil:
		n, w.err = w.conn.nc.Write(b)
	case len(b) == 0:
		_, w.err = w.conn.nc.Write(w.out)
	default:
		var all int64
		all, w.err = (&net.Buffers{w.out, b}).WriteTo(w.conn.nc) // one call of writev(2)
		n = max(int(all)-len(w.out), 0)
	}
	w.drop()
	return n
}

// drop gives the buffer back.
func (w *response) drop() {
	if cap(w.out) == replyBuffer {
		buffers.Put((*[replyBuffer]byte)(w.out[:replyBuffer]))
	}
	w.out = nil
}

// Flush implements http.Flusher.
func (w *response) Flush() {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.framed || w.mute:
	case w.length >= 0:
		w.frame()
	default:
		w.chunk()
	}
	if w.framed && w.out != nil {
		w.send(nil)
	}
}

var errShort = errors.New("http1: the body is shorter than its Content-Length")

// finish sends what is left, and says whether there can be another request on the connection.
func (w *response) finish() bool {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.chunked:
		w.putString("0\r\n\r\n")
	case !w.framed:
		// Of a body that is not sent the length is not known if nothing of it was written.
		if w.length < 0 && (!w.mute || w.sent > 0) {
			w.out = appendField(w.out, "Content-Length", strconv.FormatInt(w.sent, 10))
		}
		w.frame()
		w.put(w.body)
	}
	if w.out != nil {
		w.send(nil)
	}
	if w.err == nil && w.length >= 0 && !w.mute && w.sent != w.length {
		w.err = errShort
	}
	if w.limited && w.err == nil {
		_ = w.conn.nc.SetWriteDeadline(time.Time{})
	}
	w.body = nil
	return w.err == nil && !w.last
}

// contentLength is what a Content-Length field says; -1 if it is none.
func contentLength(values []string) int64 {
	if len(values) != 1 {
		return -1
	}
	n, err := strconv.ParseUint(values[0], 10, 63)
	if err != nil {
		return -1
	}
	return int64(n)
}

func appendStatus(b []byte, status int) []byte {
	switch status { // most of them
	case http.StatusOK:
		return append(b, "HTTP/1.1 200 OK\r\n"...)
	case http.StatusNotModified:
		return append(b, "HTTP/1.1 304 Not Modified\r\n"...)
	}
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	if text := http.StatusText(status); text != "" {
		b = append(b, text...)
	} else {
		b = append(b, "status code "...)
		b = strconv.AppendInt(b, int64(status), 10)
	}
	return append(b, "\r\n"...)
}

// appendField appends a field. A value cannot end it.
func appendField(b []byte, name, value string) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	from := len(b)
	b = append(b, value...)
	for i := from; i < len(b); i++ {
		if b[i] == '\r' || b[i] == '\n' {
			b[i] = ' '
		}
	}
	return append(b, "\r\n"...)
}

// hasToken says whether a list has token in it, whatever its case.
func hasToken(list, token string) bool {
	for v := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.Trim(v, " \t"), token) {
			return true
		}
	}
	return false
}
