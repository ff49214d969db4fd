package mpegts

import (
	"testing"

	"headwater/segmenter/media"
)

func oneVideo(time int64, rows ...media.SampleInfo) *Source {
	c := Chunk{Time: time}
	for i, r := range rows {
		typ := byte(1)
		if r.Sync {
			typ = 5
		}
		data := unit(4, slice(typ, 100, i))
		r.Size = uint32(len(data))
		c.Samples = append(c.Samples, r)
		c.Data = append(c.Data, data...)
	}
	return &Source{Track: avcTrack(4), Chunks: []Chunk{c}}
}

func oneAudio(time int64, n int) *Source {
	c := Chunk{Time: time}
	for range n {
		c.Samples = append(c.Samples, media.SampleInfo{Duration: 1024, Size: 50, Sync: true})
		c.Data = append(c.Data, make([]byte, 50)...)
	}
	return &Source{Track: aacTrack(48000), Chunks: []Chunk{c}}
}

// TestClock: the PCR comes often enough and never ahead, whatever the sources look like (ISO/IEC 13818-1 2.7.2). The parser
// checks the latter.
func TestClock(t *testing.T) {
	key := media.SampleInfo{Duration: 3000, Sync: true}
	late := oneAudio(48000, 90)
	late.Chunks = append(late.Chunks, oneAudio(5*48000, 90).Chunks...)
	apart := oneVideo(0, key, media.SampleInfo{Duration: 3000})
	apart.Chunks = append(apart.Chunks, oneVideo(7*90000, key).Chunks...)
	for _, c := range []struct {
		name         string
		video, audio *Source
		pcrs         int // at least
	}{
		{"still picture", oneVideo(0, media.SampleInfo{Duration: 6 * 90000, Sync: true}), nil, 150},
		{"still picture with sound", oneVideo(0, media.SampleInfo{Duration: 2 * 90000, Sync: true}), oneAudio(0, 93), 50},
		{"sound before the picture", oneVideo(90000, key, key, key), oneAudio(0, 60), 23},
		{"a little sound before the picture", oneVideo(90000, key, key, key), oneAudio(47000, 60), 3},
		{"sound long after the picture", oneVideo(0, key, key, key), oneAudio(48000*3, 60), 3},
		{"sound with a hole", nil, late, 150},
		{"picture with a hole", apart, oneAudio(0, 500), 176},
		{"no picture in this segment", &Source{Track: avcTrack(4)}, oneAudio(0, 93), 49},
		{"no sound in this segment", oneVideo(0, key, key), &Source{Track: aacTrack(48000)}, 2},
		{"a day in", oneVideo(90000*86400*3, key, key), oneAudio(48000*86400*3, 3), 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, err := AppendSegment(nil, 7, c.video, c.audio)
			if err != nil {
				t.Fatal(err)
			}
			r := check(t, b)
			if r.PCRGap > pcrGap || len(r.PCR) < c.pcrs {
				t.Errorf("%d PCRs, gap %d", len(r.PCR), r.PCRGap)
			}
			if m := r.PMT[0]; len(m.Streams) == 2 && m.PCRPID != videoPID {
				t.Errorf("PMT %+v", m)
			}
		})
	}
}

// TestClockInside: where a PES packet has packets enough, the PCRs between frames cost 8 bytes each, not a packet.
func TestClockInside(t *testing.T) {
	for _, c := range []struct {
		name  string
		feed  feed
		alone int
	}{
		{"large frames", feed{seconds: 2, num: 24, den: 1, bits: 2_000_000, rate: 48000, audio: 300}, 0},
		{"small frames", feed{seconds: 2, num: 24, den: 1, bits: 10_000, rate: 48000, audio: 300}, 45},
		{"often enough", feed{seconds: 2, num: 25, den: 1, bits: 10_000}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			alone := 0
			for _, p := range check(t, c.feed.render(t, 1, 1)...).PCR {
				if p.Alone {
					alone++
				}
			}
			if alone > 48 || alone < c.alone || c.alone == 0 && alone > 0 {
				t.Errorf("%d packets for PCRs alone, want %d", alone, c.alone)
			}
		})
	}
}

// TestDelay: decode times are brought forward by what the caller says, or by what the segment needs, and presentation times
// do not move.
func TestDelay(t *testing.T) {
	rows := []media.SampleInfo{{Duration: 3000, Sync: true}, {Duration: 3000, CTO: 6000}, {Duration: 3000, CTO: -3000}, {Duration: 3000, CTO: -3000}}
	for _, c := range []struct {
		rows        []media.SampleInfo
		delay, want int64
	}{
		{rows, 0, 3000},
		{rows, 3000, 3000},
		{rows, 6001, 6001},
		{rows[:1], 6000, 6000},
		{rows[:1], 0, 0},
		{rows[:1], -5, 0},
	} {
		s := oneVideo(0, c.rows...)
		s.Delay = c.delay
		b, err := AppendSegment(nil, 0, s, nil)
		if err != nil {
			t.Fatal(err)
		}
		pts, dts := times(s)
		for i, p := range check(t, b).Video() {
			if p.PTS != pts[i] || p.DTS != dts[i]-c.want {
				t.Errorf("delay %d, frame %d: PTS %d, DTS %d; want %d, %d", c.delay, i, p.PTS, p.DTS, pts[i], dts[i]-c.want)
			}
		}
	}
	// With a constant delay decode times run on evenly past a segment that would need none.
	first, second := oneVideo(0, rows...), oneVideo(12000, rows[:1]...)
	first.Delay, second.Delay = 3000, 3000
	third := oneVideo(15000, rows...)
	third.Delay = 3000
	var list [][]byte
	for i, s := range []*Source{first, second, third} {
		b, err := AppendSegment(nil, uint64(i), s, nil)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, b)
	}
	for i, p := range check(t, list...).Video() {
		if want := int64(900000 - 3000 + 3000*i); p.DTS != want {
			t.Errorf("frame %d: DTS %d, want %d", i, p.DTS, want)
		}
	}
}

// TestAudioTimes: a PES packet ends where frames do not follow each other as their length says, so that each frame's time can
// be told.
func TestAudioTimes(t *testing.T) {
	s := oneAudio(0, 30)
	rows := s.Chunks[0].Samples
	rows[5].Duration += 512 // the grid moves
	rows[11].Duration -= 512
	rows[17].Duration += 1 // less than a tick of 90 kHz
	rows[20].Size = 0      // a pause
	s.Chunks[0].Data = s.Chunks[0].Data[:29*50]
	b, err := AppendSegment(nil, 0, nil, s)
	if err != nil {
		t.Fatal(err)
	}
	pts, _ := times(s)
	for _, p := range check(t, b).Audio() {
		for i := range p.Frames {
			got := p.PTS + media.Rescale(int64(i*1024), 48000, 90000)
			if got-pts[0] > 1 || got-pts[0] < -1 {
				t.Errorf("frame %d of PES packet at %d is at %d, want %d", i, p.PTS, got, pts[0])
			}
			pts = pts[1:]
		}
	}
	if len(pts) != 0 {
		t.Errorf("%d frames are missing", len(pts))
	}
}

// TestHoles: where sound is missing at the beginning or the end of segments that go on without discontinuity, PCRs bridge that
// (ISO/IEC 13818-1 2.7.2). So little that none is needed changes nothing, nor does any of it beside a picture.
func TestHoles(t *testing.T) {
	render := func(msn uint64, video, s *Source, from, to int64) []byte {
		t.Helper()
		s.From, s.To = from, to
		b, err := AppendSegment(nil, msn, video, s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	const second = 48000
	r := check(t,
		render(0, nil, oneAudio(0, 10), 0, 2*second),
		render(1, nil, oneAudio(7*second/2, 15), 2*second, 4*second),
		render(2, nil, oneAudio(5*second, 10), 4*second, 6*second),
		render(3, nil, oneAudio(6*second, 93), 6*second, 6*second+93*1024))
	if r.PCRGap > pcrGap || len(r.PCR) < 4*2*25 {
		t.Errorf("%d PCRs, gap %d", len(r.PCR), r.PCRGap)
	}
	key := media.SampleInfo{Duration: 3000, Sync: true}
	for _, c := range []struct {
		name     string
		video    func() *Source
		from, to int64
	}{
		{"little", func() *Source { return nil }, 4*second - second/30, 4*second + 93*1024 + second/30},
		{"less than the samples", func() *Source { return nil }, 5 * second, 5*second + 1},
		{"beside a picture", func() *Source { return oneVideo(4*90000, key, key) }, 3 * second, 7 * second},
	} {
		if a, b := render(0, c.video(), oneAudio(4*second, 93), 0, 0), render(0, c.video(), oneAudio(4*second, 93), c.from, c.to); string(a) != string(b) {
			t.Errorf("%s: another segment", c.name)
		}
	}
}
