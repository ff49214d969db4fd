package playlist

import (
	"bytes"
	"io"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// An Encoding is a content coding (RFC 9110 8.4.1).
type Encoding uint8

// The encodings.
const (
	Identity  Encoding = iota
	Gzip               // RFC 1952
	Brotli             // RFC 7932
	Zstd               // RFC 8878
	Encodings          // how many there are
)

// String is the coding's name in Content-Encoding; "" for Identity, which has none.
func (e Encoding) String() string {
	if e >= Encodings {
		return ""
	}
	return [Encodings]string{Gzip: "gzip", Brotli: "br", Zstd: "zstd"}[e]
}

// How hard the compressors try. A playlist is compressed as often as it changes, which is several times a second, so none may
// take much longer than writing the playlist does.
const (
	// gzipLevel: the highest saves two per cent more of a playlist of eight segments, and fourteen of one of a thousand, for
	// which it takes more than ten times as long.
	gzipLevel = 6
	// brotliQuality: 4 makes nearly a tenth more of eight segments in the same time; 6 saves nothing more.
	brotliQuality = 5
	// zstdLevel: the next one saves one per cent more, and takes twice as long for a thousand segments.
	zstdLevel = zstd.SpeedDefault
	// windowBits is how far back, as a power of two, a compressor remembers: what is said of a segment repeats what is said of
	// the one before. Brotli keeps a buffer of twice the size for each compressor; for zstd 8 MiB are the most that a client
	// must take (RFC 9659).
	windowBits = 18
)

// A compressor is used by one at a time. Its output depends on its input alone, not on what it has compressed before: other
// origins say the same.
type compressor interface {
	// compress appends b compressed to dst.
	compress(dst, b []byte) []byte
}

// compressors are kept while they are used: each takes a megabyte or so. The modules, and so the bytes, are those of go.mod,
// whatever the version of Go.
var compressors = [Encodings]*sync.Pool{
	Gzip: {New: func() any {
		z, err := gzip.NewWriterLevel(nil, gzipLevel)
		mustBeConstant(err)
		return &streamed{z: z}
	}},
	Brotli: {New: func() any {
		return &streamed{z: brotli.NewWriterOptions(nil, brotli.WriterOptions{Quality: brotliQuality, LGWin: windowBits})}
	}},
	Zstd: {New: func() any {
		// Without a checksum: what carries the bytes has its own.
		z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstdLevel), zstd.WithWindowSize(1<<windowBits), zstd.WithEncoderConcurrency(1),
			zstd.WithEncoderCRC(false))
		mustBeConstant(err)
		return oneShot{z}
	}},
}

// mustBeConstant panics for an error that only a bad constant brings about.
func mustBeConstant(err error) {
	if err != nil {
		panic(err)
	}
}

// streamed is a compressor that writes.
type streamed struct {
	z interface {
		io.WriteCloser
		Reset(io.Writer)
	}
	out bytes.Buffer
}

func (s *streamed) compress(dst, b []byte) []byte {
	s.out = *bytes.NewBuffer(dst)
	s.z.Reset(&s.out)
	// Writing to a bytes.Buffer does not fail.
	_, _ = s.z.Write(b)
	_ = s.z.Close()
	dst = s.out.Bytes()
	s.out = bytes.Buffer{} // dst is not ours
	return dst
}

type oneShot struct{ z *zstd.Encoder }

func (o oneShot) compress(dst, b []byte) []byte { return o.z.EncodeAll(b, dst) }

// compress returns b in that coding, which is not Identity: with no name and no time in it, the same bytes for the same b.
func compress(b []byte, enc Encoding) []byte {
	c := compressors[enc].Get().(compressor)
	out := c.compress(make([]byte, 0, len(b)/4+64), b)
	compressors[enc].Put(c)
	return out
}
