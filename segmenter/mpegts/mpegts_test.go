package mpegts

import (
	"bytes"
	"slices"
	"testing"

	"headwater/segmenter/media"
)

// wrapTime is where 33 bits are full, 26.5 hours, less what is added to all times.
const wrapTime = 1<<33 - 900000

var feeds = []struct {
	name string
	feed
}{
	{"24", feed{seconds: 2, parts: 6, num: 24, den: 1, bits: 2_000_000, rate: 48000, audio: 341}},
	{"film with B-frames", feed{seconds: 4, num: 24000, den: 1001, reorder: true, bits: 3_000_000, rate: 44100, audio: 371, language: "de"}},
	{"25", feed{seconds: 2, parts: 3, num: 25, den: 1, reorder: true, bits: 400_000, rate: 48000, audio: 171}},
	{"ntsc", feed{seconds: 2, parts: 7, num: 30000, den: 1001, bits: 3_000_000, rate: 44100, audio: 371}},
	{"60", feed{seconds: 2, num: 60, den: 1, reorder: true, bits: 8_000_000, rate: 48000, audio: 853}},
	{"5", feed{seconds: 2, num: 5, den: 1, bits: 100_000, rate: 48000, audio: 100}},
	{"slides", feed{seconds: 6, num: 1, den: 2, bits: 5_000, rate: 32000, audio: 100}},
	{"tiny frames", feed{seconds: 2, num: 24, den: 1, bits: 500, rate: 8000, audio: 6}},
	{"lengths of 1", feed{seconds: 2, num: 30, den: 1, length: 1, bits: 50_000}},
	{"lengths of 2", feed{seconds: 2, num: 30, den: 1, length: 2, bits: 900_000}},
	{"audio only", feed{seconds: 2, parts: 6, rate: 48000, audio: 341, language: "en-GB"}},
	{"audio only, little", feed{seconds: 6, rate: 8000, audio: 6}},
	{"audio only, much", feed{seconds: 1, rate: 96000, audio: 6000}},
	{"at the wrap", feed{start: wrapTime - 5*90000 + 1234, seconds: 2, parts: 6, num: 30000, den: 1001, reorder: true, bits: 1_000_000, rate: 44100, audio: 371}},
	{"audio at the wrap", feed{start: wrapTime - 5*90000, seconds: 2, rate: 44100, audio: 371}},
}

// TestSegments renders six segments of each feed and checks what the parser finds in them as one stream, and that each is
// the same alone.
func TestSegments(t *testing.T) {
	const msn, n = 1_700_000_005, 6
	for _, c := range feeds {
		t.Run(c.name, func(t *testing.T) {
			segments := c.render(t, msn, n)
			r := check(t, segments...)
			if r.PCRGap > pcrGap {
				t.Errorf("PCR gap of %d ticks", r.PCRGap)
			}
			for i, s := range segments {
				if a, b := s[3], s[191]; a != 0x10|byte(msn+i)&15 || a != b {
					t.Errorf("segment %d: counters of PAT and PMT %#x %#x", i, a, b)
				}
				alone, err := AppendSegment([]byte("before"), uint64(msn+i), c.video(i), c.sound(i))
				if err != nil || string(alone) != "before"+string(s) {
					t.Errorf("segment %d is another alone: %v", i, err)
				}
			}
			for pid, counts := range r.Packets {
				for i, n := range counts {
					if (pid == videoPID || pid == audioPID) && n%16 != 0 {
						t.Errorf("segment %d has %d packets on PID %#x", i, n, pid)
					}
				}
			}
			c.checkVideo(t, r.Video(), n)
			c.checkAudio(t, r.Audio(), n)
			var want []PMTStream
			if c.num != 0 {
				want = append(want, PMTStream{PID: videoPID, Type: 0x1b})
			}
			if c.rate != 0 {
				want = append(want, PMTStream{PID: audioPID, Type: 0x0f, Language: map[string]string{"de": "deu", "en-GB": "eng"}[c.language]})
			}
			if m := r.PMT[0]; m.PCRPID != want[0].PID || !slices.Equal(m.Streams, want) {
				t.Errorf("PMT %+v", m)
			}
			if last := r.PES[len(r.PES)-1]; c.start > 0 && last.DTS < 1<<33 {
				t.Error("the clock did not wrap")
			}
		})
	}
}

func (f feed) checkVideo(t *testing.T, list []PES, n int) {
	t.Helper()
	var pts, dts []int64
	var data [][]byte
	for i := range n {
		s := f.video(i)
		p, d := times(s)
		pts, dts = append(pts, p...), append(dts, d...)
		if s == nil {
			continue
		}
		for _, c := range s.Chunks {
			b := c.Data
			for _, r := range c.Samples {
				data = append(data, b[s.Track.Codec.Config[4]&3+1:r.Size])
				b = b[r.Size:]
			}
		}
	}
	if len(list) != len(pts) {
		t.Fatalf("%d access units of %d", len(list), len(pts))
	}
	for i, p := range list {
		// With B-frames all decode times are brought forward alike.
		if delay := dts[i] - p.DTS; p.PTS != pts[i] || delay != dts[0]-list[0].DTS || !f.reorder && delay != 0 {
			t.Fatalf("access unit %d has PTS %d and DTS %d, want %d and %d", i, p.PTS, p.DTS, pts[i], dts[i])
		}
		if p.HasDTS != (p.PTS != p.DTS) {
			t.Fatalf("access unit %d has DTS %v, PTS %d, DTS %d", i, p.HasDTS, p.PTS, p.DTS)
		}
		want := delimiter
		if p.RandomAccess {
			want = slices.Concat(delimiter, startCode, sps, startCode, pps)
		}
		if want = slices.Concat(want, startCode, data[i]); !bytes.Equal(p.Data, want) {
			t.Fatalf("access unit %d has %d bytes that differ from %d:\n% x\n% x", i, len(p.Data), len(want), p.Data[:20], want[:20])
		}
	}
}

func (f feed) checkAudio(t *testing.T, list []PES, n int) {
	t.Helper()
	var pts []int64
	for i := range n {
		p, _ := times(f.sound(i))
		pts = append(pts, p...)
	}
	k := 0
	for i, p := range list {
		if k >= len(pts) || p.PTS != pts[k] || p.HasDTS {
			t.Fatalf("PES packet %d of audio: %d", i, p.PTS)
		}
		if p.Frames > 1 && p.Frames*1024*10 > p.Rate {
			t.Fatalf("PES packet %d of audio has %d frames", i, p.Frames)
		}
		if p.Frames > 1 && len(p.Data) > 16384 {
			t.Fatalf("PES packet %d of audio has %d bytes", i, len(p.Data))
		}
		if p.Rate != f.rate || len(p.Data) != p.Frames*(7+f.audio) {
			t.Fatalf("PES packet %d of audio: %d frames of %d Hz in %d bytes", i, p.Frames, p.Rate, len(p.Data))
		}
		for j := range p.Frames {
			if got := p.Data[j*(7+f.audio)+7:][:f.audio]; !bytes.Equal(got, slice(0, f.audio, k+j)[:f.audio]) {
				t.Fatalf("audio frame %d differs", k+j)
			}
		}
		k += p.Frames
	}
	if k != len(pts) {
		t.Fatalf("%d audio frames of %d", k, len(pts))
	}
}

// TestInterleaving: PES packets come in the order of their decode times, but for the first.
func TestInterleaving(t *testing.T) {
	f := feed{seconds: 2, num: 30, den: 1, bits: 1_000_000, rate: 48000, audio: 300}
	r := check(t, f.render(t, 1, 3)...)
	for i := 1; i < len(r.PES); i++ {
		a, b := r.PES[i-1], r.PES[i]
		if b.DTS < a.DTS && a.Segment == b.Segment {
			t.Errorf("DTS %d follows %d", b.DTS, a.DTS)
		}
	}
	for _, p := range r.Audio() {
		if p.Length == 0 {
			t.Error("audio PES packet without length")
		}
	}
}

// TestSpread: one sample, however small, takes sixteen packets.
func TestSpread(t *testing.T) {
	for _, size := range []int{1, 2, 7, 8, 9, 20, 100, 160, 161, 162, 163, 164, 165, 176, 184, 300, 2000, 2760, 2800, 2900, 2944, 2950, 3000, 5000} {
		data := unit(4, slice(5, size, 0))
		video := &Source{Track: avcTrack(4), Chunks: []Chunk{{
			Samples: []media.SampleInfo{{Duration: 7507, CTO: int32(size % 2), Size: uint32(len(data)), Sync: true}}, Data: data,
		}}}
		audio := &Source{Track: aacTrack(48000), Chunks: []Chunk{{
			Samples: []media.SampleInfo{{Duration: 1024, Size: uint32(size), Sync: true}}, Data: make([]byte, size),
		}}}
		for i, c := range [][2]*Source{{video, nil}, {nil, audio}, {video, audio}} {
			one, err := AppendSegment(nil, 15, c[0], c[1])
			if err != nil {
				t.Fatal(err)
			}
			r := check(t, one)
			for pid, n := range r.Packets {
				if pid&^1 == videoPID && n[0] != (n[0]+15)&^15 {
					t.Errorf("%d bytes, case %d: %d packets on PID %#x", size, i, n[0], pid)
				}
			}
			// A PES header stays whole where the stream has enough bytes for the other packets.
			if b := one[2*188:]; size >= 16 && b[3]&0x20 != 0 && 188-5-int(b[4]) < 14 {
				t.Errorf("%d bytes, case %d: the PES header is cut after %d bytes", size, i, 188-5-int(b[4]))
			}
		}
	}
}

// TestSpreadAnything: a PES packet of any length, with PCRs in it or not, can be spread over up to 15 packets more, and is then
// what it was.
func TestSpreadAnything(t *testing.T) {
	data := slice(1, 6000, 0)
	for size := len(delimiter); size < len(data); size += 1 + size/50 { // no stream has less
		for before := range 16 {
			for pcrs := int64(1); pcrs <= 5; pcrs++ {
				var o out
				o.video = stream{pid: videoPID, id: 0xe0, packets: before}
				o.clock = &o.video
				o.begin(&o.video, &pes{size: size, access: true, last: true, next: pcrs * pcrGap})
				o.write(data[:size])
				if o.bytes != 0 || o.begun != o.whole || o.video.packets%16 != 0 || o.at != o.end {
					t.Fatalf("%d bytes after %d packets with %d PCRs: %d are left, %d packets of %d", size, before, pcrs, o.bytes, o.begun, o.whole)
				}
				var got []byte
				clocks := 0
				for b := o.dst; len(b) > 0; b = b[188:] {
					payload := b[4:188]
					if b[3]&0x20 != 0 {
						payload = b[5+b[4] : 188]
						if b[4] > 0 && b[5]&0x10 != 0 {
							clocks++
						}
					}
					got = append(got, payload...)
				}
				if !bytes.Equal(got[14:], data[:size]) || clocks+o.pending.n-o.pending.i != int(pcrs) {
					t.Fatalf("%d bytes after %d packets with %d PCRs: %d bytes, %d PCRs", size, before, pcrs, len(got), clocks)
				}
			}
		}
	}
}
