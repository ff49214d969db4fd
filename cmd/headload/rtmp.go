package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// setupTimeout bounds everything from dialling to the server's consent to publish.
const setupTimeout = 15 * time.Second

// A target is where to publish: rtmp://host[:port]/app/name[?query].
type target struct {
	addr  string // host:port
	app   string
	name  string // with its query, which is where a publish key goes
	tcURL string
}

func parseTarget(s string) (target, error) {
	u, err := url.Parse(s)
	if err != nil {
		return target{}, err
	}
	path := strings.Trim(u.Path, "/")
	i := strings.LastIndexByte(path, '/')
	if u.Scheme != "rtmp" || u.Host == "" || i < 0 {
		return target{}, fmt.Errorf("%q is not a publish URL such as rtmp://127.0.0.1:1935/live/name", s)
	}
	t := target{addr: u.Host, app: path[:i], name: path[i+1:]}
	if u.Port() == "" {
		t.addr = net.JoinHostPort(u.Hostname(), "1935")
	}
	t.tcURL = "rtmp://" + u.Host + "/" + t.app
	if u.RawQuery != "" {
		t.name += "?" + u.RawQuery
	}
	return t, nil
}

// A publisher is one RTMP connection that may publish. Its write side belongs to one goroutine; a second one, started by
// dialPublisher, reads what the server says until the connection ends.
type publisher struct {
	conn net.Conn
	raw  syscall.RawConn
	msid uint32
	ping atomic.Int64 // 1 + the timestamp of a ping request that has not been answered, or 0
	dead atomic.Pointer[error]
	done chan struct{} // closed when the reader has ended

	// Of tryWrite, whose closure is made once.
	try   func(fd uintptr) bool
	out   []byte
	wrote int
	werr  error
}

// dialPublisher connects and publishes; sent is what the server must get before the first frame, for the stream id it gave.
func dialPublisher(ctx context.Context, d *net.Dialer, t target, sent func(msid uint32) []byte) (*publisher, error) {
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	conn, err := d.DialContext(ctx, "tcp", t.addr)
	if err != nil {
		return nil, err
	}
	p := &publisher{conn: conn, done: make(chan struct{})}
	if err := p.setup(t, sent); err != nil {
		conn.Close()
		return nil, err
	}
	return p, nil
}

func (p *publisher) setup(t target, sent func(msid uint32) []byte) error {
	p.conn.SetDeadline(time.Now().Add(setupTimeout))
	if sc, ok := p.conn.(syscall.Conn); ok {
		raw, err := sc.SyscallConn()
		if err != nil {
			return err
		}
		p.raw = raw
		p.initTry()
	}

	// Handshake (Adobe RTMP 1.0, 5.2): C0 and C1, then C2 echoes S1.
	var hs [1 + 1536]byte
	hs[0] = 3
	for i := 9; i < len(hs); i++ {
		hs[i] = byte(i * 7)
	}
	if _, err := p.conn.Write(hs[:]); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	if _, err := io.ReadFull(p.conn, hs[:]); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	if hs[0] != 3 {
		return fmt.Errorf("handshake: server speaks version %d", hs[0])
	}
	if _, err := p.conn.Write(hs[1:]); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	if _, err := io.ReadFull(p.conn, hs[1:]); err != nil { // S2
		return fmt.Errorf("handshake: %w", err)
	}

	r := newChunkReader(p.conn)
	command := func(msid uint32, values ...any) error {
		_, err := p.conn.Write(appendChunks(nil, csidCommand, 0, 0, 20, msid, appendAMF0(nil, values...), 128))
		return err
	}
	if err := command(0, "connect", 1.0, amfObject{{"app", t.app}, {"type", "nonprivate"},
		{"flashVer", "FMLE/3.0 (compatible; headload)"}, {"tcUrl", t.tcURL}}); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if _, err := p.reply(r, 1); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	err := errors.Join(command(0, "releaseStream", 2.0, nil, t.name), command(0, "FCPublish", 3.0, nil, t.name),
		command(0, "createStream", 4.0, nil))
	if err != nil {
		return fmt.Errorf("createStream: %w", err)
	}
	v, err := p.reply(r, 4)
	if err != nil {
		return fmt.Errorf("createStream: %w", err)
	}
	if id, ok := v.(float64); ok {
		p.msid = uint32(id)
	}
	if err := command(p.msid, "publish", 5.0, nil, t.name, "live"); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if _, err := p.reply(r, -1); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if _, err := p.conn.Write(sent(p.msid)); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	p.conn.SetDeadline(time.Time{})
	go p.read(r)
	return nil
}

// reply waits for the answer to a command: _result of that transaction, or for transaction -1 onStatus of level status.
// It returns the result's last value.
func (p *publisher) reply(r *chunkReader, transaction float64) (any, error) {
	for {
		name, values, err := p.nextCommand(r)
		if err != nil {
			return nil, err
		}
		if err := refusal(name, values); err != nil {
			// Some servers answer releaseStream and FCPublish with _error; only the awaited transaction counts.
			if id, _ := values[1].(float64); name == "onStatus" || id == transaction {
				return nil, err
			}
			continue
		}
		if name == "onStatus" && transaction < 0 {
			return nil, nil
		}
		if id, _ := values[1].(float64); name == "_result" && id == transaction {
			return values[len(values)-1], nil
		}
	}
}

// refusal returns the error that a command carries, if it does.
func refusal(name string, values []any) error {
	info, _ := values[len(values)-1].(map[string]any)
	if name != "_error" && (name != "onStatus" || info["level"] != "error") {
		return nil
	}
	return fmt.Errorf("server says %v: %v", info["code"], info["description"])
}

// nextCommand returns the next command, of at least a name and a transaction, and notes pings on the way.
func (p *publisher) nextCommand(r *chunkReader) (string, []any, error) {
	for {
		kind, body, err := r.next()
		if err != nil {
			return "", nil, err
		}
		if kind == 4 && len(body) >= 6 && binary.BigEndian.Uint16(body) == 6 {
			p.ping.Store(1 + int64(binary.BigEndian.Uint32(body[2:])))
		}
		if kind != 20 {
			continue
		}
		values, err := parseAMF0(body)
		if len(values) < 2 {
			return "", nil, fmt.Errorf("server sent a command that cannot be read: %v", err)
		}
		if name, ok := values[0].(string); ok {
			return name, values, nil
		}
	}
}

// read listens to the server until the connection ends.
func (p *publisher) read(r *chunkReader) {
	defer close(p.done)
	for {
		name, values, err := p.nextCommand(r)
		if err == nil {
			err = refusal(name, values)
		}
		if err != nil {
			if err == io.EOF {
				err = errors.New("server closed the connection")
			}
			p.dead.Store(&err)
			return
		}
	}
}

// pong returns the answer to a ping, if one is due; it goes between two messages (Adobe RTMP 1.0, 7.1.7).
func (p *publisher) pong() []byte {
	v := p.ping.Swap(0)
	if v == 0 {
		return nil
	}
	return appendChunks(nil, 2, 0, 0, 4, 0, binary.BigEndian.AppendUint32([]byte{0, 7}, uint32(v-1)), 128)
}

// close ends the publication as encoders do, and the connection. clean says that the last message was sent whole.
func (p *publisher) close(name string, clean bool) {
	p.conn.SetDeadline(time.Now().Add(time.Second))
	if clean {
		b := appendChunks(nil, csidCommand, 0, 0, 20, 0, appendAMF0(nil, "FCUnpublish", 6.0, nil, name), 128)
		p.conn.Write(appendChunks(b, csidCommand, 0, 0, 20, 0, appendAMF0(nil, "deleteStream", 7.0, nil, float64(p.msid)), 128))
	}
	p.conn.Close()
	<-p.done
}
