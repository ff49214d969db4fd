package main

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// bareCmd is the least that a server on net/http costs, as a process to be measured: it has the bytes ready in memory and
// writes them. With ?wait it answers when the next tick comes.
type bareCmd struct {
	Addr string `required:""`
	Dir  string `required:"" help:"Of the files to serve."`
}

// Run serves until ctx ends.
func (c *bareCmd) Run(ctx context.Context) error {
	files := map[string][]byte{}
	names, err := filepath.Glob(filepath.Join(c.Dir, "*"))
	if err != nil {
		return err
	}
	for _, n := range names {
		if files["/"+filepath.Base(n)], err = os.ReadFile(n); err != nil {
			return err
		}
	}
	var (
		mu   sync.Mutex
		next = make(chan struct{})
	)
	go func() {
		for range time.Tick(blockedTick) {
			mu.Lock()
			close(next)
			next = make(chan struct{})
			mu.Unlock()
		}
	}()
	srv := &http.Server{Addr: c.Addr, BaseContext: func(net.Listener) context.Context { return ctx }, Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			b, ok := files[r.URL.Path]
			if !ok {
				http.NotFound(w, r)
				return
			}
			if r.URL.RawQuery != "" {
				mu.Lock()
				wait := next
				mu.Unlock()
				select {
				case <-wait:
				case <-r.Context().Done():
					return
				}
			}
			h := w.Header()
			h["Etag"] = bareTag
			h["Cache-Control"] = bareCache
			if v := r.Header["If-None-Match"]; len(v) == 1 && v[0] == bareTag[0] {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			h["Content-Type"] = bareType
			h["Content-Length"] = []string{strconv.Itoa(len(b))}
			w.Write(b)
		})}
	go func() {
		<-ctx.Done()
		srv.Close()
	}()
	if err := srv.ListenAndServe(); err != http.ErrServerClosed {
		return err
	}
	return nil
}

var (
	bareTag   = []string{`"bare"`}
	bareCache = []string{"public, max-age=1"}
	bareType  = []string{"application/octet-stream"}
)
