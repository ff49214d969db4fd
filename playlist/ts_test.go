package playlist

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"headwater/playlist/playlisttest"
	"headwater/segmenter"
	"headwater/segmenter/media"
)

// muxableVideo and muxableAudio are described to the full: what MPEG-TS cannot carry is seen in the configuration records.
func muxableVideo() media.Track {
	t := videoTrack()
	t.Codec.Config = []byte{1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, 10, 0x67, 0x64, 0, 0x1f, 0xac, 0xd9, 0x40, 0x50, 5, 0xbb,
		1, 0, 6, 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0}
	return t
}

func muxableAudio() media.Track {
	t := audioTrack()
	t.Codec.Config = []byte{0x11, 0x90}
	return t
}

// muxable is lowLatency with such tracks.
func muxable() *broadcast {
	run := segmenter.NewRun("m1abc", nil, segmenter.Config{PartTarget: segmenter.DefaultPartTarget}, firstMSN, epoch)
	return &broadcast{run, newLane(run, "video", muxableVideo(), 30, 1), newLane(run, "audio", muxableAudio(), 48000, 1024)}
}

// videoOnly feeds n segments of video to a run without audio.
func videoOnly(n int) *broadcast {
	run := segmenter.NewRun("m1abc", nil, segmenter.Config{PartTarget: segmenter.DefaultPartTarget}, firstMSN, epoch)
	b := &broadcast{run: run, video: newLane(run, "video", muxableVideo(), 30, 1)}
	for range n {
		b.videoSegment()
	}
	return b
}

func (b *broadcast) videoSegment() *broadcast {
	b.video.fill(60, nil)
	b.video.cut(false)
	return b
}

// join adds audio to a run of video alone. It begins with the segment that is open.
func (b *broadcast) join(discontinuity bool) *broadcast {
	if discontinuity {
		b.video.fill(60, nil)
		b.video.cut(true)
	}
	l := &lane{r: b.run.AddRendition("audio", media.Audio), in: initOf(muxableAudio(), 2), num: 48000, den: 1024,
		perPart: b.video.perPart, msn: b.video.msn, key: true, size: 100, disc: b.video.disc}
	l.i = l.frames(b.video.seconds())
	l.r.Start(l.start(false))
	b.audio = l
	return b
}

func program(t *testing.T, r *segmenter.Rendition) TSProgram {
	t.Helper()
	p, ok := NewTSProgram(r)
	if !ok {
		t.Fatal("cannot be carried")
	}
	return p
}

var tsCases = []struct {
	name  string
	b     func() *broadcast
	audio bool     // the playlist is that of the audio rendition
	has   []string // in this order
	not   []string
}{
	{
		name: "ts", b: func() *broadcast { return muxable().segments(10).parts(2) },
		has: []string{"#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MEDIA-SEQUENCE:1764033362\n",
			"#EXT-X-PROGRAM-DATE-TIME:2025-11-25T01:16:04.123Z\n#EXTINF:2.00000,\ns1764033362.ts\n", "s1764033369.ts\n"},
		not: []string{"MAP", "PART", "SERVER-CONTROL", "HINT", "REPORT", ".m4s", "s1764033370", "ENDLIST"},
	},
	{
		name: "ts-audio", audio: true, b: func() *broadcast { return muxable().segments(10).parts(2) },
		has: []string{"s1764033362.ts\n", "s1764033369.ts\n"},
	},
	{
		// The picture is a segment ahead of the sound: that segment is not listed yet.
		name: "ts-pending", b: func() *broadcast { return muxable().segments(3).videoSegment() },
		has: []string{"s1764033362.ts\n"}, not: []string{"s1764033363.ts"},
	},
	{
		name: "ts-discontinuity", b: func() *broadcast {
			b := muxable().segments(3).parts(2)
			b.video.larger()
			return b.cut(true).segments(2)
		},
		has: []string{"#EXT-X-DISCONTINUITY-SEQUENCE:0\n", "s1764033363.ts\n#EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:"}, not: []string{"MAP"},
	},
	{
		name: "ts-gap", b: func() *broadcast {
			b := muxable().segments(2)
			b.video.gap(60, false)
			b.audio.gap(94, false)
			return b.segments(1)
		},
		has: []string{"#EXT-X-GAP\n#EXTINF:2.00000,\ns1764033362.ts\n", "s1764033363.ts\n"},
	},
	{
		// What was HEVC for a while is a gap here.
		name: "ts-other-codec", b: func() *broadcast {
			b := muxable().segments(2).parts(2)
			avc := b.video.in
			hevc := avc.Track
			hevc.Codec = media.Codec{Type: "hvc1", String: "hvc1.1.6.L93.90"}
			b.video.in = initOf(hevc, 3)
			b.cut(true).segments(1).parts(2)
			b.video.in = avc
			return b.cut(true).segments(2)
		},
		has: []string{"s1764033362.ts\n#EXT-X-DISCONTINUITY\n", "#EXT-X-GAP\n#EXTINF:2.00000,\ns1764033363.ts\n", "#EXT-X-GAP\n", "s1764033364.ts\n#EXT-X-DISCONTINUITY\n"},
	},
	{
		name: "ts-dependent", b: func() *broadcast {
			b := muxable().segments(2)
			b.video.key = false
			return b.segments(1)
		},
		not: []string{"INDEPENDENT"},
	},
	{
		name: "ts-ended", b: func() *broadcast { return muxable().segments(3).parts(2).end() },
		has: []string{"s1764033363.ts\n#EXT-X-ENDLIST\n"},
	},
	{
		// The audio has stopped short: no more will come, so the picture is listed to its end.
		name: "ts-audio-ended", b: func() *broadcast { return muxable().segments(3).videoSegment().end() },
		has: []string{"s1764033363.ts\n#EXT-X-ENDLIST\n"},
	},
	{
		// Audio joins without a discontinuity: what has none was never in a playlist beside what has.
		name: "ts-joined", b: func() *broadcast { return videoOnly(3).join(false).segments(2) },
		has: []string{"#EXT-X-MEDIA-SEQUENCE:1764033363\n", "s1764033363.ts\n", "s1764033364.ts\n"}, not: []string{"s1764033362"},
	},
	{
		name: "ts-joined-discontinuity", b: func() *broadcast { return videoOnly(3).join(true).segments(2) },
		has: []string{"#EXT-X-MEDIA-SEQUENCE:1764033360\n#EXT-X-DISCONTINUITY-SEQUENCE:0\n", "s1764033363.ts\n#EXT-X-DISCONTINUITY\n", "s1764033364.ts\n"},
	},
}

func checkText(t *testing.T, name, got string, has, not []string) {
	t.Helper()
	playlisttest.Check(t, []byte(got))
	golden(t, name, got)
	inOrder(t, got, has)
	for _, s := range not {
		if strings.Contains(got, s) {
			t.Errorf("%q:\n%s", s, got)
		}
	}
}

func TestTSPlaylist(t *testing.T) {
	for _, c := range tsCases {
		t.Run(c.name, func(t *testing.T) {
			make := func() TSProgram {
				b := c.b()
				if c.audio {
					return program(t, b.audio.r)
				}
				return program(t, b.video.r)
			}
			p := make()
			got := string(AppendTS(nil, p))
			checkText(t, c.name, got, c.has, c.not)
			if again := string(AppendTS([]byte("x"), make())); again != "x"+got {
				t.Errorf("not reproducible:\n%s", again)
			}
			// Whatever is listed can be had, but for gaps.
			listed, ended := p.Listed()
			if ended != strings.Contains(got, "ENDLIST") || len(listed) != strings.Count(got, "#EXTINF:") {
				t.Errorf("%d are listed, ended %v", len(listed), ended)
			}
			for _, s := range listed {
				gap := s.Gap || s.Init.Track.Codec.Type == "hvc1"
				if src, err := p.Segment(s.MSN); (err != nil) != gap || err == nil && src.Main != s {
					t.Errorf("segment %d: %v", s.MSN, err)
				}
			}
			all := TSRange(p, Range{First: listed[0].MSN, Last: listed[len(listed)-1].MSN, Fixed: true}, Identity)
			if all == nil || strings.Count(string(all.Body), "#EXT-X-GAP\n") != strings.Count(got, "#EXT-X-GAP\n") {
				t.Errorf("as a range: %+v", all)
			}
		})
	}
}

// TestTSSource: what a segment is made of.
func TestTSSource(t *testing.T) {
	withGap := func() *broadcast { // of the audio alone
		b := muxable().segments(2)
		b.audio.gap(94, false)
		return b.videoSegment().segments(1)
	}
	for _, c := range []struct {
		name     string
		b        *broadcast
		msn      uint64
		err      error
		audio    bool // there is some
		declared bool // the program has some
	}{
		{name: "both", b: muxable().segments(3), msn: firstMSN + 1, audio: true, declared: true},
		{name: "audio pending", b: muxable().segments(3).videoSegment(), msn: firstMSN + 3, err: segmenter.ErrNotFound},
		{name: "video pending", b: muxable().segments(3), msn: firstMSN + 3, err: segmenter.ErrNotFound},
		{name: "far ahead", b: muxable().segments(3), msn: firstMSN + 1000, err: segmenter.ErrNotFound},
		{name: "audio gap", b: withGap(), msn: firstMSN + 2, declared: true},
		{name: "after the audio gap", b: withGap(), msn: firstMSN + 3, audio: true, declared: true},
		{name: "audio ended", b: muxable().segments(3).videoSegment().end(), msn: firstMSN + 3, declared: true},
		{name: "before the audio", b: videoOnly(3).join(true).segments(2), msn: firstMSN + 3},
		{name: "the audio's first", b: videoOnly(3).join(true).segments(2), msn: firstMSN + 4, audio: true, declared: true},
		{name: "before the audio has anything", b: videoOnly(3).join(false), msn: firstMSN + 2},
		{name: "no audio", b: videoOnly(3), msn: firstMSN + 2},
		{name: "gone", b: muxable().segments(100), msn: firstMSN, err: ErrGone},
		{name: "retained", b: muxable().segments(100), msn: firstMSN + 91, audio: true, declared: true},
		{name: "before the audio, not listed", b: videoOnly(3).join(true).segments(8), msn: firstMSN + 3},
		{name: "video gap", msn: firstMSN + 2, err: ErrGone, b: func() *broadcast {
			b := muxable().segments(2)
			b.video.gap(60, false)
			b.audio.gap(94, false)
			return b.segments(1)
		}()},
	} {
		t.Run(c.name, func(t *testing.T) {
			src, err := program(t, c.b.video.r).Segment(c.msn)
			if !errors.Is(err, c.err) || c.err == nil && err != nil {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if err != nil {
				return
			}
			if src.Main.MSN != c.msn || (src.Audio != nil) != c.audio || (src.AudioInit != nil) != c.declared || c.audio && src.Audio.MSN != c.msn {
				t.Errorf("%+v", src)
			}
		})
	}
}

// TestTSPrograms: what MPEG-TS can carry, and with what.
func TestTSPrograms(t *testing.T) {
	run := segmenter.NewRun("m1abc", nil, segmenter.Config{}, firstMSN, epoch)
	lane := func(id string, track media.Track) *segmenter.Rendition { return newLane(run, id, track, 30, 1).r }
	undescribed, other, surround := muxableVideo(), muxableVideo(), muxableAudio()
	undescribed.Codec.Config = nil
	other.Codec.Type = "hvc1"
	surround.Codec.Config = []byte{0x11, 0x80} // channels by a program config element, which ADTS cannot say
	if _, ok := NewTSProgram(lane("undescribed", undescribed)); ok {
		t.Error("a track without configuration")
	}
	if _, ok := NewTSProgram(lane("other", other)); ok {
		t.Error("hvc1")
	}
	if _, ok := NewTSProgram(lane("surround", surround)); ok {
		t.Error("audio that ADTS cannot describe")
	}
	v := lane("video", muxableVideo())
	if p := program(t, v); p.Audio != nil {
		t.Error("muxed with what cannot be")
	}
	first, second := lane("first", muxableAudio()), lane("second", muxableAudio())
	if p := program(t, v); p.Audio == nil || p.Audio.Rendition != first {
		t.Error("not muxed with the first audio rendition")
	}
	if p := program(t, second); p.Audio != nil || p.Main.Rendition != second {
		t.Error("audio is not alone")
	}
}

// muxed gives d what it takes to be carried in MPEG-TS.
func muxed(t *media.Track) {
	of := muxableVideo()
	if t.Kind == media.Audio {
		of = muxableAudio()
	}
	t.Codec.Config = of.Codec.Config
}

var tsMultivariantCases = []struct {
	name string
	p    func() *segmenter.Presentation
	has  []string
	not  []string
}{
	{
		name: "ts-multivariant", p: func() *segmenter.Presentation {
			return present(segmenter.Config{}, video("video", 1280, 720, 3_000_000, 2_500_000, 30).with(muxed), audio("audio", "", "", 2).with(muxed))
		},
		has: []string{"#EXT-X-VERSION:1\n", `CODECS="avc1.64001f,mp4a.40.2",RESOLUTION=1280x720,CLOSED-CAPTIONS=NONE,FRAME-RATE=30.000,STABLE-VARIANT-ID="video"` + "\n../m1abc/video/ts/index.m3u8\n",
			`CODECS="mp4a.40.2",CLOSED-CAPTIONS=NONE,STABLE-VARIANT-ID="audio"` + "\n../m1abc/audio/ts/index.m3u8\n"},
		not: []string{"EXT-X-MEDIA", "AUDIO=", "I-FRAME"},
	},
	{
		name: "ts-multivariant-ladder", p: func() *segmenter.Presentation {
			return present(segmenter.Config{LongGOP: segmenter.Refuse},
				video("1080p", 1920, 1080, 6_400_000, 5_900_000, 60).with(muxed), video("360p", 640, 360, 800_000, 700_000, 30).with(muxed),
				video("2160p", 3840, 2160, 9_000_000, 8_000_000, 60), // what it is cannot be carried
				audio("surround", "en", "", 6), audio("audio", "en", "", 2).with(muxed), audio("de", "de", "", 2).with(muxed))
		},
		has: []string{"#EXT-X-INDEPENDENT-SEGMENTS\n", "../m1abc/360p/ts/", "../m1abc/audio/ts/", "../m1abc/1080p/ts/"}, not: []string{"2160p", "surround", "/de/"},
	},
	{
		name: "ts-multivariant-video", p: func() *segmenter.Presentation {
			return present(segmenter.Config{}, video("video", 640, 360, 801_000, 700_001, 24000.0/1001).with(muxed))
		},
		has: []string{`CODECS="avc1.64001f"`}, not: []string{"mp4a"},
	},
}

func TestTSMultivariant(t *testing.T) {
	for _, c := range tsMultivariantCases {
		t.Run(c.name, func(t *testing.T) {
			p := c.p()
			got := string(AppendTSMultivariant(nil, p))
			checkText(t, c.name, got, c.has, c.not)
			if r := TSMultivariant(p, Identity); r == nil || string(r.Body) != got || r == Multivariant(p, Identity) {
				t.Error("rendered otherwise")
			}
		})
	}
	if TSMultivariant(lowLatency().segments(2).run.Presentation(), Identity) != nil {
		t.Error("a playlist of nothing")
	}
}

// TestTSRenderedOnce: the same pointer for as long as the same is listed, another when the audio has come.
func TestTSRenderedOnce(t *testing.T) {
	b := muxable().segments(3).videoSegment()
	r := b.video.r
	before := TS(program(t, r), Identity)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if p, _ := NewTSProgram(r); TS(p, Identity) != before {
				t.Error("another pointer")
			}
		})
	}
	wg.Wait()
	b.audio.fill(b.audio.frames(b.video.seconds()), nil)
	b.audio.cut(false)
	after := TS(program(t, r), Identity)
	if after == before || after.ETag == before.ETag {
		t.Error("the same with another segment")
	}
	playlisttest.CheckSuccession(t, before.Body, after.Body)
	once, again := TS(program(t, r), Gzip), TS(program(t, r), Gzip)
	if once != again || once.Encoding != Gzip {
		t.Error("gzip is not rendered once")
	}
}
