package rtmp

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"headwater/segmenter/media"
)

// counting gives 0, 1, 2, ... for random bytes.
type counting struct{ n byte }

func (c *counting) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = c.n
		c.n++
	}
	return len(p), nil
}

// signedC1 is a C1 with its digest in the layout of that base.
func signedC1(base int) []byte {
	c1 := make([]byte, handshakeSize)
	(&counting{7}).Read(c1[8:])
	copy(c1[4:], []byte{0x80, 0, 7, 2})
	at := digestAt(c1, base)
	copy(c1[at:], digest(c1, at, playerKey[:playerKeyText]))
	return c1
}

func hello(c0 byte, c1 []byte) []byte {
	in := append([]byte{c0}, c1...)
	return append(in, make([]byte, handshakeSize)...) // a C2 of zeros
}

func simpleC1() []byte {
	c1 := make([]byte, handshakeSize)
	(&counting{1}).Read(c1[8:])
	copy(c1, "time")
	return c1
}

func runHandshake(src io.Reader) ([]byte, *reader, error) {
	var out bytes.Buffer
	r := &reader{src: src, buf: make([]byte, smallBuffer)}
	err := handshake(r, &out, &counting{})
	return out.Bytes(), r, err
}

func TestSimpleHandshake(t *testing.T) {
	mismatch := signedC1(8)
	mismatch[1000] ^= 1
	for name, c1 := range map[string][]byte{
		"simple": simpleC1(), "digest that does not fit": mismatch, "all zero": make([]byte, handshakeSize),
		"all ones": bytes.Repeat([]byte{255}, handshakeSize),
	} {
		out, r, err := runHandshake(iotest.OneByteReader(bytes.NewReader(append(hello(3, c1), "rest"...))))
		if err != nil || len(out) != 1+2*handshakeSize || out[0] != 3 {
			t.Errorf("%s: %d bytes, %v", name, len(out), err)
			continue
		}
		if !bytes.Equal(out[1+handshakeSize:], c1) {
			t.Errorf("%s: S2 is not C1", name)
		}
		if !bytes.Equal(out[5:9], []byte{0, 0, 0, 0}) {
			t.Errorf("%s: S1 claims a version", name)
		}
		if rest, _ := r.take(4); string(rest) != "rest" {
			t.Errorf("%s: then %q", name, rest)
		}
	}
}

func TestDigestHandshake(t *testing.T) {
	for _, base := range digestBases {
		c1 := signedC1(base)
		out, _, err := runHandshake(bytes.NewReader(hello(3, c1)))
		if err != nil || len(out) != 1+2*handshakeSize {
			t.Fatal(len(out), err)
		}
		s1, s2 := out[1:1+handshakeSize], out[1+handshakeSize:]
		at := digestAt(s1, base)
		if !bytes.Equal(s1[at:at+32], digest(s1, at, serverKey[:serverKeyText])) {
			t.Errorf("layout %d: S1 is not signed", base)
		}
		h := hmac.New(sha256.New, serverKey)
		at = digestAt(c1, base)
		h.Write(c1[at : at+32])
		h2 := hmac.New(sha256.New, h.Sum(nil))
		h2.Write(s2[:handshakeSize-32])
		if !bytes.Equal(s2[handshakeSize-32:], h2.Sum(nil)) {
			t.Errorf("layout %d: S2 is not signed", base)
		}
	}
}

// handshakesRefused are first bytes that do not open an RTMP connection.
var handshakesRefused = []struct {
	name, in, want string
	unsupported    bool
}{
	{"RTMPE", "\x06" + a128, "RTMPE", true},
	{"RTMPE with XTEA", "\x08" + a128, "RTMPE", true},
	{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "TLS on the plain RTMP port is not supported: publish to an rtmp://", true},
	{"HTTP", "GET /live/demo/index.m3u8 HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP on the RTMP port", true},
	{"RTMPT", "POST /fcs/ident2 HTTP/1.1\r\n", "HTTP on the RTMP port", true},
	{"version 9", "\x09" + a128, "version 9", false},
	{"zero", "\x00" + a128, "version 0", false},
}

func TestHandshakeRefused(t *testing.T) {
	for _, c := range handshakesRefused {
		out, _, err := runHandshake(strings.NewReader(c.in))
		var fe *media.FormatError
		var ue *media.UnsupportedError
		if c.unsupported && !errors.As(err, &ue) || !c.unsupported && !errors.As(err, &fe) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if isHTTP := strings.Contains(c.in, "HTTP/1.1"); isHTTP != strings.HasPrefix(string(out), "HTTP/1.1 400 ") {
			t.Errorf("%s: answered %q", c.name, out)
		}
	}
	for _, n := range []int{0, 1, 5, 1536, 1537, 3072} {
		if _, _, err := runHandshake(bytes.NewReader(hello(3, simpleC1())[:n])); err != io.EOF {
			t.Errorf("cut off after %d: %v", n, err)
		}
	}
}

func FuzzHandshake(f *testing.F) {
	for _, base := range digestBases {
		f.Add(hello(3, signedC1(base)))
	}
	f.Add(hello(3, simpleC1()))
	for _, c := range handshakesRefused {
		f.Add([]byte(c.in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		out, _, err := runHandshake(bytes.NewReader(in))
		if err == nil && (len(in) < 1+2*handshakeSize || len(out) != 1+2*handshakeSize) {
			t.Fatalf("%d bytes in, %d out", len(in), len(out))
		}
	})
}
