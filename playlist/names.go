package playlist

import (
	"math"
	"strconv"
	"strings"
)

// Index is the name of every playlist below its folder: the multivariant playlist is <app>/<name>/index.m3u8, a media
// playlist <app>/<name>/<run>/<rendition>/index.m3u8, and what a media playlist lists lies beside it.
//
// IFrames is the name of a video rendition's I-frame playlist, beside its media playlist; it lists ranges of the same
// segments. TSFolder holds the same in MPEG-TS: <app>/<name>/ts/index.m3u8 is a multivariant playlist, and
// <app>/<name>/<run>/<rendition>/ts/index.m3u8 a media playlist with its segments beside it. No run has that name: a run's
// ID is a time.
const (
	Index    = "index.m3u8"
	IFrames  = "iframes.m3u8"
	TSFolder = "ts"
)

// Kind is the kind of object that a name below a rendition stands for.
type Kind uint8

// The kinds of name.
const (
	Segment   Kind = iota + 1 // s<Media Sequence Number>.m4s
	Part                      // p<decode time>.m4s
	Init                      // i<hash>.mp4
	TSSegment                 // s<Media Sequence Number>.ts, in TSFolder
)

// A Name is a parsed file name below a rendition.
type Name struct {
	Kind Kind
	N    uint64 // Media Sequence Number of a Segment or TSSegment; decode time in ticks of a Part, which fits in an int64
	Hash string // of an Init; shares the memory of what was parsed
}

const (
	mediaSuffix = ".m4s"
	initSuffix  = ".mp4"
	tsSuffix    = ".ts"
	hashLen     = 24 // hex digits of segmenter.Init.Hash
)

// SegmentName is the name of the Media Segment of that Media Sequence Number.
func SegmentName(msn uint64) string { return string(appendSegmentName(nil, msn)) }

// TSSegmentName is the name of the same Media Segment in MPEG-TS.
func TSSegmentName(msn uint64) string { return string(appendTSSegmentName(nil, msn)) }

// PartName is the name of the Partial Segment whose first sample has decode time t, in ticks. It is known one part ahead,
// also across the end of a segment, so that a hint always comes true (RFC 8216bis 4.4.5.3).
func PartName(t int64) string { return string(appendPartName(nil, t)) }

// InitName is the name of the Media Initialization Section with that hash.
func InitName(hash string) string { return "i" + hash + initSuffix }

func appendSegmentName(dst []byte, msn uint64) []byte {
	return append(strconv.AppendUint(append(dst, 's'), msn, 10), mediaSuffix...)
}

func appendTSSegmentName(dst []byte, msn uint64) []byte {
	return append(strconv.AppendUint(append(dst, 's'), msn, 10), tsSuffix...)
}

func appendPartName(dst []byte, t int64) []byte {
	return append(strconv.AppendInt(append(dst, 'p'), t, 10), mediaSuffix...)
}

// ParseName reads a name in the one form in which it is written: decimal without sign or leading zero, hash in lower
// case. Anything else is not a name, so that an object has one path in every cache. It allocates nothing.
func ParseName(s string) (Name, bool) {
	dot := strings.LastIndexByte(s, '.')
	if dot < 2 {
		return Name{}, false
	}
	body, end := s[1:dot], s[dot:]
	switch {
	case s[0] == 's' && end == mediaSuffix:
		n, ok := parseDecimal(body)
		return Name{Kind: Segment, N: n}, ok
	case s[0] == 's' && end == tsSuffix:
		n, ok := parseDecimal(body)
		return Name{Kind: TSSegment, N: n}, ok
	case s[0] == 'p' && end == mediaSuffix:
		n, ok := parseDecimal(body)
		return Name{Kind: Part, N: n}, ok && n <= math.MaxInt64
	case s[0] == 'i' && end == initSuffix:
		return Name{Kind: Init, Hash: body}, isHash(body)
	}
	return Name{}, false
}

func parseDecimal(s string) (uint64, bool) {
	if len(s) > 20 || s[0] == '0' && len(s) > 1 {
		return 0, false
	}
	var n uint64
	for i := range len(s) {
		c := uint64(s[i] - '0')
		if c > 9 || n > (math.MaxUint64-c)/10 {
			return 0, false
		}
		n = n*10 + c
	}
	return n, true
}

func isHash(s string) bool {
	if len(s) != hashLen {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
