package conns

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// What telling a client that there are too many may cost.
const (
	maxRefusals   = 64          // being told at one time
	refusalTime   = time.Second // for one of them, from its connection to its end
	refusalBuffer = 1 << 10
	maxRead       = 64 << 10 // of one, request and what follows it
)

// What is told: CORS lets scripts see the status, and nobody may keep it.
const (
	refusalText   = "too many connections\n"
	retryAfter    = "1" // seconds
	cacheNever    = "private, no-store"
	anyOrigin     = "*"
	serverCrowded = http.StatusServiceUnavailable
)

// tell answers a connection's first request with 503 and closes it. The request is read first, because a reply without one
// is none, and what comes after is read away for a moment, because closing with bytes unread would reset the connection and
// the client lose the reply (RFC 9112 9.6).
func tell(c *net.TCPConn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(refusalTime))
	r := bufio.NewReaderSize(io.LimitReader(c, maxRead), refusalBuffer)
	reply := refusal(r)
	if reply == nil {
		_ = c.SetLinger(0)
		return
	}
	if _, err := c.Write(reply); err != nil || c.CloseWrite() != nil {
		return
	}
	_, _ = io.Copy(io.Discard, r)
}

// http2Preface is how HTTP/2 begins where it is known beforehand (RFC 9113 3.4).
const http2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// refusal reads a request's header and returns the answer, in the request's protocol; nil when there is no request.
func refusal(r *bufio.Reader) []byte {
	method, err := r.Peek(4)
	if err != nil {
		return nil
	}
	if string(method) == http2Preface[:4] {
		return refusal2(r)
	}
	head := string(method) == "HEAD"
	for begun, midline := false, false; ; {
		line, err := r.ReadSlice('\n')
		if err == bufio.ErrBufferFull {
			midline = true
			continue
		}
		if err != nil {
			return nil
		}
		blank := !midline && len(bytes.TrimRight(line, "\r\n")) == 0
		midline = false
		if blank && begun { // an empty line may come before a request (RFC 9112 2.2)
			break
		}
		begun = begun || !blank
	}
	b := append(make([]byte, 0, 512), "HTTP/1.1 "...)
	b = append(b, strconv.Itoa(serverCrowded)+" "+http.StatusText(serverCrowded)...)
	b = append(b, "\r\nDate: "...)
	b = time.Now().UTC().AppendFormat(b, http.TimeFormat)
	b = append(b, "\r\nConnection: close\r\nRetry-After: "+retryAfter+"\r\nCache-Control: "+cacheNever+
		"\r\nAccess-Control-Allow-Origin: "+anyOrigin+"\r\nTiming-Allow-Origin: "+anyOrigin+
		"\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\nContent-Length: "...)
	b = append(b, strconv.Itoa(len(refusalText))+"\r\n\r\n"...)
	if !head {
		b = append(b, refusalText...)
	}
	return b
}

// Frames of HTTP/2 (RFC 9113 6), and fields of HPACK's static table (RFC 7541 A).
const (
	frameHeader   = 9
	frameHeaders  = 1
	frameSettings = 4
	frameGoAway   = 7

	flagAck        = 1
	flagEndStream  = 1
	flagEndHeaders = 4

	fieldStatus       = 8
	fieldAllowOrigin  = 20
	fieldCacheControl = 24
	fieldRetryAfter   = 53
)

// refusal2 waits for the first request and answers it; GOAWAY says that nothing after it has been looked at.
func refusal2(r *bufio.Reader) []byte {
	if _, err := r.Discard(len(http2Preface)); err != nil {
		return nil
	}
	for {
		h, err := r.Peek(frameHeader)
		if err != nil {
			return nil
		}
		size := int(h[0])<<16 | int(h[1])<<8 | int(h[2])
		kind, stream := h[3], binary.BigEndian.Uint32(h[5:])&(1<<31-1)
		if _, err := r.Discard(frameHeader + size); err != nil {
			return nil
		}
		if kind != frameHeaders {
			continue
		}
		b := frame(nil, frameSettings, 0, 0, nil)
		b = frame(b, frameSettings, flagAck, 0, nil)
		var block []byte
		block = field(block, fieldStatus, strconv.Itoa(serverCrowded))
		block = field(block, fieldRetryAfter, retryAfter)
		block = field(block, fieldCacheControl, cacheNever)
		block = field(block, fieldAllowOrigin, anyOrigin)
		b = frame(b, frameHeaders, flagEndStream|flagEndHeaders, stream, block)
		return frame(b, frameGoAway, 0, 0, binary.BigEndian.AppendUint64(nil, uint64(stream)<<32)) // no error
	}
}

func frame(b []byte, kind, flags byte, stream uint32, payload []byte) []byte {
	n := len(payload)
	b = append(b, byte(n>>16), byte(n>>8), byte(n), kind, flags)
	b = binary.BigEndian.AppendUint32(b, stream)
	return append(b, payload...)
}

// field appends a field whose name is in the static table, not to be indexed (RFC 7541 6.2.2). Values are short.
func field(b []byte, name byte, value string) []byte {
	const prefix = 15 // of four bits
	if name < prefix {
		b = append(b, name)
	} else {
		b = append(b, prefix, name-prefix)
	}
	b = append(b, byte(len(value)))
	return append(b, value...)
}
