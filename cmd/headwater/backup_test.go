package main

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"headwater/cmd/headwater/demo"
)

// What is published at the second address is the backup of its name, as is what says so at the first; and there is one of each.
func TestBackupAddress(t *testing.T) {
	r := startHeadwater(t, "--rtmp-backup-addr=127.0.0.1:0")
	clip, err := demo.Load()
	if err != nil {
		t.Fatal(err)
	}
	publish := func(addr, stream string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		t.Cleanup(cancel)
		started, ended := make(chan struct{}), make(chan error, 1)
		go func() { ended <- publishOnce(ctx, addr, stream, clip, func() { close(started) }) }()
		select {
		case <-started:
			return nil
		case err := <-ended:
			return err
		}
	}
	for _, c := range []struct{ addr, stream string }{{r.RTMP, "x"}, {r.RTMPBackup, "x"}, {r.RTMP, "y?role=backup"}, {r.RTMPBackup, "y?role=primary"}} {
		if err := publish(c.addr, c.stream); err != nil {
			t.Errorf("%s: %v", c.stream, err)
		}
	}
	for _, c := range []struct{ addr, stream, want string }{
		{r.RTMP, "x?role=backup", "somebody else"}, {r.RTMPBackup, "y", "somebody else"}, {r.RTMP, "z?role=spare", "neither primary nor backup"},
	} {
		if err := publish(c.addr, c.stream); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error that says %q", c.stream, err, c.want)
		}
	}
	for _, name := range []string{"live/x", "live/y"} {
		var info struct{ Inputs []struct{ Role string } }
		if _, body := get(t, r.URL("/api/streams/"+name)); json.Unmarshal([]byte(body), &info) != nil {
			t.Fatal(body)
		}
		var roles []string
		for _, in := range info.Inputs {
			roles = append(roles, in.Role)
		}
		if !slices.Equal(roles, []string{"primary", "backup"}) {
			t.Errorf("%s: %q", name, roles)
		}
	}
}
