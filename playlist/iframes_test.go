package playlist

import (
	"fmt"
	"testing"

	"headwater/playlist/playlisttest"
	"headwater/segmenter"
)

var iframeCases = []struct {
	name string
	w    func() *segmenter.Window
	has  []string // in this order
	not  []string
}{
	{
		name: "iframes", w: func() *segmenter.Window { return lowLatency().segments(10).parts(2).video.r.Window() },
		has: []string{"#EXT-X-VERSION:5\n#EXT-X-TARGETDURATION:2\n#EXT-X-I-FRAMES-ONLY\n#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MEDIA-SEQUENCE:1764033362\n",
			`#EXT-X-MAP:URI="i000000000000000000000001.mp4"` + "\n#EXT-X-PROGRAM-DATE-TIME:2025-11-25T01:16:04.123Z\n#EXTINF:2.00000,\n#EXT-X-BYTERANGE:",
			"@0\ns1764033362.m4s\n"},
		not: []string{"PART", "SERVER-CONTROL", "HINT", "REPORT", "s1764033370", "ENDLIST"},
	},
	{
		name: "iframes-gap", w: func() *segmenter.Window {
			b := lowLatency().segments(1)
			b.video.gap(60, false)
			b.audio.gap(94, false)
			b.video.key = false // one that begins with another frame
			return b.segments(1).segments(1).video.r.Window()
		},
		has: []string{"@0\ns1764033360.m4s\n", "#EXT-X-GAP\n#EXTINF:2.00000,\ns1764033361.m4s\n", "#EXT-X-GAP\n#EXTINF:2.00000,\ns1764033362.m4s\n", "@0\ns1764033363.m4s\n"},
	},
	{
		name: "iframes-discontinuity", w: func() *segmenter.Window {
			b := lowLatency().segments(3).parts(2)
			b.video.larger()
			return b.cut(true).segments(2).end().video.r.Window()
		},
		has: []string{"s1764033363.m4s\n#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"i000000000000000000000007.mp4\"\n", "#EXT-X-ENDLIST\n"},
	},
	{
		name: "iframes-ordinary", w: func() *segmenter.Window { return newBroadcast(segmenter.Config{}).segments2(3).video.r.Window() },
		has: []string{"@0\ns1764033360.m4s\n"},
	},
}

func TestIFrames(t *testing.T) {
	for _, c := range iframeCases {
		t.Run(c.name, func(t *testing.T) {
			w := c.w()
			got := string(AppendIFramesOnly(nil, w))
			checkText(t, c.name, got, c.has, c.not)
			if again := string(AppendIFramesOnly([]byte("x"), c.w())); again != "x"+got {
				t.Errorf("not reproducible:\n%s", again)
			}
			if r := IFramesOnly(w, Identity); string(r.Body) != got || r != IFramesOnly(w, Identity) {
				t.Error("not rendered once")
			}
		})
	}
}

// TestIFrameRange: an entry's range is what comes before the samples' data, and the first sample.
func TestIFrameRange(t *testing.T) {
	w := lowLatency().segments(1).video.r.Window()
	p := w.Segments[0].Parts[0]
	m := playlisttest.Parse(AppendIFramesOnly(nil, w))
	if want := fmt.Sprintf("%d@0", p.HeadSize()+int(p.Samples[0].Size)); len(m.Segments) != 1 || m.Segments[0].Range != want {
		t.Errorf("%+v, want %s", m.Segments, want)
	}
}

// TestIFrameSuccession: each version is a lawful successor of the one before.
func TestIFrameSuccession(t *testing.T) {
	b := lowLatency().segments(1)
	older := AppendIFramesOnly(nil, b.video.r.Window())
	for i := range 20 {
		if i == 5 {
			b.cut2()
		}
		b.segments(1)
		newer := AppendIFramesOnly(nil, b.video.r.Window())
		playlisttest.CheckSuccession(t, older, newer)
		older = newer
	}
	playlisttest.CheckSuccession(t, older, AppendIFramesOnly(nil, b.end().video.r.Window()))
}
