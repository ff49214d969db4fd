package web

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"headwater/playlist"
	"headwater/segmenter/media"
)

// Header values that many replies share. Header maps get them as they are, under canonical keys, and nobody modifies
// them.
var (
	anyOrigin      = []string{"*"}
	exposed        = []string{"Age, Date, ETag, Content-Range, Retry-After, CMSD-Static, CMSD-Dynamic"}
	allowed        = []string{"GET, HEAD, OPTIONS"}
	allowedHeads   = []string{"Range, Authorization, CMCD-Object, CMCD-Request, CMCD-Session, CMCD-Status"}
	allowedPathway = []string{"GET, HEAD, PUT, DELETE, OPTIONS"}
	onlyDelete     = []string{"DELETE"}
	preflightAge   = []string{"86400"}
	varyEncoding   = []string{"Accept-Encoding"}
	rangeUnit      = []string{"bytes"}
	nosniff        = []string{"nosniff"}
	retrySoon      = []string{"1"}
	closing        = []string{"close"}
	zeroLength     = []string{"0"}
	typePlaylist   = []string{"application/vnd.apple.mpegurl"}
	typeVideo      = []string{"video/mp4"}
	typeAudio      = []string{"audio/mp4"}
	typeTS         = []string{"video/mp2t"}
	typeJSON       = []string{"application/json"}
	typeSteering   = []string{"application/vnd.apple.steering-list"} // RFC 8259 with the names of RFC 8216bis 7.2
	typeText       = []string{"text/plain; charset=utf-8"}
	cacheMaster    = []string{"public, max-age=3, stale-if-error=60"}
	cacheForever   = []string{"public, max-age=31536000, immutable"} // RFC 8246
	cacheDay       = []string{"public, max-age=86400"}
	cacheNever     = []string{"private, no-store"} // some edges honour the one word, some the other
)

// codings are the values of Content-Encoding; Identity has none (RFC 9110 8.4).
var codings = [...][]string{
	playlist.Identity: nil,
	playlist.Gzip:     {playlist.Gzip.String()},
	playlist.Brotli:   {playlist.Brotli.String()},
	playlist.Zstd:     {playlist.Zstd.String()},
}

// Seconds for which caches keep what has no name of its own for ever.
const (
	ageUnknown = 1    // a path that nothing is known about: only against storms
	ageLive    = 1    // a low-latency playlist as it happens to be now
	ageEnded   = 3600 // a playlist that ends
	ageData    = 1    // what the pages show
)

var maxAges = func() (out [128][]string) {
	for i := range out {
		out[i] = []string{"public, max-age=" + strconv.Itoa(i)}
	}
	return
}()

// maxAge returns the Cache-Control of what everybody may keep for so many seconds.
func maxAge(seconds int) []string {
	if seconds >= 0 && seconds < len(maxAges) {
		return maxAges[seconds]
	}
	return []string{"public, max-age=" + strconv.Itoa(seconds)}
}

var cacheEnded = maxAge(ageEnded)

// mediaType is the Content-Type of a rendition's segments, parts and initialization sections.
func mediaType(k media.Kind) []string {
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
