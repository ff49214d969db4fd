package playlist

import (
	"github.com/grafov/m3u8"

	"headwater/segmenter"
	"headwater/segmenter/media"
)

// What MPEG-TS adds to the bytes of the samples, roughly and rather too high than too low: four bytes of every packet; of every
// PES packet its header, half a packet of stuffing, and an access unit delimiter and start codes, or ADTS headers;
// continuity counters brought to a multiple of 16 on each PID, and the tables.
const (
	tsPacketPercent = 3
	tsFrameBits     = 160 * 8 // a video frame
	tsAudioBits     = 20_000  // a second: ten PES packets, and 50 ADTS headers
	tsProgramBits   = 24_000  // a second
	unknownRate     = 30      // frames a second
)

// tsRate is what a variant takes in MPEG-TS whose renditions take rate as they are.
func tsRate(rate int, v *variant) int {
	rate += rate*tsPacketPercent/100 + tsAudioBits + tsProgramBits
	if v.main.Rendition.Kind == media.Video {
		fps := v.main.FrameRate
		if fps <= 0 {
			fps = unknownRate
		}
		rate += int(fps * tsFrameBits)
	}
	return rate
}

// tsRenditions returns the renditions of p that MPEG-TS can carry: of audio the one that is muxed.
func tsRenditions(p *segmenter.Presentation) (video, audio []*segmenter.Described) {
	all, sound := split(p)
	for _, d := range all {
		if carries(&d.Track) {
			video = append(video, d)
		}
	}
	for _, d := range sound {
		if carries(&d.Track) {
			return video, []*segmenter.Described{d}
		}
	}
	return video, nil
}

func hasTS(p *segmenter.Presentation) bool {
	video, audio := tsRenditions(p)
	return len(video)+len(audio) > 0
}

// AppendTSMultivariant appends the Multivariant Playlist of p's MPEG-TS renditions to dst: a variant for each video rendition and
// one of the audio alone, in the order of AppendMultivariant. Its URIs are relative to TSFolder. There are no
// groups, because every variant is whole, and no I-frame playlists: those of AppendMultivariant are in another format.
func AppendTSMultivariant(dst []byte, p *segmenter.Presentation) []byte {
	return appendTSMultivariant(dst, p, pathwaysOf(p, upFromTS), steeringLine(p, upFromTS))
}

func appendTSMultivariant(dst []byte, p *segmenter.Presentation, paths []pathway, steering string) []byte {
	video, audio := tsRenditions(p)
	all := variants(video, audio, true)
	m := m3u8.NewMasterPlaylist()
	m.SetIndependentSegments(p.Run.Config.LongGOP == segmenter.Refuse)
	var lacking [][]string
	for i := range all {
		v := &all[i]
		v.peak, v.average = tsRate(v.peak, v), tsRate(v.average, v)
	}
	for _, path := range paths {
		for i := range all {
			v := &all[i]
			m.Append(path.base+folder(v.main)+TSFolder+"/"+Index, nil, v.params(ranged(video)))
			lacking = append(lacking, path.attributes(stable(v.main.Rendition.ID)))
		}
	}
	m.SetVersion(1)
	return appendComplete(dst, m.Encode().Bytes(), steering, lacking)
}

// upFromTS leads from TSFolder to where the other multivariant playlist lies.
const upFromTS = "../"
