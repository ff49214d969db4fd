package conns

import "bytes"

// What the HTTP server refuses by itself, before a handler could know of it: what is no HTTP or too long, codings and expectations that nobody has.
// It says nothing of caches, which keep some of it by habit (501: RFC 9110 15.1).

// bareHeaders are all that net/http's refusals have after their status line; no handler's reply lacks a date.
const bareHeaders = "\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"

// expectationFailed begins the one refusal that net/http makes like a handler. Ours do not answer with that status.
const expectationFailed = "HTTP/1.1 417 "

const maxStatusLine = 256

// Write sends b. A refusal of the HTTP server's gets its Cache-Control on the way; under TLS, where b is a secret already, it does not.
func (c *conn) Write(b []byte) (int, error) {
	at := bareEnd(b)
	if at < 0 {
		return c.TCPConn.Write(b)
	}
	const more = "\r\nCache-Control: " + cacheNever
	told := make([]byte, 0, len(b)+len(more))
	told = append(append(append(told, b[:at]...), more...), b[at:]...)
	n, err := c.TCPConn.Write(told)
	switch { // which of b has been sent
	case n <= at:
		return n, err
	case n <= at+len(more):
		return at, err
	}
	return n - len(more), err
}

// bareEnd is where the status line of a refusal without Cache-Control ends, -1 if b does not begin with one.
func bareEnd(b []byte) int {
	const version = "HTTP/1.1 "
	if len(b) < len(version) || string(b[:len(version)]) != version {
		return -1
	}
	line := b[:min(len(b), maxStatusLine)]
	at := bytes.IndexByte(line, '\r')
	if at < 0 || !bytes.HasPrefix(b[at:], []byte(bareHeaders)) && !bytes.HasPrefix(b, []byte(expectationFailed)) {
		return -1
	}
	return at
}
