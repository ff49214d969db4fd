package playlist

import (
	"cmp"
	"slices"

	"github.com/grafov/m3u8"

	"headwater/segmenter"
	"headwater/segmenter/media"
)

// Which audio plays with which video. What the publications of a stream carry is, of each of its audio tracks, one rendition or
// several encodings.

// A group is an audio group (RFC 8216bis 4.4.6.1.1): one rendition of each track. All groups have the same members, in the same
// order.
type group struct {
	id      string
	members []*segmenter.Described
	names   []string // of the members, for people
}

// audioGroups are those of a presentation. Of what its audio renditions have the same of, language, label and channels, the first
// is in the first group. Another encoding that comes with a video rendition of its own is in a group for that; those that come
// alone are there for those who take the sound alone, one of each track to a group.
type audioGroups struct {
	main  group
	video map[string]group // by the rung of the video rendition that it is for, if that is not main
	alone []group          // for sound alone
}

// groupAudio puts audio renditions into groups for the video.
func groupAudio(video, audio []*segmenter.Described) *audioGroups {
	g := &audioGroups{main: group{id: audioGroup}, video: map[string]group{}}
	rungs := map[string]bool{}
	for _, d := range video {
		rungs[d.Rendition.Rung] = true
	}
	type extra struct {
		d  *segmenter.Described
		of int // the member that it encodes again
	}
	var extras []extra
	for _, d := range audio {
		rung := d.Rendition.Rung
		of := slices.IndexFunc(g.main.members, func(m *segmenter.Described) bool {
			a, b := &m.Track, &d.Track
			return rung != "" && a.Language == b.Language && a.Label == b.Label && (rungs[rung] || d.Rendition.Lower || a.Channels == b.Channels)
		})
		if of < 0 {
			g.main.members = append(g.main.members, d)
			continue
		}
		extras = append(extras, extra{d, of})
	}
	taken := map[string]bool{}
	for _, d := range g.main.members {
		g.main.names = append(g.main.names, uniqueName(d, taken))
	}
	for _, e := range extras {
		rung := e.d.Rendition.Rung
		own := group{e.d.Rendition.ID, slices.Clone(g.main.members), g.main.names}
		if rungs[rung] {
			g.video[rung] = own
		} else if i := slices.IndexFunc(g.alone, func(a group) bool { return a.members[e.of] == g.main.members[e.of] }); i >= 0 {
			own = g.alone[i]
		} else {
			g.alone = append(g.alone, own)
		}
		own.members[e.of] = e.d // the groups share them
	}
	return g
}

// of returns the group that plays with a video rendition.
func (g *audioGroups) of(d *segmenter.Described) group {
	if own, ok := g.video[d.Rendition.Rung]; ok {
		return own
	}
	return g.main
}

// sounds returns the groups for the sound alone. Without video that is all of them; else what has been encoded for it, or, if any
// is wanted, the cheapest: by its first member, which plays unless somebody chooses. What no video plays is there too.
func (g *audioGroups) sounds(video []*segmenter.Described, any bool) []group {
	if len(g.main.members) == 0 {
		return nil
	}
	out := g.alone
	if !slices.ContainsFunc(video, func(d *segmenter.Described) bool { return g.of(d).id == g.main.id }) {
		out = append([]group{g.main}, out...)
	}
	if len(out) > 0 || !any {
		return out
	}
	all := []group{g.main}
	for _, own := range g.video {
		all = append(all, own)
	}
	return []group{slices.MinFunc(all, func(a, b group) int {
		return cmp.Or(cmp.Compare(a.rate(), b.rate()), cmp.Compare(a.id, b.id))
	})}
}

func (g group) rate() int {
	_, average := rates(g.members[0], unknownAudioRate)
	return average
}

// alternatives are the EXT-X-MEDIA of a group.
func alternatives(p *segmenter.Presentation, g group, path pathway) (out []*m3u8.Alternative) {
	for i, d := range g.members {
		out = append(out, &m3u8.Alternative{
			Type: "AUDIO", GroupId: g.id, Name: g.names[i], Language: language(d.Track.Language),
			Default: i == 0, Autoselect: "YES", URI: path.base + uri(d),
		})
	}
	return out
}

// mainFirst orders audio renditions so that the one that publications share, or the source's, comes first: it is the DEFAULT.
func mainFirst(audio []*segmenter.Described) {
	slices.SortStableFunc(audio, func(a, b *segmenter.Described) int {
		first := func(d *segmenter.Described) int {
			if d.Rendition.ID == media.Audio.String() {
				return 0
			}
			return 1
		}
		return first(a) - first(b)
	})
}
