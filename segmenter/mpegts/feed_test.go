package mpegts

import (
	"encoding/binary"
	"testing"

	"headwater/segmenter/media"
	"headwater/segmenter/mpegts/tstest"
)

// Parameter sets and a configuration of AAC-LC, 48 kHz, stereo.
var (
	sps = []byte{0x67, 0x64, 0, 0x1f, 0xac, 0xd9, 0x40, 0x50, 5, 0xbb}
	pps = []byte{0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0}
	asc = []byte{0x11, 0x90}
)

func avcTrack(lengthSize int) *media.Track {
	c := []byte{1, sps[1], sps[2], sps[3], 0xfc | byte(lengthSize-1), 0xe1}
	c = append(binary.BigEndian.AppendUint16(c, uint16(len(sps))), sps...)
	c = append(c, 1)
	c = append(binary.BigEndian.AppendUint16(c, uint16(len(pps))), pps...)
	return &media.Track{ID: 1, Kind: media.Video, Timescale: 90000, Codec: media.Codec{Type: "avc1", Config: c}}
}

func aacTrack(rate int) *media.Track {
	t := &media.Track{ID: 2, Kind: media.Audio, Timescale: uint32(rate), FrameSamples: 1024, SampleRate: rate, Channels: 2}
	t.Codec = media.Codec{Type: "mp4a", Config: []byte{asc[0], asc[1]}}
	for i, hz := range samplingRates {
		if int(hz) == rate {
			t.Codec.Config[0] = 2<<3 | byte(i>>1)
			t.Codec.Config[1] = byte(i)<<7 | 2<<3
		}
	}
	return t
}

// unit puts its length before a NAL unit.
func unit(lengthSize int, nal []byte) []byte {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(len(nal)))
	return append(b[4-lengthSize:], nal...)
}

// slice is a NAL unit of n bytes whose content tells frames apart and cannot be taken for a start code.
func slice(typ byte, n, seed int) []byte {
	b := make([]byte, max(n, 2))
	b[0] = 0x60 | typ
	for i := 1; i < len(b); i++ {
		b[i] = byte(1 + (i*7+seed*13)%200)
	}
	return b
}

// A feed makes Sources: a video track with a group of pictures a segment, and audio beside it.
type feed struct {
	start    int64 // 90 kHz
	seconds  int   // of a segment
	parts    int   // chunks of a segment
	num, den int   // frames a second; 0: no video
	reorder  bool  // I P B B: the run's timeline begins at the first presentation time, so offsets get negative
	length   int   // bytes of a NAL unit's length; 0 is 4
	bits     int   // bits a second of video
	rate     int   // Hz of audio; 0: none
	audio    int   // bytes of an audio frame
	language string
}

func (f feed) frame(i int64) int64 { return f.start + i*90000*int64(f.den)/int64(f.num) }

// video returns the Source of segment i. Each frame's presentation time is appended to pts if that is not nil.
func (f feed) video(i int) *Source {
	if f.num == 0 {
		return nil
	}
	length := f.length
	if length == 0 {
		length = 4
	}
	s := &Source{Track: avcTrack(length)}
	n := int64(f.seconds*f.num) / int64(f.den)
	first := int64(i) * n
	size := f.bits / 8 * f.den / f.num
	most := 1<<(8*length) - 1
	for k := range n {
		t := f.frame(first + k)
		row := media.SampleInfo{Duration: uint32(f.frame(first+k+1) - t), Sync: k == 0}
		typ, bytes := byte(1), size
		if k == 0 {
			typ, bytes = 5, 8*size
		}
		if f.reorder {
			// Display order of a period of three: P comes two before the B-frames that are decoded after it.
			show := max(k-1, 0)
			if k%3 == 1 {
				show = min(k+1, n-1)
			}
			row.CTO = int32(f.frame(first+show) - t)
		}
		nal := slice(typ, min(bytes, most), int(first+k))
		data := unit(length, nal)
		row.Size = uint32(len(data))
		c := int(k) * max(f.parts, 1) / int(n)
		if c == len(s.Chunks) {
			s.Chunks = append(s.Chunks, Chunk{Time: t})
		}
		s.Chunks[c].Samples = append(s.Chunks[c].Samples, row)
		s.Chunks[c].Data = append(s.Chunks[c].Data, data...)
	}
	return s
}

// sound returns the Source of the audio frames that begin in segment i.
func (f feed) sound(i int) *Source {
	if f.rate == 0 {
		return nil
	}
	s := &Source{Track: aacTrack(f.rate)}
	s.Track.Language = f.language
	origin := media.Rescale(f.start, 90000, uint32(f.rate))
	boundary := func(i int) int64 { // the first frame at or after the segment's start
		return (int64(i*f.seconds*f.rate) + 1023) / 1024
	}
	from, to := boundary(i), boundary(i+1)
	for k := from; k < to; k++ {
		c := int(k-from) * max(f.parts, 1) / int(to-from)
		if c == len(s.Chunks) {
			s.Chunks = append(s.Chunks, Chunk{Time: origin + k*1024})
		}
		data := slice(0, f.audio, int(k))[:f.audio]
		s.Chunks[c].Samples = append(s.Chunks[c].Samples, media.SampleInfo{Duration: 1024, Size: uint32(len(data)), Sync: true})
		s.Chunks[c].Data = append(s.Chunks[c].Data, data...)
	}
	return s
}

// render makes n segments from number msn on.
func (f feed) render(t testing.TB, msn uint64, n int) [][]byte {
	t.Helper()
	var list [][]byte
	for i := range n {
		b, err := AppendSegment(nil, msn+uint64(i), f.video(i), f.sound(i))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, b)
	}
	return list
}

// check has the independent parser read them.
func check(t testing.TB, segments ...[]byte) *tstest.Report {
	t.Helper()
	r, err := tstest.Check(segments)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// times returns the presentation and decode times, at 90 kHz, that a Source's samples must have in the output.
func times(s *Source) (pts, dts []int64) {
	if s == nil {
		return nil, nil
	}
	for _, c := range s.Chunks {
		t := c.Time
		for _, r := range c.Samples {
			if r.Size > 0 {
				pts = append(pts, media.Rescale(t+int64(r.CTO), s.Track.Timescale, 90000)+900000)
				dts = append(dts, media.Rescale(t, s.Track.Timescale, 90000)+900000)
			}
			t += int64(r.Duration)
		}
	}
	return pts, dts
}

type (
	PES       = tstest.PES
	PMTStream = tstest.Stream
)
