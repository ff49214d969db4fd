package playlist

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	stdgzip "compress/gzip"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"headwater/segmenter"
)

// decode undoes a coding.
func decode(t testing.TB, b []byte, enc Encoding) []byte {
	t.Helper()
	var r io.Reader = bytes.NewReader(b)
	switch enc {
	case Gzip:
		z, err := stdgzip.NewReader(r) // another decoder than the encoder's
		if err != nil {
			t.Fatal(err)
		}
		r = z
	case Brotli:
		r = brotli.NewReader(r)
	case Zstd:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20)) // RFC 9659
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		r = z
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%s: %v", enc, err)
	}
	return out
}

func TestEncodingNames(t *testing.T) {
	for enc, want := range map[Encoding]string{Identity: "", Gzip: "gzip", Brotli: "br", Zstd: "zstd", Encodings: "", 255: ""} {
		mustEqual(t, fmt.Sprint("encoding ", uint8(enc)), enc.String(), want)
	}
}

// TestCodedBytes: what comes of a text depends on nothing else, so that the entity tags of twin origins are one (RFC 9110 8.8.3):
// neither on the machine nor on the version of Go, whose own packages have no part in it. The hashes change with the modules of
// go.mod, and with the constants above.
func TestCodedBytes(t *testing.T) {
	body, err := os.ReadFile("testdata/video.m3u8")
	if err != nil {
		t.Fatal(err)
	}
	for enc, want := range map[Encoding]string{
		Gzip:   "56a0fb4f07b645a9",
		Brotli: "6b9b473b7728980f",
		Zstd:   "7b850bfe34e3649b",
	} {
		sum := sha256.Sum256(compress(body, enc))
		mustEqual(t, enc.String(), hex.EncodeToString(sum[:8]), want)
	}
}

// TestCompressorsForget: a compressor that has compressed something else, and as much as it likes, makes the same bytes of a
// text as one that is new.
func TestCompressorsForget(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	texts := [][]byte{{}, []byte("#EXTM3U\n"), longWindow(8), longWindow(100), longWindow(1000), make([]byte, 3<<windowBits)}
	for enc := Identity + 1; enc < Encodings; enc++ {
		used := compressors[enc].New().(compressor)
		for range 30 {
			b := texts[rng.IntN(len(texts))]
			if n := len(b); n > 1000 {
				b = b[rng.IntN(n/4) : n-rng.IntN(n/4)]
			}
			got, want := used.compress(nil, b), compressors[enc].New().(compressor).compress(nil, b)
			if !bytes.Equal(got, want) {
				t.Fatalf("%s: %d bytes become %d or %d", enc, len(b), len(got), len(want))
			}
			if !bytes.Equal(decode(t, got, enc), b) {
				t.Fatalf("%s: %d bytes come back changed", enc, len(b))
			}
			// What has been handed out is not written to again.
			kept := bytes.Clone(got)
			used.compress(nil, texts[2])
			if !bytes.Equal(got, kept) {
				t.Fatalf("%s: what was made before changes", enc)
			}
		}
	}
}

// TestCompressAtOnce: many at one time do not disturb each other.
func TestCompressAtOnce(t *testing.T) {
	texts := [][]byte{longWindow(8), longWindow(30)}
	var wg sync.WaitGroup
	for enc := Identity + 1; enc < Encodings; enc++ {
		for i := range 8 {
			wg.Go(func() {
				for range 5 {
					if b := texts[i%2]; !bytes.Equal(decode(t, compress(b, enc), enc), b) {
						t.Errorf("%s comes back changed", enc)
					}
				}
			})
		}
	}
	wg.Wait()
}

// TestCompressAllocations: with room for the result, a compressor in use needs nothing more.
func TestCompressAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector empties the pools that the compressors have of their own")
	}
	body := longWindow(8)
	dst := make([]byte, 0, len(body))
	for enc := Identity + 1; enc < Encodings; enc++ {
		c := compressors[enc].New().(compressor)
		if a := testing.AllocsPerRun(100, func() { c.compress(dst, body) }); a > 0 {
			t.Errorf("%s: %v allocations", enc, a)
		}
	}
}

// TestSmaller: every coding makes less of every playlist than half of it.
func TestSmaller(t *testing.T) {
	for _, n := range []int{8, 1000} {
		body := longWindow(n)
		for enc := Identity + 1; enc < Encodings; enc++ {
			if m := len(compress(body, enc)); m > len(body)/2 {
				t.Errorf("%d segments, %s: %d of %d bytes", n, enc, m, len(body))
			}
		}
	}
}

// longWindow is the playlist of a low-latency rendition that lists n segments.
func longWindow(n int) []byte {
	cfg := segmenter.Config{PartTarget: segmenter.DefaultPartTarget, WindowSegments: n}
	return AppendMedia(nil, newBroadcast(cfg).segments(n+2).parts(3).video.r.Window(), NoSkip)
}

// BenchmarkCompress: also what is left, in per cent.
func BenchmarkCompress(b *testing.B) {
	for _, n := range []int{8, 1000} {
		body := longWindow(n)
		for enc := Identity + 1; enc < Encodings; enc++ {
			b.Run(fmt.Sprintf("%d/%s", n, enc), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(body)))
				m := 0
				for b.Loop() {
					m = len(compress(body, enc))
				}
				b.ReportMetric(float64(m), "bytes")
				b.ReportMetric(100*float64(m)/float64(len(body)), "%")
			})
		}
	}
}

func FuzzCompress(f *testing.F) {
	f.Add([]byte("#EXTM3U\n"))
	f.Add(longWindow(8))
	f.Fuzz(func(t *testing.T, b []byte) {
		for enc := Identity + 1; enc < Encodings; enc++ {
			if !bytes.Equal(decode(t, compress(b, enc), enc), b) {
				t.Fatalf("%s comes back changed", enc)
			}
		}
	})
}
