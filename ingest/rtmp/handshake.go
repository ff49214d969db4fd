package rtmp

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"io"

	"headwater/segmenter/media"
)

// Sizes of the handshake (RTMP 1.0, section 5.2).
const (
	version       = 3
	handshakeSize = 1536 // of C1, S1, C2 and S2
	digestSize    = sha256.Size
)

// The public keys of the digest handshake: each is a text, used alone by whoever signs its first packet, with a tail that
// both share, used whole for the second.
var (
	serverKey = append([]byte("Genuine Adobe Flash Media Server 001"), keyTail...)
	playerKey = append([]byte("Genuine Adobe Flash Player 001"), keyTail...)
	keyTail   = []byte{
		0xf0, 0xee, 0xc2, 0x4a, 0x80, 0x68, 0xbe, 0xe8, 0x2e, 0x00, 0xd0, 0xd1, 0x02, 0x9e, 0x7e, 0x57,
		0x6e, 0xec, 0x5d, 0x2d, 0x29, 0x80, 0x6f, 0xab, 0x93, 0xb8, 0xe6, 0x36, 0xcf, 0xeb, 0x31, 0xae,
	}
)

const (
	serverKeyText = 36
	playerKeyText = 30
)

// The four bytes from which the digest's place is computed stand at one of these offsets, in the first or the second
// half of the packet.
var digestBases = [...]int{8, 772}

// digestAt returns where the digest of packet p stands when base is the layout.
func digestAt(p []byte, base int) int {
	sum := int(p[base]) + int(p[base+1]) + int(p[base+2]) + int(p[base+3])
	return base + 4 + sum%728
}

// digest returns the HMAC of p without the digestSize bytes at offset at.
func digest(p []byte, at int, key []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(p[:at])
	h.Write(p[at+digestSize:])
	return h.Sum(nil)
}

// findDigest returns the digest in a C1 and its layout; ok is false when it holds none that is right.
func findDigest(c1 []byte) (sum []byte, base int, ok bool) {
	if bytes.Equal(c1[4:8], []byte{0, 0, 0, 0}) {
		return nil, 0, false
	}
	for _, base := range digestBases {
		at := digestAt(c1, base)
		if sum := digest(c1, at, playerKey[:playerKeyText]); hmac.Equal(sum, c1[at:at+digestSize]) {
			return sum, base, true
		}
	}
	return nil, 0, false
}

// handshake is the server's side: it answers a client that signs its C1 in the same layout, and any other in the simple
// way. C2 is received and not verified, since clients that are otherwise sound fill it with anything. random gives the
// bytes of S1 and S2.
func handshake(r *reader, w io.Writer, random io.Reader) error {
	c0, err := r.peek(1)
	if err != nil {
		return err
	}
	if err := checkVersion(c0[0], w); err != nil {
		return r.fail(err)
	}
	c1, err := r.peek(1 + handshakeSize)
	if err != nil {
		return err
	}
	c1 = c1[1:]

	var reply [1 + 2*handshakeSize]byte
	reply[0] = version
	s1, s2 := reply[1:1+handshakeSize], reply[1+handshakeSize:]
	if _, err := io.ReadFull(random, s1[8:]); err != nil {
		return r.fail(err)
	}
	if sum, base, ok := findDigest(c1); ok {
		copy(s1[4:8], []byte{3, 5, 1, 1}) // a server version of those that speak this handshake
		at := digestAt(s1, base)
		copy(s1[at:], digest(s1, at, serverKey[:serverKeyText]))
		if _, err := io.ReadFull(random, s2[:handshakeSize-digestSize]); err != nil {
			return r.fail(err)
		}
		h := hmac.New(sha256.New, serverKey)
		h.Write(sum)
		key := h.Sum(nil)
		at = handshakeSize - digestSize
		copy(s2[at:], digest(s2, at, key))
	} else {
		copy(s2, c1) // 5.2.4: an echo; its second time field may be 0, as ours is, nobody measures with it
	}
	if _, err := r.take(1 + handshakeSize); err != nil {
		return err
	}
	if _, err := w.Write(reply[:]); err != nil {
		return r.fail(err)
	}
	_, err = r.take(handshakeSize)
	return err
}

// checkVersion refuses a first byte that is not the version of RTMP, and says what the peer is likely to speak instead.
func checkVersion(c0 byte, w io.Writer) error {
	switch {
	case c0 == version:
		return nil
	case c0 == 6 || c0 == 8:
		return &media.UnsupportedError{What: "RTMPE (encrypted RTMP)", Hint: "publish to an rtmp:// address"}
	case c0 == 0x16: // RFC 8446, 5.1: a TLS record of type handshake
		return &media.UnsupportedError{What: "TLS on the plain RTMP port", Hint: "publish to an rtmp:// address, not rtmps://"}
	case c0 >= 'A' && c0 <= 'Z': // RFC 9110, 9.1: an HTTP method
		io.WriteString(w, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\nCache-Control: no-store\r\n\r\n"+
			"This port speaks RTMP, not HTTP.\n")
		return &media.UnsupportedError{What: "HTTP on the RTMP port", Hint: "use the HTTP address for playlists and pages"}
	}
	return media.Formatf("rtmp handshake", "version %d", c0)
}
