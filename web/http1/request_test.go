package http1

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

// Headers that are served, and such that net/http is to decide about. They are seeds too.
var (
	served = []string{
		"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
		"HEAD /live/demo/index.m3u8 HTTP/1.1\r\nHost: a.test:8080\r\nConnection: keep-alive\r\n\r\n",
		"OPTIONS /live/demo/index.m3u8 HTTP/1.1\r\nhost: [::1]:80\r\nOrigin: null\r\n\r\n",
		"GET /live/demo/1a/video/index.m3u8?_HLS_msn=1&_HLS_part=2 HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip, br\r\nUser-Agent: x/1 (y; z)\r\n\r\n",
		"GET /a?CMCD=sid%3D%22x%22%2Cbr%3D1 HTTP/1.1\r\nHost: a\r\nCMCD-Session: sid=\"x\"\r\n\r\n",
		"GET /a%20b/%c3%a9?x=%zz HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /caf\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET //a//b?? HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /a? HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /a#b?c#d HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /a:b;c=d,e@f&g+h$i!j'k(l)m*n HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /../a/./b HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost:a\r\nX-Empty:\r\nX-Many: a\r\nx-many: \t b\t \r\nX-MANY: c\r\nX-Bytes: \x80\xff\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nPragma: no-cache\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nPragma: no-cache\r\nCache-Control: max-age=0\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"a\", W/\"b\"\r\nRange: bytes=0-1\r\nIf-Range: \"a\"\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X-A: b\r\n", 50) + "\r\n",
		"GET / HTTP/1.1\r\n" + manyNames(40) + "Host: a\r\n\r\n",
	}
	passed = []string{
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
		"PUT /api/pathways/a HTTP/1.1\r\nHost: a\r\n\r\n",
		"get / HTTP/1.1\r\nHost: a\r\n\r\n",
		"GETS / HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
		"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
		"GET / http/1.1\r\nHost: a\r\n\r\n",
		"GET /\r\n\r\n",
		"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
		"GET / a HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET http://a.test/ HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET a HTTP/1.1\r\nHost: a\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /?\x7f HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost:\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\n X: b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tb\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX\x80: b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
		"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
		"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
		"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: identity\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nTrailer: X\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\nHost: a\n\n",
		"GET / HTTP/1.1\r\nHost: a\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
		"\r\n\r\n", " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
	}
)

func manyNames(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "X-Name-%d: %d\r\n", i, i)
	}
	return b.String()
}

// read finds the header in b and parses it, as a connection does. It is called with the lines as they come in turns.
func read(r *request, b []byte, step int) (used int, ok bool) {
	line := 0
	for n := min(step, len(b)); ; n = min(n+step, len(b)) {
		if !mayBegin(b[:n]) {
			return 0, false
		}
		next, ended, ok := lines(b[:n], line)
		switch line = next; {
		case !ok:
			return 0, false
		case ended:
			return line, r.parse(b[:line])
		case n == len(b):
			return 0, false
		}
	}
}

// check says what is wrong if in is read in another way than net/http does, or if it makes a difference how it comes, or whether
// something came before.
func check(in []byte) (ok bool, wrong error) {
	var r request
	used, ok := read(&r, in, len(in)+1)
	for _, step := range []int{1, 7} {
		var again request
		again.parse([]byte(served[3]))
		again.Form, again.Pattern = map[string][]string{}, "x" // what a handler may leave
		n, same := read(&again, in, step)
		if same != ok || n != used && ok {
			return ok, fmt.Errorf("%v after %d bytes; %d at a time: %v after %d", ok, used, step, same, n)
		}
		if ok && !reflect.DeepEqual(again.Request, r.Request) {
			return ok, fmt.Errorf("%+v; used again %+v", r.Request, again.Request)
		}
	}
	if !ok {
		return false, nil
	}
	rest := bytes.NewReader(in)
	buffered := bufio.NewReader(rest)
	want, err := http.ReadRequest(buffered)
	if err != nil {
		return true, fmt.Errorf("net/http: %w", err)
	}
	if n := len(in) - rest.Len() - buffered.Buffered(); n != used {
		return true, fmt.Errorf("%d bytes are its header, for net/http %d", used, n)
	}
	if want.Body != http.NoBody || want.ContentLength != 0 || want.TransferEncoding != nil || want.Trailer != nil {
		return true, fmt.Errorf("for net/http it has a body: %+v", want)
	}
	if got := r.Request; !reflect.DeepEqual(&got, want) {
		return true, fmt.Errorf("%+v,\nfor net/http %+v", &got, want)
	}
	return true, nil
}

// What is served here is read as net/http reads it, and whatever is not plain is not.
func TestParse(t *testing.T) {
	for _, c := range []struct {
		all []string
		ok  bool
	}{{served, true}, {passed, false}} {
		for _, in := range c.all {
			if ok, err := check([]byte(in)); ok != c.ok || err != nil {
				t.Errorf("%q: %v, %v", in, ok, err)
			}
		}
	}
}

// FuzzParse: whatever is served here is what net/http would have made of it (RFC 9112 2 to 6), and as long.
func FuzzParse(f *testing.F) {
	for _, in := range served {
		f.Add([]byte(in))
	}
	for _, in := range passed {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if _, err := check(in); err != nil {
			t.Error(err)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	head := []byte(served[3])
	var r request
	b.ReportAllocs()
	for b.Loop() {
		if !r.parse(head) {
			b.Fatal("it is not read")
		}
	}
}
