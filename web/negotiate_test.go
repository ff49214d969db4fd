package web

import (
	"testing"

	"headwater/playlist"
)

// RFC 9110 12.5.3.
func TestNegotiate(t *testing.T) {
	const id, gz, none = 0, 1, 2
	for _, c := range []struct {
		header []string
		want   int
	}{
		{nil, id},
		{[]string{""}, id},
		{[]string{"identity"}, id},
		{[]string{"br"}, id},
		{[]string{"gzip"}, gz},
		{[]string{"GZip"}, gz},
		{[]string{"x-gzip"}, gz},
		{[]string{"gzip, deflate, br, zstd"}, gz},
		{[]string{"br", "gzip"}, gz},
		{[]string{"deflate, gzip;q=1.0, *;q=0.5"}, gz},
		{[]string{"gzip;q=0.001"}, gz},
		{[]string{"gzip ; q=0.5"}, gz},
		{[]string{"gzip;q=0"}, id},
		{[]string{"gzip;q=0.000"}, id},
		{[]string{"gzip;q=nonsense"}, id},
		{[]string{"gzip;q=0.5, identity"}, id},
		{[]string{"gzip;q=0.5, identity;q=0.9"}, id},
		{[]string{"gzip;q=0.9, identity;q=0.5"}, gz},
		{[]string{"gzip, identity"}, gz},
		{[]string{"*"}, gz},
		{[]string{"*;q=0.1"}, gz},
		{[]string{"*;q=0.5, identity"}, id},
		{[]string{"gzip;q=0, *"}, id},
		{[]string{"br, *;q=0"}, none},
		{[]string{"gzip, *;q=0"}, gz},
		{[]string{"gzip, identity;q=0"}, gz},
		{[]string{"identity;q=0, *"}, gz},
		{[]string{"identity;q=0"}, none},
		{[]string{"identity;q=0, gzip;q=0"}, none},
		{[]string{"*;q=0"}, none},
		{[]string{"*;q=0, identity;q=0.1"}, id},
		{[]string{",, ,gzip,"}, gz},
	} {
		enc, ok := negotiate(c.header)
		got := none
		if ok {
			got = map[playlist.Encoding]int{playlist.Identity: id, playlist.Gzip: gz}[enc]
		}
		if got != c.want {
			t.Errorf("%q: %d, want %d", c.header, got, c.want)
		}
	}
}
