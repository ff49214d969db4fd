package ingest

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxLanguage = 35  // bytes: the longest tag that need be expected (RFC 5646, 4.4.1)
	maxLabel    = 100 // bytes; what is longer is cut
)

// CleanLanguage returns a tag that looks like one of BCP 47 (RFC 5646) or ISO 639-2, and says something; "" for any other.
func CleanLanguage(s string) string {
	if !isLanguage(s) {
		return ""
	}
	return s
}

func isLanguage(s string) bool {
	for _, subtag := range strings.Split(s, "-") {
		if len(subtag) == 0 || len(subtag) > 8 {
			return false
		}
	}
	for _, c := range []byte(s) {
		if c != '-' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return len(s) >= 2 && len(s) <= maxLanguage && s[0] > '9' && !strings.EqualFold(s, "und")
}

// CleanLabel takes what cannot be printed out of a name for people, and cuts it.
func CleanLabel(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	if len(s) > maxLabel {
		n := maxLabel
		for !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	return strings.TrimSpace(s)
}
