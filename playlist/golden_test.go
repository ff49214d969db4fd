package playlist

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"headwater/playlist/playlisttest"
	"headwater/segmenter"
)

var update = flag.Bool("update", false, "rewrite the golden playlists")

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".m3u8")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); d != "" {
		t.Errorf("%s (-want +got):\n%s", file, d)
	}
}

// inOrder fails the test unless got has each of want after the one before.
func inOrder(t *testing.T, got string, want []string) {
	t.Helper()
	rest := got
	for _, s := range want {
		i := strings.Index(rest, s)
		if i < 0 {
			t.Fatalf("no %q, or not in this place:\n%s", s, got)
		}
		rest = rest[i+len(s):]
	}
}

// larger gives the lane another size, and so another initialization section.
func (l *lane) larger() {
	track := l.in.Track
	track.Width, track.Height = 1920, 1080
	l.in = initOf(track, 7)
}

// mediaCases are Media Playlists in every situation that a rendition gets into.
var mediaCases = []struct {
	name string
	skip Skip
	w    func() *segmenter.Window
	has  []string // in this order
	not  []string
}{
	{
		name: "first", w: func() *segmenter.Window { return lowLatency().segments(1).video.r.Window() },
		has: []string{"#EXT-X-MEDIA-SEQUENCE:1764033360\n#EXT-X-DISCONTINUITY-SEQUENCE:0\n", "s1764033360.m4s\n",
			`#EXT-X-PRELOAD-HINT:TYPE=PART,URI="p180000.m4s"`},
	},
	{
		// The audio's second part came after this Window: its report is that of the moment.
		name: "video", w: func() *segmenter.Window { return lowLatency().segments(10).parts(2).video.r.Window() },
		has: []string{"#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:2\n",
			"#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.002,CAN-SKIP-UNTIL=12\n#EXT-X-PART-INF:PART-TARGET=0.334\n#EXT-X-INDEPENDENT-SEGMENTS\n",
			"#EXT-X-MEDIA-SEQUENCE:1764033362\n",
			"#EXT-X-PROGRAM-DATE-TIME:2025-11-25T01:16:04.123Z\n#EXTINF:2.00000,\ns1764033362.m4s\n",
			`#EXT-X-PART:DURATION=0.33333,INDEPENDENT=YES,URI="p1800000.m4s"`, `#EXT-X-PRELOAD-HINT:TYPE=PART,URI="p1860000.m4s"`,
			`#EXT-X-RENDITION-REPORT:URI="../audio/index.m3u8",LAST-MSN=1764033370,LAST-PART=0`},
		not: []string{"ENDLIST", "PLAYLIST-TYPE", "?"},
	},
	{
		name: "audio", w: func() *segmenter.Window { return lowLatency().segments(10).parts(2).audio.r.Window() },
		has: []string{`INDEPENDENT=YES,URI="p960512.m4s"`, `URI="../video/index.m3u8"`},
	},
	{
		name: "delta", skip: SkipYes, w: func() *segmenter.Window { return lowLatency().segments(10).parts(2).video.r.Window() },
		has: []string{"#EXT-X-VERSION:9\n", "#EXT-X-MEDIA-SEQUENCE:1764033362\n#EXT-X-DISCONTINUITY-SEQUENCE:0\n#EXT-X-SKIP:SKIPPED-SEGMENTS=2\n#EXT-X-MAP:",
			"#EXT-X-PROGRAM-DATE-TIME:", "s1764033364.m4s"},
		not: []string{"s1764033363.m4s", "DATERANGES"},
	},
	{
		name: "delta-v2", skip: SkipV2, w: func() *segmenter.Window { return lowLatency().segments(10).parts(2).video.r.Window() },
		has: []string{"#EXT-X-SKIP:SKIPPED-SEGMENTS=2\n"},
	},
	{
		name: "delta-of-nothing", skip: SkipYes, w: func() *segmenter.Window { return lowLatency().segments(5).video.r.Window() },
		has: []string{"#EXT-X-VERSION:6\n"}, not: []string{"SKIP:"},
	},
	{
		name: "delta-ended", skip: SkipYes, w: func() *segmenter.Window { return lowLatency().segments(10).end().video.r.Window() },
		has: []string{"#EXT-X-VERSION:6\n", "#EXT-X-ENDLIST\n"}, not: []string{"SKIP:"},
	},
	{
		name: "ended", w: func() *segmenter.Window { return lowLatency().segments(3).parts(2).end().video.r.Window() },
		has: []string{"#EXTINF:0.66667,\ns1764033363.m4s\n", "#EXT-X-ENDLIST\n"}, not: []string{"HINT"},
	},
	{
		name: "discontinuity", w: func() *segmenter.Window {
			b := lowLatency().segments(3).parts(2)
			b.video.larger()
			b.cut(true).segments(2)
			return b.cutWith(func() { b.video.in = initOf(videoTrack(), 1) }).parts(1).video.r.Window()
		},
		has: []string{"#EXT-X-DISCONTINUITY-SEQUENCE:0\n", `#EXT-X-MAP:URI="i000000000000000000000001.mp4"`,
			"#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"i000000000000000000000007.mp4\"\n#EXT-X-PROGRAM-DATE-TIME:",
			"#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"i000000000000000000000001.mp4\"\n#EXT-X-PROGRAM-DATE-TIME:", "#EXT-X-PART:", "HINT"},
	},
	{
		// The open segment has no part: a hint is all that there is to say of it.
		name: "discontinuity-hinted", w: func() *segmenter.Window {
			b := lowLatency().segments(3).parts(2)
			b.video.larger()
			return b.cut(true).video.r.Window()
		},
		has: []string{"s1764033363.m4s\n#EXT-X-PRELOAD-HINT"}, not: []string{"#EXT-X-DISCONTINUITY\n", "i000000000000000000000007"},
	},
	{
		// The segment with the discontinuity is the first listed, then it has left.
		name: "discontinuity-first", w: func() *segmenter.Window { return lowLatency().segments(2).cut2().segments(8).video.r.Window() },
		has: []string{"#EXT-X-DISCONTINUITY-SEQUENCE:0\n#EXT-X-DISCONTINUITY\n#EXT-X-MAP"},
	},
	{
		name: "discontinuity-gone", w: func() *segmenter.Window { return lowLatency().segments(2).cut2().segments(9).video.r.Window() },
		has: []string{"#EXT-X-DISCONTINUITY-SEQUENCE:1\n"}, not: []string{"#EXT-X-DISCONTINUITY\n"},
	},
	{
		// The EXT-X-MAP in force began in a segment that is skipped.
		name: "delta-discontinuity", skip: SkipYes, w: func() *segmenter.Window {
			b := lowLatency().segments(4)
			b.cutWith(func() { b.video.larger() })
			return b.segments(7).parts(1).video.r.Window()
		},
		has: []string{"#EXT-X-DISCONTINUITY-SEQUENCE:0\n#EXT-X-SKIP:SKIPPED-SEGMENTS=2\n#EXT-X-MAP:URI=\"i000000000000000000000007.mp4\"\n#EXT-X-PROGRAM"},
		not: []string{"#EXT-X-DISCONTINUITY\n"},
	},
	{
		name: "gap", w: func() *segmenter.Window {
			b := lowLatency().segments(2).parts(3).cut(false)
			b.video.gap(60, false)
			b.audio.gap(94, false)
			return b.parts(1).video.r.Window()
		},
		has: []string{"#EXT-X-INDEPENDENT-SEGMENTS\n", "#EXT-X-GAP\n#EXTINF:2.00000,\ns1764033363.m4s\n", "#EXT-X-PART:"},
	},
	{
		name: "dependent", w: func() *segmenter.Window {
			b := lowLatency().segments(2)
			b.video.key = false
			return b.segments(1).video.r.Window()
		},
		has: []string{`#EXT-X-PART:DURATION=0.33333,URI="p360000.m4s"`}, not: []string{"INDEPENDENT-SEGMENTS"},
	},
	{
		name: "dependent-open", w: func() *segmenter.Window {
			b := lowLatency().segments(2)
			b.video.key = false
			return b.parts(1).video.r.Window()
		},
		not: []string{"INDEPENDENT-SEGMENTS"},
	},
	{
		name: "paused", w: func() *segmenter.Window {
			b := lowLatency().segments(2).parts(2)
			b.video.r.Cut(b.video.now(), nil)
			return b.video.r.Window()
		},
		not: []string{"HINT", "ENDLIST"},
	},
	{
		name: "ordinary", w: func() *segmenter.Window { return newBroadcast(segmenter.Config{}).segments2(10).video.r.Window() },
		has: []string{"#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12\n#EXT-X-INDEPENDENT-SEGMENTS\n", "LAST-MSN=1764033368\n"},
		not: []string{"PART"},
	},
	{
		name: "ordinary-delta", skip: SkipYes, w: func() *segmenter.Window { return newBroadcast(segmenter.Config{}).segments2(10).video.r.Window() },
		has: []string{"#EXT-X-VERSION:9\n", "#EXT-X-SKIP:SKIPPED-SEGMENTS=2\n"}, not: []string{"PART"},
	},
}

// cut2 marks the open segment a discontinuity after the fact: it completes it and begins another that is one.
func (b *broadcast) cut2() *broadcast { return b.parts(6).cut(true) }

// cutWith completes the open segment and begins a discontinuity after change.
func (b *broadcast) cutWith(change func()) *broadcast {
	b.parts(6)
	change()
	return b.cut(true)
}

// segments2 is segments for a run without parts, each segment of which is one Part that no playlist names.
func (b *broadcast) segments2(n int) *broadcast {
	for range n {
		b.video.part(60)
		b.audio.part(b.audio.frames(b.video.seconds()))
		b.cut(false)
	}
	return b
}

func TestMedia(t *testing.T) {
	for _, c := range mediaCases {
		t.Run(c.name, func(t *testing.T) {
			got := text(c.w(), c.skip)
			playlisttest.Check(t, []byte(got))
			playlisttest.CheckReports(t, []byte(got), 1)
			golden(t, c.name, got)
			inOrder(t, got, c.has)
			for _, s := range c.not {
				if strings.Contains(got, s) {
					t.Errorf("%q:\n%s", s, got)
				}
			}
			// Two origins fed alike give the same bytes, whatever is in the buffer already.
			if again := string(AppendMedia([]byte("x"), c.w(), c.skip)); again != "x"+got {
				t.Errorf("not reproducible: %s", cmp.Diff(got, again))
			}
		})
	}
}

func TestParsersArePresent(t *testing.T) { playlisttest.RequirePeers(t) }
