package playlist

import (
	"sync"
	"testing"

	"headwater/segmenter"
)

// TestRenderedOnce: everybody gets the same pointer, however many ask at once, for each form.
func TestRenderedOnce(t *testing.T) {
	w := lowLatency().segments(10).parts(2).video.r.Window()
	p := lowLatency().segments(2).run.Presentation()
	for _, c := range []struct {
		name string
		get  func() *Rendered
		want string
		enc  Encoding
	}{
		{"full", func() *Rendered { return Media(w, NoSkip, Identity) }, text(w, NoSkip), Identity},
		{"full gzip", func() *Rendered { return Media(w, NoSkip, Gzip) }, text(w, NoSkip), Gzip},
		{"full br", func() *Rendered { return Media(w, NoSkip, Brotli) }, text(w, NoSkip), Brotli},
		{"full zstd", func() *Rendered { return Media(w, NoSkip, Zstd) }, text(w, NoSkip), Zstd},
		{"delta", func() *Rendered { return Media(w, SkipYes, Identity) }, text(w, SkipYes), Identity},
		{"delta gzip", func() *Rendered { return Media(w, SkipV2, Gzip) }, text(w, SkipYes), Gzip},
		{"delta br", func() *Rendered { return Media(w, SkipV2, Brotli) }, text(w, SkipYes), Brotli},
		{"delta zstd", func() *Rendered { return Media(w, SkipV2, Zstd) }, text(w, SkipYes), Zstd},
		{"multivariant", func() *Rendered { return Multivariant(p, Identity) }, string(AppendMultivariant(nil, p)), Identity},
		{"multivariant gzip", func() *Rendered { return Multivariant(p, Gzip) }, string(AppendMultivariant(nil, p)), Gzip},
		{"multivariant br", func() *Rendered { return Multivariant(p, Brotli) }, string(AppendMultivariant(nil, p)), Brotli},
		{"multivariant zstd", func() *Rendered { return Multivariant(p, Zstd) }, string(AppendMultivariant(nil, p)), Zstd},
		{"I-frames zstd", func() *Rendered { return IFramesOnly(w, Zstd) }, string(AppendIFramesOnly(nil, w)), Zstd},
		{"an encoding that there is not", func() *Rendered { return Media(w, NoSkip, Encodings) }, text(w, NoSkip), Identity},
	} {
		t.Run(c.name, func(t *testing.T) {
			var wg sync.WaitGroup
			got := make([]*Rendered, 16)
			for i := range got {
				wg.Go(func() { got[i] = c.get() })
			}
			wg.Wait()
			r := c.get()
			for _, g := range got {
				if g != r {
					t.Fatal("two pointers")
				}
			}
			mustEqual(t, "encoding", r.Encoding, c.enc)
			mustEqual(t, "body", string(decode(t, r.Body, c.enc)), c.want)
			if a := testing.AllocsPerRun(100, func() { c.get() }); a != 0 {
				t.Errorf("a hit allocates %v times", a)
			}
		})
	}
	if Media(w, SkipYes, Gzip) != Media(w, SkipV2, Gzip) {
		t.Error("v2 and YES are two")
	}
}

// TestRenderedAfterPanic: what could not be written is not taken for an empty playlist by whoever asks next.
func TestRenderedAfterPanic(t *testing.T) {
	for enc := Identity; enc < Encodings; enc++ {
		var f forms
		for i := range 2 {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%q, %d: no panic", enc, i)
					}
				}()
				f.get(enc, func() []byte { panic("broken") })
			}()
		}
	}
}

// TestTags: a strong entity tag differs where the bytes do and nowhere else (RFC 9110 8.8.3), so also between encodings.
func TestTags(t *testing.T) {
	seen := map[string]string{}
	for range 2 { // another origin
		b := lowLatency().segments(9)
		for range 2 {
			w := b.video.r.Window()
			all := []*Rendered{Media(b.audio.r.Window(), NoSkip, Identity)}
			for enc := range Encodings {
				all = append(all, Media(w, NoSkip, enc), Media(w, SkipYes, enc))
			}
			for _, r := range all {
				if len(r.ETag) != 24 {
					t.Errorf("tag %q", r.ETag)
				}
				if was, ok := seen[r.ETag]; ok && was != string(r.Body) {
					t.Errorf("one tag for two bodies")
				}
				seen[r.ETag] = string(r.Body)
			}
			b.parts(1)
		}
	}
	mustEqual(t, "bodies", len(seen), 2*(1+2*int(Encodings)))
}

// TestNothingToSkip: such a delta update is the full playlist itself.
func TestNothingToSkip(t *testing.T) {
	short := lowLatency().segments(3).video.r.Window()
	ended := lowLatency().segments(12).end().video.r.Window()
	for _, w := range []*segmenter.Window{short, ended} {
		if Media(w, SkipYes, Identity) != Media(w, NoSkip, Identity) || Media(w, SkipV2, Gzip) != Media(w, NoSkip, Gzip) {
			t.Error("rendered twice")
		}
	}
}

// TestRenderAllocations: the memo and its text, the tag, and little else.
func TestRenderAllocations(t *testing.T) {
	w := lowLatency().segments(10).parts(2).video.r.Window()
	buf := make([]byte, 0, 1<<16)
	if a := testing.AllocsPerRun(100, func() { buf = AppendMedia(buf[:0], w, NoSkip) }); a != 0 {
		t.Errorf("AppendMedia into a large enough buffer allocates %v times", a)
	}
	if a := testing.AllocsPerRun(100, func() {
		var m mediaMemo
		m.full.get(Identity, func() []byte { return AppendMedia(make([]byte, 0, mediaSize(w, NoSkip)), w, NoSkip) })
	}); a > 5 {
		t.Errorf("a render allocates %v times", a)
	}
}

func benchWindow() *segmenter.Window { return lowLatency().segments(10).parts(3).video.r.Window() }

func BenchmarkFull(b *testing.B) {
	w := benchWindow()
	b.ReportAllocs()
	for b.Loop() {
		var m mediaMemo
		b.SetBytes(int64(len(m.full.get(Identity, func() []byte { return AppendMedia(make([]byte, 0, mediaSize(w, NoSkip)), w, NoSkip) }).Body)))
	}
}

func BenchmarkAppendFull(b *testing.B) {
	w := benchWindow()
	buf := make([]byte, 0, 1<<16)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendMedia(buf[:0], w, NoSkip)
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkDelta(b *testing.B) {
	w := benchWindow()
	b.ReportAllocs()
	for b.Loop() {
		var m mediaMemo
		m.delta.get(Identity, func() []byte { return AppendMedia(make([]byte, 0, mediaSize(w, SkipYes)), w, SkipYes) })
	}
}

func BenchmarkHit(b *testing.B) {
	w := benchWindow()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			Media(w, SkipYes, Gzip)
		}
	})
}

func BenchmarkMultivariant(b *testing.B) {
	p := lowLatency().segments(2).run.Presentation()
	b.ReportAllocs()
	for b.Loop() {
		AppendMultivariant(nil, p)
	}
}

func BenchmarkParseName(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		ParseName("p1764033360.m4s")
	}
}
