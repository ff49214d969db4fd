package web

import (
	"strings"
	"testing"

	"headwater/playlist"
)

// RFC 9110 12.5.3.
func TestNegotiate(t *testing.T) {
	for want, headers := range map[string][][]string{
		"identity": {
			nil,
			{""},
			{" , ,"},
			{"identity"},
			{"identity;q=0.001"},
			{"deflate"},
			{"compress, deflate;q=1"},
			{"brotli"},
			{"gzip;q=0"},
			{"gzip;q=0.000"},
			{"gzip;q=nonsense"},
			{"gzip;q=0.1234"},
			{"gzip;q=1.001, br;q=2"},
			{"identity;q=0.5000"}, // malformed, it refuses nothing
			{"*;q="},
			{"gzip;q=-1, identity;q=none, *;q=none"},
			{"gzip;q=0,br;q=0,zstd;q=0"},
			{"gzip;q=0.5, identity"},
			{"gzip;q=0.5, br;q=0.8, zstd;q=0.7, identity;q=0.9"},
			{"*;q=0.5, identity"},
			{"*;q=0, identity;q=0.1"},
			{"gzip;q=0,br;q=0,zstd;q=0,*"}, // whatever "*" means, it is not these
		},
		"gzip": {
			{"gzip"},
			{"GZip"},
			{"x-gzip"},
			{"gzip, deflate"},
			{"deflate, gzip;q=1.0, *;q=0.5"},
			{"gzip;q=0.001"},
			{"gzip ; q=0.5"},
			{"gzip;level=9;Q=0.5"},
			{"gzip;q=0.9, identity;q=0.5"},
			{"gzip, identity"},
			{"gzip, *;q=0"},
			{"gzip, identity;q=0"},
			{",, ,gzip,"},
			{"gzip", "br;q=0.9", "zstd;q=0.8"},
			{"br;q=0, zstd;q=0, gzip;q=0.1"},
			{"*"},
			{"*;q=0.1"},
			{"identity;q=0, *"},
			{"br;q=0.5, *"},
			{"zstd;q=0.5, br;q=0, *;q=0.6"},
		},
		"br": {
			{"br"},
			{"BR"},
			{"br, gzip"}, // what edges normalise to
			{"gzip,br"},
			{"gzip, deflate, br"},
			{"br", "gzip"},
			{"gzip;q=0.8, zstd;q=0.9, br"},
			{"br, *;q=0"},
			{"br, identity;q=0"},
			{"br, *"}, // named, it is meant more than what "*" may stand for
			{"gzip;q=0, *"},
			{"br;q=0.002, gzip;q=0.001"},
		},
		"zstd": {
			{"zstd"},
			{"gzip, deflate, br, zstd"}, // what browsers send
			{"gzip;q=1.0, br;q=1, zstd;q=1.000"},
			{"gzip;q=0.5, zstd;q=0.5"},
			{"gzip;q=0, br;q=0, *"},
			{"zstd;q=0.1, *;q=0"},
			{"gzip, br", "zstd"},
		},
		"none": {
			{"identity;q=0"},
			{"identity;q=0, gzip;q=0"},
			{"*;q=0"},
			{"deflate, *;q=0"},
			{"deflate, identity;q=0"},
			{"*;q=0, identity;q=1.5"},
			{"gzip;q=0, br;q=0, zstd;q=0, identity;q=0, *"},
		},
	} {
		for _, h := range headers {
			if got := negotiated(h); got != want {
				t.Errorf("%q: %s, want %s", h, got, want)
			}
		}
	}
}

func negotiated(values []string) string {
	switch enc, ok := negotiate(values); {
	case !ok:
		return "none"
	case enc == playlist.Identity:
		return "identity"
	default:
		return enc.String()
	}
}

// FuzzNegotiate: nothing that was refused is chosen, and nothing for which something better was wanted; and it does not matter
// how the list is written (RFC 9110 5.3, 5.6.1, 8.4.1).
func FuzzNegotiate(f *testing.F) {
	for _, seed := range []string{
		"", "*", "gzip", "br, gzip", "gzip, deflate, br, zstd", "gzip;q=0.5, identity;q=0, *", "br,gzip ; q=1.000", "zstd;q=0,*;q=0.1",
		"identity;q=0", ";;q=1,=,;", "gzip;q=1.0001", "gzip;q=1.", "br;q=2", "x-gzip;a=b;q=0.3", "\t,\t, zstd",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, v string) {
		enc, ok := negotiate([]string{v})
		if enc >= playlist.Encodings {
			t.Fatalf("%q: coding %d", v, enc)
		}
		w := readWish([]string{v})
		weightOf := func(e playlist.Encoding) int {
			if w.codings[e] != unnamed {
				return w.codings[e]
			}
			return w.other
		}
		for e := range playlist.Encodings {
			switch q := weightOf(e); {
			case q < unnamed || q > 1000:
				t.Fatalf("%q: weight %d", v, q)
			case e == enc && ok && q == 0:
				t.Fatalf("%q: %d was refused", v, e)
			case e != enc && ok && q > max(weightOf(enc), 0) && (e != playlist.Identity || w.codings[e] != unnamed):
				t.Fatalf("%q: %d, but %d is wanted more", v, enc, e)
			case !ok && e != playlist.Identity && q > 0, !ok && e == playlist.Identity && q != 0:
				t.Fatalf("%q: nothing, but %d is acceptable", v, e)
			}
		}
		for _, same := range [][]string{strings.Split(v, ","), {v, ""}, {strings.ReplaceAll(v, ",", " ,\t,")}, {upper(v)}} {
			if e, o := negotiate(same); e != enc || o != ok {
				t.Fatalf("%q: %d %v, but %q: %d %v", v, enc, ok, same, e, o)
			}
		}
	})
}

// upper is strings.ToUpper for ASCII alone.
func upper(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'a' <= c && c <= 'z' {
			b[i] = c - 'a' + 'A'
		}
	}
	return string(b)
}

func BenchmarkNegotiate(b *testing.B) {
	for _, v := range []string{"gzip", "br, gzip", "gzip, deflate, br, zstd", "gzip;q=0.8, br;q=0.9, *;q=0.1"} {
		b.Run(v, func(b *testing.B) {
			values := []string{v}
			b.ReportAllocs()
			for b.Loop() {
				negotiate(values)
			}
		})
	}
}
