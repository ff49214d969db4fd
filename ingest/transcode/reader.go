package transcode

import (
	"encoding/binary"
	"io"

	"headwater/segmenter/media"
)

// Adobe Flash Video File Format 10.1, E.2 to E.4.
const (
	flvTagHeader = 11
	tagAudio     = 8
	tagVideo     = 9
	tagData      = 18

	maxOffset = 1 << 10 // bytes of file header that are passed over
	maxTag    = 8 << 20 // body of one tag; a rung's key frame is far smaller
	readStep  = 64 << 10
)

const where = "ffmpeg's FLV"

// A tagReader reads an FLV stream tag by tag. Its error is sticky.
type tagReader struct {
	r    io.Reader
	head bool // the file's header has been read
	buf  []byte
	err  error
}

// A tag is one of an FLV stream. Its body is valid, and may be modified, until the next one is read.
type tag struct {
	kind byte
	ts   int64 // ms
	body []byte
}

// next returns the next tag of audio, video or data; io.EOF at a proper end. A stream that ends before its header is
// an empty one.
func (r *tagReader) next() (t tag, err error) {
	if r.err == nil {
		t, r.err = r.read()
	}
	return t, r.err
}

func (r *tagReader) read() (t tag, err error) {
	if !r.head {
		if err := r.header(); err != nil {
			return t, err
		}
		r.head = true
	}
	b, err := r.bytes(flvTagHeader)
	if err != nil {
		return t, err
	}
	t.kind = b[0]
	size := int(b[1])<<16 | int(b[2])<<8 | int(b[3])
	t.ts = int64(b[7])<<24 | int64(b[4])<<16 | int64(b[5])<<8 | int64(b[6])
	switch {
	case t.kind != tagAudio && t.kind != tagVideo && t.kind != tagData: // also one with the filter bit
		return t, media.Formatf(where, "has a tag of type %d", t.kind)
	case size > maxTag:
		return t, media.Formatf(where, "has a tag of %d bytes, more than %d", size, maxTag)
	case t.ts > 1<<31-1:
		return t, media.Formatf(where, "has a negative time")
	}
	b, err = r.bytes(size + 4)
	if err != nil {
		return t, short(err)
	}
	if n := binary.BigEndian.Uint32(b[size:]); n != uint32(flvTagHeader+size) {
		return t, media.Formatf(where, "says that a tag of %d bytes was one of %d", flvTagHeader+size, n)
	}
	t.body = b[:size:size]
	return t, nil
}

func (r *tagReader) header() error {
	b, err := r.bytes(9)
	if err != nil {
		return err
	}
	offset := binary.BigEndian.Uint32(b[5:])
	if string(b[:3]) != "FLV" || b[3] != 1 || offset < 9 || offset > maxOffset {
		return media.Formatf(where, "does not begin as FLV does")
	}
	_, err = r.bytes(int(offset) - 9 + 4)
	return short(err)
}

// bytes reads n bytes into r.buf. It grows with what comes, not with what was announced.
func (r *tagReader) bytes(n int) ([]byte, error) {
	for have := 0; have < n; {
		step := min(n, max(have+readStep, cap(r.buf)))
		if step > cap(r.buf) {
			grown := make([]byte, min(max(2*cap(r.buf), step), maxTag+4))
			copy(grown, r.buf[:have])
			r.buf = grown
		}
		r.buf = r.buf[:cap(r.buf)]
		got, err := io.ReadFull(r.r, r.buf[have:step])
		have += got
		if err != nil {
			if have > 0 {
				err = short(err)
			}
			return nil, err
		}
	}
	return r.buf[:n], nil
}

// short makes an end inside of something an error of format.
func short(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return media.Formatf(where, "ends inside a tag")
	}
	return err
}
