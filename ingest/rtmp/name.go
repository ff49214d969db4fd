package rtmp

import (
	"net/url"
	"strings"
)

// keyParameter is the query parameter that carries the publish key.
const keyParameter = "key"

// publication returns the name "<app>/<name>" and the key of a publication. Encoders are configured by one address or by
// address and "stream key", and what follows a question mark in either may end up in the publish name, in app or in
// tcUrl only: the key is looked for in this order, the closest to the stream first. Empty keys count as none.
// When app is empty the path of tcUrl stands in for it.
func publication(app, tcURL, publish string) (name, key string) {
	publish, pubQuery, _ := strings.Cut(publish, "?")
	app, appQuery, _ := strings.Cut(app, "?")
	tcURL, tcQuery, _ := strings.Cut(tcURL, "?")

	app = strings.Trim(app, "/")
	if app == "" {
		if _, rest, ok := strings.Cut(tcURL, "://"); ok {
			_, app, _ = strings.Cut(rest, "/")
			app = strings.Trim(app, "/")
		}
	}
	publish = strings.Trim(publish, "/")
	switch {
	case app == "":
		name = publish
	case publish == "":
		name = app
	default:
		name = app + "/" + publish
	}
	for _, query := range []string{pubQuery, appQuery, tcQuery} {
		if key = queryKey(query); key != "" {
			break
		}
	}
	return name, key
}

// queryKey returns the key in a query. A plus sign stays one: encoders send what was typed.
func queryKey(query string) string {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		name, value, _ := strings.Cut(pair, "=")
		if name != keyParameter || value == "" {
			continue
		}
		if v, err := url.PathUnescape(value); err == nil {
			return v
		}
		return value
	}
	return ""
}
