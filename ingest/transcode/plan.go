package transcode

import (
	"bytes"
	"fmt"
	"slices"

	"headwater/segmenter/codec"
	"headwater/segmenter/media"
)

// A plan is what one child is to do: which tracks go in, and which rungs come out.
type plan struct {
	video, audio int // indices of the source's tracks; -1 is one that no rung needs
	v, a         media.Track
	rungs        []planned
	skipped      []skipped
	waiting      bool // a track that a rung needs has been announced, and not yet been described
}

// A planned rung has its size, and no higher a bit rate than becomes its source's.
type planned struct {
	Rung
	width, height int // even; 0 for audio
}

// minRate is what every rung may have, bits a second, whatever its source announces.
const minRate = 64_000

type skipped struct {
	rung   Rung
	reason string
}

// newPlan decides which of the rungs can be made of the tracks.
func newPlan(rungs []Rung, tracks []media.Track) *plan {
	p := &plan{video: -1, audio: -1}
	video := slices.IndexFunc(tracks, func(t media.Track) bool { return t.Kind == media.Video })
	audio := slices.IndexFunc(tracks, func(t media.Track) bool { return t.Kind == media.Audio })
	for _, r := range rungs {
		skip := func(format string, args ...any) {
			p.skipped = append(p.skipped, skipped{r, fmt.Sprintf(format, args...)})
		}
		index, kind, want := video, media.Video, "avc1"
		if r.Audio {
			index, kind, want = audio, media.Audio, "mp4a"
		}
		if index < 0 {
			skip("the source has no %v", kind)
			continue
		}
		t := tracks[index]
		switch {
		case !t.Ready():
			p.waiting = true
		case t.Codec.Type != want:
			skip("the source's %v is %s, and only %s can be transcoded", kind, t.Codec.Type, want)
		case r.Audio:
			p.audio, p.a = index, t
			if t.BitRate > 0 {
				r.BitRate = min(r.BitRate, max(t.BitRate, minRate))
			}
			p.rungs = append(p.rungs, planned{Rung: r})
		case t.Width*t.Height > maxPixels:
			skip("the source's picture of %d by %d has more than %d pixels", t.Width, t.Height, maxPixels)
		case r.Lines >= shorter(&t):
			skip("%d lines are no fewer than the source's %d", r.Lines, shorter(&t))
		default:
			p.video, p.v = index, t
			from := shorter(&t)
			scaled := func(n int) int { return (n*r.Lines + from) / (2 * from) * 2 } // even, as 4:2:0 wants it
			if t.BitRate > 0 {
				r.BitRate = min(r.BitRate, max(t.BitRate/from*r.Lines, minRate))
			}
			p.rungs = append(p.rungs, planned{r, scaled(t.Width), scaled(t.Height)})
		}
	}
	return p
}

// shorter is the picture's shorter side: an upright one of 1080 by 1920 is 1080p too.
func shorter(t *media.Track) int { return min(t.Width, t.Height) }

// names are those of the rungs.
func (p *plan) names() []string {
	var names []string
	for _, r := range p.rungs {
		names = append(names, r.Name)
	}
	return names
}

// changed says whether a child that works to the plan p cannot go on by q.
func (p *plan) changed(q *plan) bool {
	switch {
	case p.video != q.video || p.audio != q.audio || !slices.Equal(p.names(), q.names()):
		return true
	case p.video >= 0 && (p.v.Width != q.v.Width || p.v.Height != q.v.Height || p.v.PixelAspect != q.v.PixelAspect || !sameSPS(&p.v, &q.v)):
		return true
	}
	return p.audio >= 0 && !bytes.Equal(p.a.Codec.Config, q.a.Codec.Config)
}

// sameSPS says whether two tracks have the same sequence parameter sets. Picture parameter sets may change at every key
// frame, and a decoder takes them as they come.
func sameSPS(a, b *media.Track) bool {
	if bytes.Equal(a.Codec.Config, b.Codec.Config) {
		return true
	}
	x, err1 := codec.ParseAVCConfig(a.Codec.Config)
	y, err2 := codec.ParseAVCConfig(b.Codec.Config)
	return err1 == nil && err2 == nil && slices.EqualFunc(x.SPS, y.SPS, bytes.Equal)
}
