package rtmp

import (
	"cmp"
	"net/url"
	"strings"

	"headwater/ingest"
)

// The query parameters that carry the publish key, which rendition of the stream is published, as what, and what its audio is.
const (
	keyParameter       = "key"
	renditionParameter = "rendition"
	roleParameter      = "role"
	languageParameter  = "language"
	labelParameter     = "label"
)

// publication returns what a publication asks for: the name "<app>/<name>", and key, rendition, role, language and label. Encoders are
// configured by one address or by address and "stream key", and what follows a question mark in either may end up in the
// publish name, in app or in tcUrl only: parameters are looked for in this order, the closest to the stream first. Empty ones
// count as none. When app is empty the path of tcUrl stands in for it.
func publication(app, tcURL, publish string) ingest.Request {
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
	var name string
	switch {
	case app == "":
		name = publish
	case publish == "":
		name = app
	default:
		name = app + "/" + publish
	}
	parameter := func(name string) string {
		return cmp.Or(queryValue(pubQuery, name), queryValue(appQuery, name), queryValue(tcQuery, name))
	}
	return ingest.Request{
		Protocol: "rtmp", Name: name, Key: parameter(keyParameter), Rendition: parameter(renditionParameter),
		Role: parameter(roleParameter), Language: parameter(languageParameter), Label: parameter(labelParameter),
	}
}

// queryValue returns a parameter of a query. A plus sign stays one: encoders send what was typed.
func queryValue(query, parameter string) string {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		name, value, _ := strings.Cut(pair, "=")
		if name != parameter || value == "" {
			continue
		}
		if v, err := url.PathUnescape(value); err == nil {
			return v
		}
		return value
	}
	return ""
}
