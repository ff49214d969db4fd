package web

import (
	"net/http"
	"net/url"
	"testing"
)

// FuzzHeaders: whatever a client puts into the headers that are parsed, what comes of them is within bounds.
func FuzzHeaders(f *testing.F) {
	for _, seed := range []string{
		"bytes=0-9", "bytes=-7", "bytes=5-", "bytes=3-9007199254740991", "bytes=0-1,4-5", "bytes=-0",
		`W/"a", "b,c" , *`, `"`, `bl=21300,nor="..%2Fa\",b",sid="x"`,
	} {
		f.Add(seed, 1000)
	}
	f.Fuzz(func(t *testing.T, v string, size int) {
		size = max(size, 0)
		if from, n, kind := parseRange(v, size); kind == rangeOne && (from < 0 || n <= 0 || n > size || from > size-n) {
			t.Fatalf("%q of %d: %d, %d", v, size, from, n)
		}
		if listsTag([]string{v}, `"x"`, false) && !listsTag([]string{v}, `"x"`, true) {
			t.Fatalf("%q matches strongly but not weakly", v)
		}
		r := &http.Request{URL: new(url.URL), Header: http.Header{"Cmcd-Session": {v}}}
		if got := cmcd(r); len(got) > maxLogged {
			t.Fatalf("%d bytes", len(got))
		}
	})
}

func TestHTTPDate(t *testing.T) {
	for range 2 {
		for unix, want := range map[int64]string{0: "Thu, 01 Jan 1970 00:00:00 GMT", 1_800_000_000: "Fri, 15 Jan 2027 08:00:00 GMT"} {
			if got := httpDate(unix); got != want {
				t.Errorf("%d: %q", unix, got)
			}
		}
	}
}
