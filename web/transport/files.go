package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// reloadEvery is how often certificate files are looked at. A change is taken over when it has been there for two looks, so
// that a pair is not read when half of it has been written.
const reloadEvery = 2 * time.Second

// Files are a certificate chain and its key in PEM files. What has been loaded is replaced when the files change; what
// cannot be used does not replace anything. Its methods may be called by several goroutines, but for Load and Watch.
type Files struct {
	Cert, Key string       // paths
	Log       *slog.Logger // nil discards

	now      atomic.Pointer[tls.Certificate]
	failures atomic.Int64

	loaded, seen stamps // as last taken over, and as last looked at
	refused      bool   // it has been said that what was last looked at cannot be used
}

// A FileError says what is wrong with a certificate or its key, and what helps.
type FileError struct {
	Key  bool // it is about the key
	Path string
	Err  error
}

func (e *FileError) Unwrap() error { return e.Err }

func (e *FileError) Error() string {
	var path *fs.PathError
	err := e.Err
	if errors.As(err, &path) {
		err = path.Err
	}
	what, help := "certificate", ""
	if e.Key {
		what = "key"
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		help = fmt.Sprintf("; let the user that runs headwater (uid %d) read it, by chgrp and chmod 640 for example", os.Getuid())
	case errors.Is(err, fs.ErrNotExist):
		help = "; write the path of a PEM file with the " + what
		if !e.Key {
			help += " and its intermediates"
		}
	case path == nil && e.Key:
		help = "; it has to hold, in PEM and not encrypted, the key of the first certificate in the other file"
	case path == nil:
		help = "; it has to hold the certificate, followed by its intermediates, in PEM"
	}
	return fmt.Sprintf("%s: %v%s", e.Path, err, help)
}

// stamps are by what a change of the two files is seen.
type stamps [2]fs.FileInfo

func (s stamps) same(o stamps) bool {
	for i := range s {
		if (s[i] == nil) != (o[i] == nil) {
			return false
		}
		if s[i] != nil && !(os.SameFile(s[i], o[i]) && s[i].ModTime().Equal(o[i].ModTime()) && s[i].Size() == o[i].Size()) {
			return false
		}
	}
	return true
}

// stat follows symbolic links: what they point to is often exchanged as a whole.
func (f *Files) stat() (s stamps) {
	for i, name := range []string{f.Cert, f.Key} {
		if info, err := os.Stat(name); err == nil {
			s[i] = info
		}
	}
	return s
}

// Load reads the files for the first time. Its errors are FileErrors.
func (f *Files) Load() error {
	if f.Log == nil {
		f.Log = slog.New(slog.DiscardHandler)
	}
	f.loaded = f.stat()
	f.seen = f.loaded
	c, err := f.read()
	if err != nil {
		return err
	}
	f.take(c)
	if info := f.loaded[1]; info != nil && info.Mode().Perm()&0o007 != 0 {
		f.Log.Warn("every user of this machine may read the TLS key; chmod 640 helps", "file", f.Key)
	}
	return nil
}

func (f *Files) read() (*tls.Certificate, error) {
	chain, err := os.ReadFile(f.Cert)
	if err != nil {
		return nil, &FileError{Path: f.Cert, Err: err}
	}
	key, err := os.ReadFile(f.Key)
	if err != nil {
		return nil, &FileError{Key: true, Path: f.Key, Err: err}
	}
	c, err := tls.X509KeyPair(chain, key)
	if err != nil {
		if leads(chain) {
			return nil, &FileError{Key: true, Path: f.Key, Err: err}
		}
		return nil, &FileError{Path: f.Cert, Err: err}
	}
	return &c, nil
}

// leads says whether a chain begins with a certificate, so that what is wrong has to do with the key.
func leads(chain []byte) bool {
	for block, rest := pem.Decode(chain); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			_, err := x509.ParseCertificate(block.Bytes)
			return err == nil
		}
	}
	return false
}

func (f *Files) take(c *tls.Certificate) {
	f.now.Store(c)
	warnOfDates(f.Log, c.Leaf, time.Now())
}

func warnOfDates(log *slog.Logger, c *x509.Certificate, now time.Time) {
	if now.Before(c.NotBefore) || now.After(c.NotAfter) {
		log.Warn("players will refuse the TLS certificate: it is not valid now",
			"from", c.NotBefore.Format(time.RFC3339), "until", c.NotAfter.Format(time.RFC3339))
	}
}

// Watch looks at the files until ctx ends.
func (f *Files) Watch(ctx context.Context) {
	t := time.NewTicker(reloadEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			f.look()
		}
	}
}

// look takes over files that are not as they were loaded, and as they were at the last look. Of those that cannot be used it
// says so once, and tries again: that a permission has been mended, or that there are file descriptors again, does not show.
func (f *Files) look() {
	s := f.stat()
	if !s.same(f.seen) {
		f.seen, f.refused = s, false
		return
	}
	if s.same(f.loaded) {
		return
	}
	c, err := f.read()
	if err != nil {
		if !f.refused {
			f.refused = true
			f.failures.Add(1)
			f.Log.Warn("the changed TLS certificate cannot be used; the one before stays", "err", err)
		}
		return
	}
	f.loaded = s
	f.take(c)
	f.Log.Info("TLS certificate reloaded", "names", strings.Join(c.Leaf.DNSNames, " "), "until", c.Leaf.NotAfter.Format(time.RFC3339))
}

// GetCertificate is for tls.Config. Handshakes get what has been loaded last; connections go on with what they have.
func (f *Files) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return f.now.Load(), nil
}

// Expires returns when the certificate in use does.
func (f *Files) Expires() time.Time { return f.now.Load().Leaf.NotAfter }

// Failures returns how many changes could not be taken over.
func (f *Files) Failures() int64 { return f.failures.Load() }
