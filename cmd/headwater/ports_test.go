package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// The ports that freePorts chooses from: whoever connects from this machine is given a higher one, by Linux's defaults, and would
// take it between being chosen and being listened on.
const firstPort, lastPort = 10_000, 32_767

// freePorts returns ports of loopback that nobody listens on: what has to know them cannot always be started first.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	ports, err := choosePorts(n)
	if err != nil {
		t.Fatal(err)
	}
	return ports
}

// choosePorts returns ports that are free for TCP and, as HTTP/3 wants the number of HTTPS, for UDP.
func choosePorts(n int) (ports []int, err error) {
	for tries := 0; len(ports) < n && tries < 100; tries++ {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		var ln net.Listener
		if ln, err = net.Listen("tcp", addr(port)); err != nil {
			continue
		}
		defer ln.Close() // none is chosen twice
		var pc net.PacketConn
		if pc, err = net.ListenPacket("udp", addr(port)); err != nil {
			continue
		}
		pc.Close()
		ports = append(ports, port)
	}
	if len(ports) < n {
		return nil, err
	}
	return ports, nil
}

func addr(port int) string { return fmt.Sprint("127.0.0.1:", port) }
