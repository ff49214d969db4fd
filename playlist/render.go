// Package playlist writes Media Playlists and Multivariant Playlists (RFC 8216bis) of what package segmenter holds. It
// knows URIs, not HTTP: who asks, when, and under which headers is no concern of its.
//
// A playlist is written, and compressed, at most once per Window or Presentation and form, and only when somebody asks;
// everybody gets the same bytes. What it says depends on the Window alone: no clock, no query parameter, no map's order.
package playlist

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"sync"

	"headwater/segmenter"
)

// A Skip is the value of the _HLS_skip delivery directive (RFC 8216bis 6.2.5.1).
type Skip uint8

// The values of _HLS_skip.
const (
	NoSkip  Skip = iota
	SkipYes      // "YES": leave out the segments older than the Skip Boundary
	SkipV2       // "v2": date ranges as well. The playlists have none, CAN-SKIP-DATERANGES is not offered, so it is SkipYes.
)

// A Rendered is one form of one playlist. It is shared and immutable.
type Rendered struct {
	Body     []byte   // nobody may modify it
	ETag     string   // a hash of Body: the content of a strong entity tag (RFC 9110 8.8.3), without the quotes
	Encoding Encoding // of Body

	Tag, Length string // as the values of headers: ETag in quotes, and how long Body is
}

// Media returns the Media Playlist of w in that form: the same pointer to everybody who asks. A delta update that would
// skip nothing is the full playlist, and so is one of a playlist that has ended (RFC 8216bis 6.2.5.1).
func Media(w *segmenter.Window, skip Skip, enc Encoding) *Rendered {
	m := memo(w)
	f := &m.full
	if skip != NoSkip && m.skipped > 0 {
		f = &m.delta
	} else {
		skip = NoSkip
	}
	return f.get(enc, func() []byte { return appendMedia(make([]byte, 0, mediaSize(w, skip)), w, skip, blocksOf(w)) })
}

// IFramesOnly returns the I-frame playlist of w: the same pointer to everybody who asks.
func IFramesOnly(w *segmenter.Window, enc Encoding) *Rendered {
	return memo(w).iframes.get(enc, func() []byte { return AppendIFramesOnly(make([]byte, 0, iframesSize(w)), w) })
}

// TS returns the Media Playlist of p: the same pointer to everybody who asks while the same segments are listed.
func TS(p TSProgram, enc Encoding) *Rendered {
	l := p.list()
	return memo(p.Main).tsForms(l).get(enc, func() []byte { return appendTS(make([]byte, 0, l.size(placeBytes(p.Main.Rendition))), p.Main, l) })
}

// Multivariant returns the Multivariant Playlist of p: the same pointer to everybody who asks.
func Multivariant(p *segmenter.Presentation, enc Encoding) *Rendered {
	return multivariants(p).cmaf.get(enc, func() []byte { return AppendMultivariant(nil, p) })
}

// TSMultivariant returns the Multivariant Playlist of p's MPEG-TS renditions: the same pointer to everybody who asks, and nil
// when nothing of p can be carried in MPEG-TS.
func TSMultivariant(p *segmenter.Presentation, enc Encoding) *Rendered {
	if !hasTS(p) {
		return nil
	}
	return multivariants(p).ts.get(enc, func() []byte { return AppendTSMultivariant(nil, p) })
}

// multivariantMemo is what a Presentation remembers of its playlists.
type multivariantMemo struct{ cmaf, ts, span, tsSpan forms }

func multivariants(p *segmenter.Presentation) *multivariantMemo {
	return p.Memo(func() any { return new(multivariantMemo) }).(*multivariantMemo)
}

// mediaMemo is what a Window remembers of its playlists.
type mediaMemo struct {
	skipped              int
	full, delta, iframes forms

	once      sync.Once
	carriable bool // in MPEG-TS

	mu sync.Mutex // protects ts
	ts []*tsMemo
}

// tsMemo is an MPEG-TS playlist of a Window: what it lists depends on how far the audio has come.
type tsMemo struct {
	list tsList
	forms
}

func memo(w *segmenter.Window) *mediaMemo {
	return w.Memo(func() any { return &mediaMemo{skipped: skippable(w)} }).(*mediaMemo)
}

// carriable says whether MPEG-TS can carry what w's rendition is now.
func carriable(w *segmenter.Window) bool {
	m := memo(w)
	m.once.Do(func() { m.carriable = carries(&w.Init().Track) })
	return m.carriable
}

// tsForms returns the forms of the playlist that lists l. There are few: audio that is not there yet is of the last
// segments.
func (m *mediaMemo) tsForms(l tsList) *forms {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.ts {
		if t.list.same(l) {
			return &t.forms
		}
	}
	t := &tsMemo{list: l}
	m.ts = append(m.ts, t)
	return &t.forms
}

// forms are the encodings of one text.
type forms [Encodings]struct {
	once sync.Once
	r    Rendered
}

func (f *forms) get(enc Encoding, write func() []byte) *Rendered {
	if enc >= Encodings {
		enc = Identity
	}
	x := &f[enc]
	x.once.Do(func() {
		if enc == Identity {
			x.r = rendered(write(), enc)
		} else {
			x.r = rendered(compress(f.get(Identity, write).Body, enc), enc)
		}
	})
	if x.r.ETag == "" {
		panic("playlist: there was a panic when this was written") // and nobody is to take nothing for a playlist
	}
	return &x.r
}

func rendered(body []byte, enc Encoding) Rendered {
	sum := sha256.Sum256(body)
	var buf [64]byte
	b := append(hex.AppendEncode(append(buf[:0], '"'), sum[:12]), '"')
	n := len(b)
	all := string(strconv.AppendInt(b, int64(len(body)), 10))
	return Rendered{Body: body, ETag: all[1 : n-1], Encoding: enc, Tag: all[:n], Length: all[n:]}
}
