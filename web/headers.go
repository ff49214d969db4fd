package web

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"headwater/segmenter/media"
	"headwater/web/http1"
)

// The values of many replies' header fields.
const (
	allowed        = "GET, HEAD, OPTIONS"
	allowedHeads   = "Range, Authorization, CMCD-Object, CMCD-Request, CMCD-Session, CMCD-Status"
	allowedPathway = "GET, HEAD, PUT, DELETE, OPTIONS"
	preflightAge   = "86400"
	varyEncoding   = "Accept-Encoding"
	rangeUnit      = "bytes"
	nosniff        = "nosniff"
	retrySoon      = "1"
	typePlaylist   = "application/vnd.apple.mpegurl"
	typeVideo      = "video/mp4"
	typeAudio      = "audio/mp4"
	typeTS         = "video/mp2t"
	typeJSON       = "application/json"
	typeSteering   = "application/vnd.apple.steering-list" // RFC 8259 with the names of RFC 8216bis 7.2
	typeText       = "text/plain; charset=utf-8"
	cacheMaster    = "public, max-age=3, stale-if-error=60"
	cacheForever   = "public, max-age=31536000, immutable" // RFC 8246
	cacheDay       = "public, max-age=86400"
	cacheNever     = "private, no-store" // some edges honour the one word, some the other
)

// cors are the fields of every reply of the media port.
var cors = [...]http1.Field{
	{Name: "Access-Control-Allow-Origin", Value: "*"},
	{Name: "Access-Control-Expose-Headers", Value: "Age, Date, ETag, Content-Range, Retry-After, CMSD-Static, CMSD-Dynamic"},
	{Name: "Timing-Allow-Origin", Value: "*"},
}

// corsValues are theirs, for header maps; nobody modifies them.
var corsValues = [len(cors)]string{cors[0].Value, cors[1].Value, cors[2].Value}

// Seconds for which caches keep what has no name of its own for ever.
const (
	ageUnknown = 1    // a path that nothing is known about: only against storms
	ageLive    = 1    // a low-latency playlist as it happens to be now
	ageEnded   = 3600 // a playlist that ends
	ageData    = 1    // what the pages show
)

var maxAges = func() (out [128]string) {
	for i := range out {
		out[i] = "public, max-age=" + strconv.Itoa(i)
	}
	return
}()

// maxAge returns the Cache-Control of what everybody may keep for so many seconds.
func maxAge(seconds int) string {
	if seconds >= 0 && seconds < len(maxAges) {
		return maxAges[seconds]
	}
	return "public, max-age=" + strconv.Itoa(seconds)
}

var cacheEnded = maxAge(ageEnded)

// mediaType is the Content-Type of a rendition's segments, parts and initialization sections.
func mediaType(k media.Kind) string {
	if k == media.Audio {
		return typeAudio
	}
	return typeVideo
}

// A stamp is a second as a header says it.
type stamp struct {
	unix  int64
	value string
}

var lastStamp atomic.Pointer[stamp]

// httpDate returns a Unix second as an HTTP date (RFC 9110 5.6.7). Playlists of all streams change in the same few
// seconds, so the latest one is kept.
func httpDate(unix int64) string {
	if s := lastStamp.Load(); s != nil && s.unix == unix {
		return s.value
	}
	s := &stamp{unix: unix, value: time.Unix(unix, 0).UTC().Format(http.TimeFormat)}
	lastStamp.Store(s)
	return s.value
}
