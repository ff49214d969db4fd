package playlist

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"headwater/playlist/playlisttest"
	"headwater/segmenter"
)

// Whatever audio there is, somebody can get it, and the playlist is in order.
func TestAnyAudioGroups(t *testing.T) {
	for seed := range 500 {
		rnd := rand.New(rand.NewPCG(uint64(seed), 3))
		one := func(of ...string) string { return of[rnd.IntN(len(of))] }
		var ds []described
		for _, rung := range []string{"", "1080p", "360p", "de", "low", "audio", "track1"} {
			suffix := "_" + rung
			if rung == "" {
				suffix = ""
			}
			if rnd.IntN(3) == 0 && rung != "audio" {
				ds = append(ds, video("video"+suffix, 1280, 720, 1_000_000+rnd.IntN(5_000_000), 900_000, 30).rung(rung))
			}
			if rnd.IntN(2) == 0 {
				a := audio("audio"+suffix, one("", "en", "de", "und"), one("", "", "VOD", "\x00", "en"), 2+4*rnd.IntN(2)).rung(rung)
				ds = append(ds, a.rates(20_000+rnd.IntN(200_000), 20_000))
			}
		}
		if len(ds) == 0 {
			continue
		}
		rnd.Shuffle(len(ds), func(i, j int) { ds[i], ds[j] = ds[j], ds[i] })
		p := present(segmenter.Config{}, ds...)
		for i := range p.Renditions {
			p.Renditions[i].Rendition.Lower = p.Renditions[i].Rendition.ID == "audio_audio"
		}
		got := string(AppendMultivariant(nil, p))
		problems := playlisttest.MultivariantProblems([]byte(got))
		for _, d := range ds {
			if uri := fmt.Sprintf("/%s/index.m3u8", d.id); !strings.Contains(got, uri) {
				problems = append(problems, "no "+d.id)
			}
		}
		if slices.Sort(problems); len(problems) > 0 {
			t.Fatalf("%d: %s\n%s", seed, problems, got)
		}
		if ts := AppendTSMultivariant(nil, p); hasTS(p) && len(playlisttest.MultivariantProblems(ts)) > 0 {
			t.Fatalf("%d: %s\n%s", seed, playlisttest.MultivariantProblems(ts), ts)
		}
	}
}
