package casetest

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/Eyevinn/mp4ff/mp4"
)

// A frame is one sample of a fragment, with its stamp.
type frame struct {
	dts, pts, dur int64
	sync          bool
	stamp
}

// A header is what a Media Initialization Section says.
type header struct {
	scale         float64
	audio, hevc   bool
	width, height int
	rate          int
	channels      int
}

func readHeader(b []byte) (*header, error) {
	f, err := mp4.DecodeFile(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	if f.Init == nil || f.Init.Moov == nil || len(f.Init.Moov.Traks) != 1 {
		return nil, errors.New("not a movie box with one track")
	}
	trak := f.Init.Moov.Trak
	if trak.Edts != nil {
		return nil, errors.New("an edit list")
	}
	h := &header{scale: float64(trak.Mdia.Mdhd.Timescale)}
	stsd := trak.Mdia.Minf.Stbl.Stsd
	switch {
	case stsd.AvcX != nil:
		h.width, h.height = int(stsd.AvcX.Width), int(stsd.AvcX.Height)
	case stsd.HvcX != nil:
		h.hevc = true
		h.width, h.height = int(stsd.HvcX.Width), int(stsd.HvcX.Height)
	case stsd.Mp4a != nil:
		h.audio, h.rate, h.channels = true, int(stsd.Mp4a.SampleRate), int(stsd.Mp4a.ChannelCount)
	default:
		return nil, errors.New("none of avc1, hvc1 and mp4a")
	}
	return h, nil
}

// readFrames returns the samples of a segment or a part.
func readFrames(b []byte) ([]frame, error) {
	f, err := mp4.DecodeFile(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	var out []frame
	for _, s := range f.Segments {
		for _, g := range s.Fragments {
			samples, err := g.GetFullSamples(nil)
			if err != nil {
				return nil, err
			}
			for _, x := range samples {
				st, ok := readStamp(x.Data)
				if !ok {
					return nil, fmt.Errorf("a sample of %d bytes has no stamp", len(x.Data))
				}
				out = append(out, frame{int64(x.DecodeTime), x.PresentationTime(), int64(x.Dur), x.IsSync(), st})
			}
		}
	}
	return out, nil
}
