package mpegts

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"headwater/segmenter/media"
	"headwater/segmenter/mpegts/tstest"
)

// TestAccessUnits: what becomes of the NAL units of a sample.
func TestAccessUnits(t *testing.T) {
	aud := []byte{9, 0x10}
	sei := []byte{6, 5, 1, 0xaa, 0x80}
	otherSPS := append(bytes.Clone(sps), 1)
	otherPPS := append(bytes.Clone(pps), 1)
	idr, p := slice(5, 50, 1), slice(1, 50, 2)
	for _, c := range []struct {
		name     string
		in, want [][]byte // of the second access unit, after its delimiter
		sync     bool
	}{
		{"IDR", [][]byte{idr}, [][]byte{sps, pps, idr}, true},
		{"IDR in two slices", [][]byte{idr, idr}, [][]byte{sps, pps, idr, idr}, true},
		{"not IDR", [][]byte{p}, [][]byte{p}, false},
		{"a delimiter", [][]byte{aud, p}, [][]byte{p}, false},
		{"delimiter, SEI", [][]byte{aud, sei, idr}, [][]byte{sps, pps, sei, idr}, true},
		{"all in band", [][]byte{aud, sps, pps, sei, idr}, [][]byte{sps, pps, sei, idr}, true},
		{"repeated before another picture", [][]byte{sps, pps, p}, [][]byte{p}, false},
		{"another SPS", [][]byte{otherSPS, idr}, [][]byte{sps, pps, otherSPS, idr}, true},
		{"another PPS in a later picture", [][]byte{otherPPS, p}, [][]byte{otherPPS, p}, false},
		{"empty NAL units", [][]byte{{}, p, {}}, [][]byte{p}, false},
		{"end of sequence", [][]byte{p, {10}}, [][]byte{p, {10}}, false},
		{"IDR that the table does not call one", [][]byte{idr}, [][]byte{sps, pps, idr}, false},
	} {
		for _, length := range []int{1, 2, 4} {
			first := unit(length, idr)
			var second []byte
			for _, nal := range c.in {
				second = append(second, unit(length, nal)...)
			}
			s := &Source{Track: avcTrack(length), Chunks: []Chunk{{
				Samples: []media.SampleInfo{{Duration: 3000, Size: uint32(len(first)), Sync: true}, {Duration: 3000, Size: uint32(len(second)), Sync: c.sync}},
				Data:    slices.Concat(first, second),
			}}}
			b, err := AppendSegment(nil, 0, s, nil)
			if err != nil {
				t.Fatal(err)
			}
			want := bytes.Clone(delimiter)
			for _, nal := range c.want {
				want = append(append(want, startCode...), nal...)
			}
			if got := check(t, b).Video()[1].Data; !bytes.Equal(got, want) {
				t.Errorf("%s, lengths of %d:\n% x, want\n% x", c.name, length, got, want)
			}
		}
	}
}

// TestNoKeyFrame: a segment that cannot be decoded by itself does not say that it can, but has the parameter sets.
func TestNoKeyFrame(t *testing.T) {
	b, err := AppendSegment(nil, 0, oneVideo(0, media.SampleInfo{Duration: 3000}, media.SampleInfo{Duration: 3000}), nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := tstest.Check([][]byte{b})
	if err == nil || strings.Count(err.Error(), "\n") != 0 || !strings.Contains(err.Error(), "no random_access_indicator") {
		t.Errorf("parser says %v", err)
	}
	for i, p := range r.Video() {
		if want := [][]byte{{9, 7, 8, 1}, {9, 1}}[i]; !bytes.Equal(p.NAL, want) {
			t.Errorf("access unit %d has NAL units %v", i, p.NAL)
		}
	}
}

// TestTables compares the program tables with bytes known from elsewhere, and the PMT of each set of streams.
func TestTables(t *testing.T) {
	v, a := oneVideo(0, media.SampleInfo{Duration: 1, Sync: true}), oneAudio(0, 1)
	german, french := oneAudio(0, 1), oneAudio(0, 1)
	german.Track.Language, french.Track.Language = "de-AT", "fra"
	versions := map[byte]bool{}
	for _, c := range []struct {
		video, audio *Source
		pmt          string // from the PCR PID to before the CRC
	}{
		{v, a, "e100f000 1be100f000 0fe101f000"},
		{v, nil, "e100f000 1be100f000"},
		{nil, a, "e101f000 0fe101f000"},
		{v, german, "e100f000 1be100f000 0fe101f006 0a04 646575 00"},
		{v, french, "e100f000 1be100f000 0fe101f006 0a04 667261 00"},
		{nil, german, "e101f000 0fe101f006 0a04 646575 00"},
	} {
		b, err := AppendSegment(nil, 0xabc3, c.video, c.audio)
		if err != nil {
			t.Fatal(err)
		}
		check(t, b)
		const pat = "47400013" + "00" + "00b00d0001c100000001f0002ab104b2" // as other multiplexers write it
		if got := hex.EncodeToString(b[:21]); got != pat {
			t.Errorf("PAT %s", got)
		}
		pmt := b[188:]
		if got := hex.EncodeToString(pmt[:5]); got != "4750001300" {
			t.Errorf("PMT %s", got)
		}
		body := pmt[5 : 5+3+int(pmt[7])-4]
		if got := hex.EncodeToString(body[8:]); got != strings.ReplaceAll(c.pmt, " ", "") {
			t.Errorf("PMT %s, want %s", got, c.pmt)
		}
		if versions[body[5]] {
			t.Errorf("version %#x is that of another PMT", body[5])
		}
		versions[body[5]] = true
	}
}

func TestLanguage(t *testing.T) {
	for tag, want := range map[string]string{
		"": "", "de": "deu", "DE-at": "deu", "eng": "eng", "en-US": "eng", "und": "", "xx": "", "e": "", "e1g": "", "x-private": "", "zh-Hans": "zho",
	} {
		if got := media.LanguageCode(tag); got != want {
			t.Errorf("%q is %q, want %q", tag, got, want)
		}
	}
}

// TestADTS: the header that an AudioSpecificConfig becomes.
func TestADTS(t *testing.T) {
	for _, c := range []struct {
		name, config, want string // want: of a frame with 371 bytes; or in the error
	}{
		{"LC 48 kHz stereo", "1190", "fff14c802f5ffc"},
		{"LC 44.1 kHz mono", "1208", "fff150402f5ffc"},
		{"LC 8 kHz 7.1", "15b8", "fff16dc02f5ffc"},
		{"LC with backward compatible SBR", "139056e5a0", "fff15c802f5ffc"},
		{"HE-AAC, explicit: the core's rate", "2b118800", "fff158802f5ffc"},
		{"HE-AAC v2: the core's rate and channel", "eb098800", "fff158402f5ffc"},
		{"48 kHz written out", "17805dc010", "fff14c802f5ffc"},
		{"Main", "0990", "fff10c802f5ffc"},
		{"47999 Hz", "17805dbf90", "outside the table"},
		{"channels by program config element", "1180", "channel configuration 0"},
		{"channel configuration 12", "11e0", "channel configuration 12"},
		{"960 samples", "1194", "960"},
		{"ELD", "f8e85000", "object type 39"},
		{"nothing", "", "ends early"},
		{"a byte", "11", "ends early"},
	} {
		config, err := hex.DecodeString(c.config)
		if err != nil {
			t.Fatal(err)
		}
		h, err := parseAAC(&media.Track{Codec: media.Codec{Type: "mp4a", Config: config}})
		if err != nil {
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		f := h.frame(371)
		if got := hex.EncodeToString(f[:]); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// TestErrors: what is refused, and that dst stays as it was.
func TestErrors(t *testing.T) {
	key := media.SampleInfo{Duration: 3000, Sync: true}
	video := func(change func(*Source)) *Source {
		s := oneVideo(0, key, key)
		change(s)
		return s
	}
	audio := func(change func(*Source)) *Source {
		s := oneAudio(0, 3)
		change(s)
		return s
	}
	config := func(h string) *Source {
		return video(func(s *Source) {
			b, err := hex.DecodeString(h)
			if err != nil {
				t.Fatal(err)
			}
			s.Track.Codec.Config = b
		})
	}
	for _, c := range []struct {
		video, audio *Source
		want         string
		unsupported  bool
	}{
		{nil, nil, "no samples", false},
		{&Source{Track: avcTrack(4)}, nil, "no samples", false},
		{video(func(s *Source) { s.Track.Codec.Type = "hvc1" }), nil, "video codec hvc1 in MPEG-TS is not supported", true},
		{nil, audio(func(s *Source) { s.Track.Codec.Type = "Opus" }), "audio codec Opus in MPEG-TS is not supported", true},
		{video(func(s *Source) { s.Track.Timescale = 0 }), nil, "timescale", false},
		{config(""), nil, "is none", false},
		{config("00640c1fffe100016701000168"), nil, "is none", false},
		{config("01640c1ffee100016701000168"), nil, "size of 3", false},
		{config("01640c1fffe100"), nil, "ends before", false},
		{config("01640c1fffe1000267"), nil, "ends inside", false},
		{config("01640c1fffe1000167"), nil, "before its PPS", false},
		{config("01640c1fffe10001670100"), nil, "ends before", false},
		{video(func(s *Source) { s.Chunks[0].Data[0] = 1 }), nil, "NAL unit of", false},
		{video(func(s *Source) { s.Chunks[0].Data[3]-- }), nil, "1 bytes after its last NAL unit", false},
		{video(func(s *Source) { s.Chunks[0].Data[107]++ }), nil, "101 bytes where 100 are left", false},
		{video(func(s *Source) { s.Chunks[0].Data = s.Chunks[0].Data[1:] }), nil, "their table says", false},
		{video(func(s *Source) { s.Chunks = append(s.Chunks, Chunk{Data: []byte{1}}) }), nil, "go back in time", false},
		{video(func(s *Source) { s.Chunks = append(s.Chunks, Chunk{Time: 6000, Data: []byte{1}}) }), nil, "their table says", false},
		{video(func(s *Source) { s.Chunks = append(s.Chunks, oneVideo(5999, key).Chunks...) }), nil, "go back in time", false},
		{video(func(s *Source) { s.Chunks[0].Time = -1 << 62 }), nil, "go back in time", false},
		{video(func(s *Source) { s.Chunks[0].Time = 1 << 62 }), nil, "go back in time", false},
		{video(func(s *Source) { s.Chunks[0].Samples[0].Duration = 1 << 31 }), nil, "lasts longer", false},
		{oneVideo(0, key), oneAudio(48000*400, 1), "lasts longer", false},
		{video(func(s *Source) { s.Chunks[0].Samples[0].CTO = -901000 }), nil, "before they are decoded", false},
		{video(func(s *Source) { s.Delay = 1 << 62 }), nil, "before they are decoded", false},
		{nil, audio(func(s *Source) {
			s.Chunks[0].Samples = []media.SampleInfo{{Duration: 1024, Size: 8185}}
			s.Chunks[0].Data = make([]byte, 8185)
		}), "8185 bytes long", false},
	} {
		dst := append(make([]byte, 0, 1<<20), "dst"...)
		b, err := AppendSegment(dst, 0, c.video, c.audio)
		if err == nil || !strings.Contains(err.Error(), c.want) || string(b) != "dst" {
			t.Errorf("%v and %d bytes, want %q", err, len(b), c.want)
			continue
		}
		var format *media.FormatError
		var unsupported *media.UnsupportedError
		if c.unsupported && !errors.As(err, &unsupported) || !c.unsupported && !errors.As(err, &format) {
			t.Errorf("%q is a %T", err, err)
		}
	}
}
