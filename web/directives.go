package web

import (
	"math"
	"strings"

	"headwater/playlist"
)

// Directives are the delivery directives of a Media Playlist request (RFC 8216bis 6.2.5).
type directives struct {
	msn      uint64
	part     int // -1 when absent
	blocking bool
	skip     playlist.Skip
}

const directivePrefix = "_HLS_"

// parseDirectives reads the delivery directives in a raw query; everything else in it is ignored, whether well formed or
// not. ok is false when a directive is malformed: a number that is not a decimal integer of at most 64 bits, a directive
// given twice, a part without a Media Sequence Number (6.2.5.2). A skip that is neither YES nor v2 is ignored: a full
// playlist is always a good answer, and a later version may define more.
func parseDirectives(query string) (d directives, ok bool) {
	d.part = -1
	var seenMSN, seenPart, seenSkip bool
	for len(query) > 0 {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if len(pair) < len(directivePrefix) || pair[0] != '_' && pair[0] != '%' {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		switch {
		case sameUnescaped(name, "_HLS_msn"):
			n, good := decimal(value)
			if seenMSN || !good {
				return d, false
			}
			seenMSN, d.msn, d.blocking = true, n, true
		case sameUnescaped(name, "_HLS_part"):
			n, good := decimal(value)
			if seenPart || !good {
				return d, false
			}
			seenPart, d.part = true, int(min(n, math.MaxInt32))
		case sameUnescaped(name, "_HLS_skip"):
			if seenSkip {
				return d, false
			}
			seenSkip = true
			switch {
			case sameUnescaped(value, "YES"):
				d.skip = playlist.SkipYes
			case sameUnescaped(value, "v2"):
				d.skip = playlist.SkipV2
			}
		}
	}
	return d, seenMSN || !seenPart
}

// unescape takes the next byte off s, which is part of a query as application/x-www-form-urlencoded has it. ok is false
// for a broken escape.
func unescape(s string) (c byte, rest string, ok bool) {
	switch c = s[0]; c {
	case '+':
		return ' ', s[1:], true
	case '%':
		if len(s) < 3 {
			return 0, "", false
		}
		hi, lo := unhex(s[1]), unhex(s[2])
		if hi < 0 || lo < 0 {
			return 0, "", false
		}
		return byte(hi<<4 | lo), s[3:], true
	}
	return c, s[1:], true
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// sameUnescaped says whether s, unescaped, is want.
func sameUnescaped(s, want string) bool {
	for len(s) > 0 {
		c, rest, ok := unescape(s)
		if !ok || want == "" || c != want[0] {
			return false
		}
		s, want = rest, want[1:]
	}
	return want == ""
}

// decimal reads a decimal-integer (RFC 8216bis 4.2), escaped.
func decimal(s string) (n uint64, ok bool) {
	if s == "" {
		return 0, false
	}
	for len(s) > 0 {
		c, rest, good := unescape(s)
		if !good || c < '0' || c > '9' {
			return 0, false
		}
		v := uint64(c - '0')
		if n > (math.MaxUint64-v)/10 {
			return 0, false
		}
		n, s = n*10+v, rest
	}
	return n, true
}
