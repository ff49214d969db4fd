package web

import (
	"strings"

	"headwater/playlist"
)

// negotiate chooses the content coding of a playlist from a request's Accept-Encoding (RFC 9110 12.5.3): gzip when it is
// wanted at least as much as no coding at all. ok is false when neither is acceptable.
func negotiate(values []string) (enc playlist.Encoding, ok bool) {
	if len(values) == 1 && values[0] == "gzip" { // what edges normalise to
		return playlist.Gzip, true
	}
	// In thousandths; -1 is not mentioned.
	gzip, identity, other := -1, -1, -1
	for _, v := range values {
		for len(v) > 0 {
			var item string
			item, v, _ = strings.Cut(v, ",")
			coding, params, _ := strings.Cut(item, ";")
			coding = trimSpace(coding)
			if coding == "" {
				continue
			}
			q := weight(params)
			switch {
			case strings.EqualFold(coding, "gzip"), strings.EqualFold(coding, "x-gzip"):
				gzip = max(gzip, q)
			case strings.EqualFold(coding, "identity"):
				identity = max(identity, q)
			case coding == "*":
				other = max(other, q)
			}
		}
	}
	if gzip < 0 {
		gzip = max(other, 0)
	}
	if identity < 0 {
		// Not mentioned, it is acceptable unless "*" says no, but anything that was asked for is preferred to it.
		if identity = 0; other != 0 {
			if gzip > 0 {
				return playlist.Gzip, true
			}
			return playlist.Identity, true
		}
	}
	switch {
	case gzip > 0 && gzip >= identity:
		return playlist.Gzip, true
	case identity > 0:
		return playlist.Identity, true
	}
	return playlist.Identity, false
}

// weight reads the q parameter among the parameters of an element, in thousandths (RFC 9110 12.4.2): 1000 when there is
// none, 0 when it is malformed.
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
			return 0
		}
		q := int(v[0]-'0') * 1000
		if len(v) > 1 {
			if v[1] != '.' {
				return 0
			}
			for i, unit := 2, 100; i < len(v); i, unit = i+1, unit/10 {
				if v[i] < '0' || v[i] > '9' {
					return 0
				}
				q += int(v[i]-'0') * unit
			}
		}
		return min(q, 1000)
	}
	return 1000
}

// trimSpace removes optional white space (RFC 9110 5.6.3).
func trimSpace(s string) string { return strings.Trim(s, " \t") }
