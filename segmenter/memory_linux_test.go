package segmenter

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Memory does not grow over an hour of media, faster than real time: what has expired is gone, from the heap and from the
// process.
func TestMemoryFlat(t *testing.T) {
	o := origin(Config{PartTarget: DefaultPartTarget})
	f := newFeed(t, o, "live/a", 30, 60).tracks()
	f.payload = make([]byte, 40000)
	measure := func() (heap, rss int64) {
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc), resident(t)
	}
	f.run(600)
	heap, rss := measure()
	f.run(float64(often(3600)))
	heapAfter, rssAfter := measure()
	// What the collector has found is given back a moment later.
	for limit := time.Now().Add(30 * time.Second); rssAfter > rss+16<<20 && time.Now().Before(limit); {
		runtime.Gosched()
		heapAfter, rssAfter = measure()
	}
	if heapAfter > heap+heap/10+1<<20 {
		t.Errorf("heap: %d MiB after ten minutes, %d MiB much later", heap>>20, heapAfter>>20)
	}
	if rssAfter > rss+16<<20 { // an hour's media is 300 MiB
		t.Errorf("resident: %d MiB after ten minutes, %d MiB much later", rss>>20, rssAfter>>20)
	}
	runtime.KeepAlive(o)
}

// resident is the process's resident memory in bytes with that of its files of media. Of these only what has been read is
// mapped, and counted by the system.
func resident(t *testing.T) int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, pages, media int64
	if _, err := fmt.Sscan(string(b), &size, &pages); err != nil {
		t.Fatal(err)
	}
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil || len(fds) == 0 {
		t.Fatal("no files", err)
	}
	for _, fd := range fds {
		if to, _ := os.Readlink(fd); strings.HasPrefix(to, "/memfd:") {
			if info, err := os.Stat(fd); err == nil {
				media += info.Sys().(*syscall.Stat_t).Blocks * 512
			}
		}
	}
	return pages*int64(os.Getpagesize()) + media
}
