package playlist

import (
	"strconv"
	"strings"
	"testing"

	"headwater/playlist/playlisttest"
	"headwater/segmenter"
)

// EXT-X-PLAYLIST-TYPE:EVENT is in all Media Playlists of a run or in none (RFC 8216bis 4.4.3.5, 6.2.4).
func TestEvent(t *testing.T) {
	for _, event := range []bool{false, true} {
		b := newBroadcast(segmenter.Config{PartTarget: segmenter.DefaultPartTarget, Event: event}).segments(12).parts(2)
		w := b.video.r.Window()
		open := Range{First: w.Segments[2].MSN, Last: w.LastMSN(), FromStart: true}
		for name, text := range map[string]string{
			"full": text(w, NoSkip), "delta": text(w, SkipYes), "I-frames": string(AppendIFramesOnly(nil, w)), "TS": string(AppendTS(nil, TSProgram{Main: w})),
			"range": string(MediaRange(w, open, NoSkip, Identity).Body), "TS of a range": string(TSRange(TSProgram{Main: w}, open, Identity).Body), "I-frames of a range": string(IFramesRange(w, open, Identity).Body),
		} {
			if n := strings.Count(text, "\n#EXT-X-PLAYLIST-TYPE:EVENT\n"); n == 1 != event || n > 1 {
				t.Errorf("%s, event %v: %d\n%s", name, event, n, text)
			}
		}
	}
}

// A range lists what is in it, under names that lead up to the rendition's folder, with the counters of its first segment
// (RFC 8216bis 4.4.3.2, 4.4.3.3). What grows never says that it is video on demand (6.2.1).
func TestRange(t *testing.T) {
	b := lowLatency().segments(3).cut(true).segments(2)
	b.video.in = initOf(videoTrack(), 7)
	b.segments(1).cut(true).segments(5)
	w := b.video.r.Window()
	segs := w.Retained()
	for from := range segs {
		for to := from; to < len(segs); to++ {
			for _, form := range []string{"fixed", "growing", "ended"} {
				r := Range{First: segs[from].MSN, Last: segs[to].MSN, Fixed: form == "fixed", Ended: form == "ended", FromStart: form != "fixed"}
				got := MediaRange(w, r, SkipYes, Identity)
				if !r.Fixed && segs[to].MSN < w.Segments[0].MSN {
					if got != nil {
						t.Fatalf("%d to %d, %s, is listed no longer:\n%s", from, to, form, got.Body)
					}
					continue
				}
				body, first := string(got.Body), from
				if !r.Fixed {
					first = max(from, len(segs)-len(w.Segments))
				}
				if skipped := strings.Contains(body, "EXT-X-SKIP"); skipped && form != "growing" {
					t.Fatalf("%d to %d, %s:\n%s", from, to, form, body)
				} else if skipped {
					body = string(MediaRange(w, r, NoSkip, Identity).Body)
				}
				disc := segs[first].DiscSeq
				if segs[first].Discontinuity {
					disc--
				}
				want := "\n#EXT-X-MEDIA-SEQUENCE:" + strconv.FormatUint(segs[first].MSN, 10) + "\n#EXT-X-DISCONTINUITY-SEQUENCE:" + strconv.FormatUint(disc, 10) + "\n"
				if !strings.Contains(body, want) || strings.Count(body, "\n#EXTINF:") != to-first+1 ||
					strings.Contains(body, "#EXT-X-ENDLIST\n") != (form != "growing") || strings.Contains(body, "\n#EXT-X-PLAYLIST-TYPE:VOD\n") != r.Fixed ||
					strings.Contains(body, "\n#EXT-X-START:TIME-OFFSET=0\n") == r.Fixed || strings.Contains(body, "CAN-SKIP-UNTIL") == r.Fixed || strings.Contains(body, "EXT-X-PART") {
					t.Fatalf("%d to %d, %s:\n%s", from, to, form, body)
				}
				maps := 1
				for i := first + 1; i <= to; i++ {
					if segs[i].Init != segs[i-1].Init {
						maps++
					}
				}
				if strings.Count(body, "\n#EXT-X-MAP:URI=\"../../video/i") != maps || strings.Count(body, "\n../../video/s") != to-first+1 {
					t.Fatalf("%d to %d: other names\n%s", from, to, body)
				}
			}
		}
	}
	if p := MediaRange(w, Range{First: segs[0].MSN - 5, Last: segs[0].MSN - 1, Fixed: true}, NoSkip, Gzip); p != nil {
		t.Errorf("of nothing: %s", p.Body)
	}
	some := Range{First: segs[0].MSN, Last: segs[3].MSN, Fixed: true}
	gz := MediaRange(w, some, NoSkip, Gzip)
	if plain := MediaRange(w, some, NoSkip, Identity); string(decode(t, gz.Body, Gzip)) != string(plain.Body) || gz.ETag == plain.ETag || gz.Encoding != Gzip {
		t.Error("compressed it is something else")
	}
	mv := string(MultivariantRange(b.run.Presentation(), some, Identity).Body)
	if !strings.Contains(mv, "\nvideo/index.m3u8\n") || !strings.Contains(mv, `URI="audio/index.m3u8"`) || !strings.Contains(mv, `URI="video/iframes.m3u8"`) || strings.Contains(mv, b.run.ID) {
		t.Errorf("multivariant:\n%s", mv)
	}
}

// A delta update of a range that grows leaves out what is older than the Skip Boundary (RFC 8216bis 4.4.3.8, 6.2.5.1), and with what
// it leaves out it is the whole.
func TestRangeDelta(t *testing.T) {
	b := newBroadcast(segmenter.Config{PartTarget: segmenter.DefaultPartTarget, WindowSegments: 40}).segments(30)
	w := b.video.r.Window()
	r := Range{First: w.Segments[3].MSN, Last: w.LastMSN(), FromStart: true}
	full, delta := MediaRange(w, r, NoSkip, Identity).Body, MediaRange(w, r, SkipYes, Identity).Body
	if 2*len(delta) > len(full) {
		t.Errorf("%d bytes of %d", len(delta), len(full))
	}
	playlisttest.Check(t, full)
	playlisttest.Check(t, delta)
	merged, err := playlisttest.Merge(playlisttest.Parse(full), playlisttest.Parse(delta))
	if err != nil || len(merged.Segments) != len(playlisttest.Parse(full).Segments) {
		t.Errorf("%v\n%s", err, delta)
	}
	r.Ended = true
	if whole := MediaRange(w, r, SkipYes, Identity).Body; strings.Contains(string(whole), "EXT-X-SKIP") {
		t.Errorf("one that has ended skips:\n%s", whole)
	}
}

// The Multivariant Playlist of a range has only renditions that have something in it.
func TestRangePresents(t *testing.T) {
	b := lowLatency().segments(8)
	p := b.run.Presentation()
	all := b.video.r.Window().Segments
	if got := (Range{First: all[0].MSN, Last: all[7].MSN, Fixed: true}).presents(p); got != p {
		t.Error("something is missing of what has all")
	}
	if got := (Range{First: all[7].MSN + 10, Last: all[7].MSN + 20, Fixed: true}).presents(p); got != nil {
		t.Errorf("%d renditions of what is not there", len(got.Renditions))
	}
}
