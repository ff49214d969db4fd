package tstest_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"headwater/segmenter/media"
	"headwater/segmenter/mpegts"
	"headwater/segmenter/mpegts/tstest"
)

// good returns two segments of video and audio that follow each other.
func good(t testing.TB) [][]byte {
	t.Helper()
	video := &media.Track{Timescale: 90000, Codec: media.Codec{Type: "avc1",
		Config: []byte{1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, 2, 0x67, 0x64, 1, 0, 2, 0x68, 0xee}}}
	audio := &media.Track{Timescale: 48000, FrameSamples: 1024, Codec: media.Codec{Type: "mp4a", Config: []byte{0x11, 0x90}}}
	var list [][]byte
	for i := range 2 {
		v := mpegts.Chunk{Time: int64(i) * 30 * 3750}
		for k := range 30 {
			nal := bytes.Repeat([]byte{0x41}, 1000)
			if k == 0 {
				nal[0] = 0x65
			}
			v.Samples = append(v.Samples, media.SampleInfo{Duration: 3750, CTO: 3750, Size: 1004, Sync: k == 0})
			v.Data = append(binary.BigEndian.AppendUint32(v.Data, 1000), nal...)
		}
		a := mpegts.Chunk{Time: int64(i) * 59 * 1024}
		for range 59 {
			a.Samples = append(a.Samples, media.SampleInfo{Duration: 1024, Size: 100, Sync: true})
			a.Data = append(a.Data, make([]byte, 100)...)
		}
		s, err := mpegts.AppendSegment(nil, uint64(i), &mpegts.Source{Track: video, Chunks: []mpegts.Chunk{v}},
			&mpegts.Source{Track: audio, Chunks: []mpegts.Chunk{a}})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	return list
}

// find returns the n-th packet, from 0, of which is says that it is wanted.
func find(s []byte, n int, is func(p []byte) bool) []byte {
	for ; len(s) > 0; s = s[188:] {
		if is(s[:188]) {
			if n--; n < 0 {
				return s[:188]
			}
		}
	}
	return nil
}

func pid(p []byte) int { return int(p[1]&0x1f)<<8 | int(p[2]) }

// TestCheck: the parser accepts what is right, and finds each thing that is wrong.
func TestCheck(t *testing.T) {
	if r, err := tstest.Check(good(t)); err != nil || len(r.Video()) != 60 || len(r.PCR) < 60 {
		t.Fatal(err)
	}
	starts := func(id int) func(p []byte) bool {
		return func(p []byte) bool { return pid(p) == id && p[1]&0x40 != 0 }
	}
	payload := func(p []byte) []byte {
		if p[3]&0x20 != 0 {
			return p[5+p[4]:]
		}
		return p[4:]
	}
	plain := func(id int) func(p []byte) bool {
		return func(p []byte) bool { return pid(p) == id && p[1]&0x40 == 0 && p[3]&0x30 == 0x10 }
	}
	for _, c := range []struct {
		want  string
		spoil func(s [][]byte) [][]byte
	}{
		{"sync byte", func(s [][]byte) [][]byte { s[0][188*5] = 0x48; return s }},
		{"whole number of packets", func(s [][]byte) [][]byte { s[1] = s[1][:len(s[1])-1]; return s }},
		{"error indicator", func(s [][]byte) [][]byte { s[0][188*3+1] |= 0x80; return s }},
		{"continuity counter", func(s [][]byte) [][]byte { find(s[0], 5, plain(0x100))[3] ^= 1; return s }},
		{"PID 0x0: continuity counter", func(s [][]byte) [][]byte { s[1][3] ^= 8; return s }},
		{"PID 0x1000: continuity counter", func(s [][]byte) [][]byte { s[1][188+3] ^= 8; return s }},
		{"continuity counter", func(s [][]byte) [][]byte { return [][]byte{s[0], s[0]} }},
		{"begins with PID 0x1000", func(s [][]byte) [][]byte { s[0] = s[0][188:]; return s }},
		{"CRC of table 0", func(s [][]byte) [][]byte { s[0][16] ^= 1; return s }},
		{"CRC of table 2", func(s [][]byte) [][]byte { s[1][188+16] ^= 1; return s }},
		{"is not declared", func(s [][]byte) [][]byte { find(s[0], 0, plain(0x101))[2] = 2; return s }},
		{"no random_access_indicator", func(s [][]byte) [][]byte { s[1][2*188+5] &^= 0x40; return s }},
		{"random_access_indicator true", func(s [][]byte) [][]byte { find(s[0], 3, starts(0x100))[5] |= 0x40; return s }},
		{"PES_packet_length", func(s [][]byte) [][]byte { payload(find(s[0], 2, starts(0x101)))[5]++; return s }},
		{"PES_packet_length", func(s [][]byte) [][]byte { payload(find(s[0], 2, starts(0x100)))[5]++; return s }},
		{"time", func(s [][]byte) [][]byte { payload(find(s[0], 2, starts(0x101)))[9] &^= 1; return s }},
		{"DTS", func(s [][]byte) [][]byte { payload(find(s[0], 2, starts(0x101)))[12] ^= 0x80; return s }},
		{"is ahead of DTS", func(s [][]byte) [][]byte {
			for i := 0; i < len(s[0]); i += 188 { // half a second to every PCR
				if p := s[0][i:]; p[3]&0x20 != 0 && p[4] > 0 && p[5]&0x10 != 0 {
					binary.BigEndian.PutUint32(p[6:], binary.BigEndian.Uint32(p[6:])+22500)
				}
			}
			return s[:1]
		}},
		{"ticks after the one before", func(s [][]byte) [][]byte {
			find(s[0], 4, func(p []byte) bool { return p[3]&0x20 != 0 && p[4] > 0 && p[5]&0x10 != 0 })[8] ^= 0x80
			return s
		}},
		{"stuffing byte", func(s [][]byte) [][]byte {
			p := find(s[0], 0, func(p []byte) bool { return p[3]&0x20 != 0 && p[4] > 20 && p[5] == 0 })
			p[10] = 0
			return s
		}},
		{"an access unit begins with", func(s [][]byte) [][]byte { payload(find(s[0], 2, starts(0x100)))[19+3] = 2; return s }},
		{"of an access unit has type 6", func(s [][]byte) [][]byte { payload(find(s[0], 2, starts(0x100)))[19+4] = 6; return s }},
		{"without parameter sets", func(s [][]byte) [][]byte {
			p := payload(s[1][2*188:])
			p[bytes.Index(p, []byte{0, 0, 1, 0x67})+3] = 0x66
			return s
		}},
		{"the SPS comes late", func(s [][]byte) [][]byte {
			p := payload(s[1][2*188:])
			a, b := bytes.Index(p, []byte{0, 0, 1, 0x67}), bytes.Index(p, []byte{0, 0, 1, 0x68})
			p[a+3], p[b+3] = 0x68, 0x67
			return s
		}},
		{"ADTS frame", func(s [][]byte) [][]byte { payload(find(s[0], 2, starts(0x101)))[14+4]++; return s }},
		{"no ADTS frame", func(s [][]byte) [][]byte { payload(find(s[0], 2, starts(0x101)))[14] = 0; return s }},
		{"ADTS configuration", func(s [][]byte) [][]byte { payload(find(s[0], 2, starts(0x101)))[14+2] ^= 4; return s }},
	} {
		if _, err := tstest.Check(c.spoil(good(t))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want %q, got %v", c.want, err)
		}
	}
}

// FuzzCheck: it never panics.
func FuzzCheck(f *testing.F) {
	f.Add(good(f)[0])
	f.Fuzz(func(t *testing.T, b []byte) { tstest.Check([][]byte{b}) })
}
