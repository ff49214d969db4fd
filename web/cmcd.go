package web

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// cmcdHeaders are the headers in which a player may send CMCD instead of the query (CTA-5004, 2.1).
var cmcdHeaders = [...]string{"Cmcd-Object", "Cmcd-Request", "Cmcd-Session", "Cmcd-Status"}

// cmcd returns what a player says of itself (CTA-5004), for the log alone: its key-value pairs in the order they came in,
// comma-separated, or "". It is lenient: what is no pair is left out, of what is too long
// the beginning is kept.
func cmcd(r *http.Request) string {
	var b strings.Builder
	for _, h := range cmcdHeaders {
		for _, v := range r.Header[h] {
			appendCMCD(&b, v)
		}
	}
	for query := r.URL.RawQuery; query != "" && b.Len() < maxLogged; {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		name, value, _ := strings.Cut(pair, "=")
		if !sameUnescaped(name, "CMCD") {
			continue
		}
		if v, err := url.QueryUnescape(clip(value)); err == nil {
			appendCMCD(&b, v)
		}
	}
	return b.String()
}

func appendCMCD(b *strings.Builder, text string) {
	quoted, start := false, 0
	emit := func(pair string) {
		pair = strings.TrimSpace(pair)
		if pair == "" || pair[0] == '=' || b.Len()+len(pair)+1 > maxLogged {
			return
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		if key, _, _ := strings.Cut(pair, "="); key == "nor" || key == "url" {
			pair = withoutQueries(pair)
		}
		b.WriteString(pair)
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			emit(text[start:i])
			start = i + 1
		}
	}
	emit(text[start:])
}

// urlQuery is the query in a quoted URL, as it is or escaped.
var urlQuery = regexp.MustCompile(`(?:\?|%(?:25)*3[Ff])[^"]*`)

// withoutQueries returns a pair without the queries of the URLs in it, those of what a player asks for next (CTA-5004, nor) or has
// asked for (url): they may hold its token.
func withoutQueries(pair string) string { return urlQuery.ReplaceAllString(pair, "") }
