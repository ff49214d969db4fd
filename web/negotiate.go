package web

import (
	"strings"

	"headwater/playlist"
)

// preference is the order of the codings that a client wants equally much, as nearly all do: browsers send
// "gzip, deflate, br, zstd", edges "br, gzip" or "gzip". A playlist of eight segments becomes 474 bytes in zstd, 440 in br and
// 490 in gzip, which is one packet in any case; one of a thousand 2,700, 3,000 and 6,300. But zstd takes the least time, gzip
// twice and br five to eight times as much, several times a second for each rendition. The order is the same for every
// playlist, so that a cache sees one coding for one Accept-Encoding.
var preference = [...]playlist.Encoding{playlist.Zstd, playlist.Brotli, playlist.Gzip}

// commonest is the order for whoever says "*" and names none of them: what anybody is the likeliest to have in mind.
var commonest = [...]playlist.Encoding{playlist.Gzip, playlist.Brotli, playlist.Zstd}

// unnamed is the weight of a coding that is not mentioned.
const unnamed = -1

// A wish is what a request's Accept-Encoding says, in thousandths.
type wish struct {
	codings [playlist.Encodings]int
	other   int // "*"
}

// negotiate chooses the content coding of a playlist from a request's Accept-Encoding (RFC 9110 12.5.3): of those that it wants
// most, but at least as much as no coding at all, the one that we prefer. Without the field, or with an empty one, it is
// Identity: in the first case any coding would be acceptable, but who does not ask may not have thought of it. ok is false when
// nothing is acceptable, which takes an explicit "identity;q=0" or "*;q=0"; everybody else gets at least the plain text.
func negotiate(values []string) (enc playlist.Encoding, ok bool) {
	if len(values) == 0 {
		return playlist.Identity, true
	}
	w := readWish(values)
	best := 0
	for _, e := range preference {
		if q := w.codings[e]; q > best {
			enc, best = e, q
		}
	}
	if w.other > best {
		for _, e := range commonest {
			if w.codings[e] == unnamed {
				enc, best = e, w.other
				break
			}
		}
	}
	identity := w.codings[playlist.Identity]
	if identity > best {
		return playlist.Identity, true
	}
	// Not mentioned, it is acceptable unless "*" says no, but anything that was asked for is preferred to it.
	return enc, best > 0 || identity == unnamed && w.other != 0
}

// takesGzip says whether gzip may be sent, of what there is in no other coding.
func takesGzip(values []string) bool {
	w := readWish(values)
	return w.codings[playlist.Gzip] > 0 || w.codings[playlist.Gzip] == unnamed && w.other > 0
}

func readWish(values []string) wish {
	w := wish{codings: [...]int{unnamed, unnamed, unnamed, unnamed}, other: unnamed}
	for _, v := range values {
		for len(v) > 0 {
			var item string
			item, v, _ = strings.Cut(v, ",")
			coding, params, _ := strings.Cut(item, ";")
			coding = trimSpace(coding)
			if coding == "*" {
				w.other = max(w.other, weight(params))
			} else if e, ok := codingOf(coding); ok {
				w.codings[e] = max(w.codings[e], weight(params))
			}
		}
	}
	return w
}

// codingOf returns the coding of that name, which is in any case of letters (RFC 9110 8.4.1).
func codingOf(name string) (playlist.Encoding, bool) {
	switch {
	case strings.EqualFold(name, "gzip"), strings.EqualFold(name, "x-gzip"):
		return playlist.Gzip, true
	case strings.EqualFold(name, "br"):
		return playlist.Brotli, true
	case strings.EqualFold(name, "zstd"):
		return playlist.Zstd, true
	case strings.EqualFold(name, "identity"):
		return playlist.Identity, true
	}
	return playlist.Identity, false
}

// weight reads the q parameter among the parameters of an element, in thousandths (RFC 9110 12.4.2): 1000 when there is
// none, and unnamed when it is malformed: such an element neither asks for a coding nor refuses one.
func weight(params string) int {
	for len(params) > 0 {
		var p string
		p, params, _ = strings.Cut(params, ";")
		k, v, ok := strings.Cut(p, "=")
		if !ok || !strings.EqualFold(trimSpace(k), "q") {
			continue
		}
		v = trimSpace(v)
		if v == "" || len(v) > 5 || v[0] != '0' && v[0] != '1' {
			return unnamed
		}
		q := int(v[0]-'0') * 1000
		if len(v) > 1 {
			if v[1] != '.' {
				return unnamed
			}
			for i, unit := 2, 100; i < len(v); i, unit = i+1, unit/10 {
				if v[i] < '0' || v[i] > '9' {
					return unnamed
				}
				q += int(v[i]-'0') * unit
			}
		}
		if q > 1000 {
			return unnamed
		}
		return q
	}
	return 1000
}

// trimSpace removes optional white space (RFC 9110 5.6.3).
func trimSpace(s string) string { return strings.Trim(s, " \t") }
