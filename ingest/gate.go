package ingest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"headwater/segmenter/media"
)

// MaxName is the longest stream name in bytes, application and slash included.
const MaxName = 200

// DefaultTakeoverWait is how long a publication waits for the end of the one that was kicked for it. Closing a socket wakes its
// reader at once; what may take longer is the last part's way to the disk.
const DefaultTakeoverWait = 2 * time.Second

// A Gate is a Publisher that stands before another: it checks names and keys, and lets one publication at a time have a
// name, whatever protocols they come by. Its fields must not change once it is in use.
type Gate struct {
	// Target opens a publication that has been let through: name is the stream's, req.Rendition which of its renditions is
	// published, and both are valid, as is req.Role. Nobody else has the three until the Writer is closed. If req.Track is not "", it is the end of
	// req.Rendition: Source has the beginning. ctx is that of Publish. Target may be called, and the Writer be given what has been
	// kept for it, by another goroutine than the one that publishes; see Takeover.
	Target func(ctx context.Context, name string, req Request) (Writer, error)

	// Keys may publish under any name, KeyByName (by "<app>/<name>") the renditions of that stream, and under that name. When both are
	// empty everybody may publish; an empty string in them fits nobody.
	Keys      []string
	KeyByName map[string]string

	// Reserved are application names that may not be published to, because their paths serve something else.
	Reserved []string

	// Suffix finds, at the end of a publication's name, which rendition it is: what it matches, but for separators at its
	// beginning (one of "_-.~"), is cut off the name. nil: only Request.Rendition says. Renditions, by the "<app>/<name>" that
	// is published, comes before both.
	Suffix     *regexp.Regexp
	Renditions map[string]Rendition

	// Takeover lets a second publication replace the first one, which is kicked; otherwise it is refused with ErrInUse. The
	// newcomer gets its Writer at once, and nothing happens to the first before something has come that a player can begin with:
	// a key frame, or, if no video is announced, a second of audio. From there on samples are kept until the first one's Close
	// has returned; then Target is called and gets them. If that takes longer than TakeoverWait (0 is DefaultTakeoverWait), or
	// more comes than is kept, the newcomer is refused after all: WriteSample returns an error that wraps ErrInUse. An error of
	// Target is returned by WriteSample likewise. If the first one leaves by itself the newcomer has its place at once. One
	// newcomer at a time may wait for a place; others are refused.
	Takeover     bool
	TakeoverWait time.Duration

	mu   sync.Mutex
	live map[Rendition]*admission // protected by mu

	keysOnce  sync.Once
	keyHashes [][sha256.Size]byte          // of Keys; immutable after keysOnce
	nameHash  map[string][sha256.Size]byte // of KeyByName; likewise

	stats struct{ admitted, takeovers, badName, denied, inUse, failed atomic.Int64 }
}

// A Rendition is one publication's place: a stream, "<app>/<name>", which of its renditions, "" is the only one or the source, and
// whether as the backup of whoever else publishes that.
type Rendition struct {
	Stream, Name string
	Backup       bool
}

// GateStats are counts since the Gate was made.
type GateStats struct {
	Live      int   // publications now, but for those that are made here
	Admitted  int64 // publications let through, and opened by Target
	Takeovers int64 // publications that were kicked for another, which has their place

	// Publications refused, at once or later:
	BadName int64 // ErrBadName
	Denied  int64 // ErrDenied
	InUse   int64 // ErrInUse
	Failed  int64 // by Target
}

// An admission is one publication's hold on its name.
type admission struct {
	kick func(error)
	made bool          // here: see Make
	next *admission    // has the name when this one lets go of it; nil is nobody. Protected by Gate.mu.
	done chan struct{} // closed when this one has let go of the name
	free func()        // lets go of it; more than once is as good as once
}

// Stats returns the counts as they are now.
func (g *Gate) Stats() GateStats {
	g.mu.Lock()
	live := 0
	for _, a := range g.live {
		if !a.made {
			live++
		}
	}
	g.mu.Unlock()
	return GateStats{
		Live:      live,
		Admitted:  g.stats.admitted.Load(),
		Takeovers: g.stats.takeovers.Load(),
		BadName:   g.stats.badName.Load(),
		Denied:    g.stats.denied.Load(),
		InUse:     g.stats.inUse.Load(),
		Failed:    g.stats.failed.Load(),
	}
}

// Publish implements Publisher. The name is checked first, then the key, then whether the name is free: who has no key
// does not learn what is live.
func (g *Gate) Publish(ctx context.Context, req Request) (Writer, error) {
	w, err := g.publish(ctx, req)
	if err != nil {
		g.refused(err)
		return nil, err
	}
	return w, nil
}

// refused counts why a publication is.
func (g *Gate) refused(err error) {
	switch {
	case errors.Is(err, ErrBadName):
		g.stats.badName.Add(1)
	case errors.Is(err, ErrDenied):
		g.stats.denied.Add(1)
	case errors.Is(err, ErrInUse):
		g.stats.inUse.Add(1)
	default:
		g.stats.failed.Add(1)
	}
}

func (g *Gate) publish(ctx context.Context, req Request) (Writer, error) {
	if err := CheckName(req.Name); err != nil {
		return nil, err
	}
	if app, _, _ := strings.Cut(req.Name, "/"); slices.Contains(g.Reserved, app) {
		return nil, fmt.Errorf("%w: the application name %q is reserved", ErrBadName, app)
	}
	place, err := g.place(req)
	if !g.allowed(req.Key, req.Name, place.Stream) {
		return nil, ErrDenied // whatever else is wrong
	}
	if err != nil {
		return nil, err
	}
	first, _ := req.First.(*challenger)
	if first != nil && first.settled() {
		if err := first.through(); err != nil {
			return nil, err
		}
		first = nil
	}
	a := &admission{kick: req.Kick}
	old, err := g.take(place, a)
	if err != nil {
		return nil, err
	}
	open := func() (Writer, error) { return g.open(ctx, place, req, a) }
	if old == nil && first == nil {
		return open()
	}
	return g.challenge(a, old, first, open), nil
}

// open opens the publication that has got its place, or frees that.
func (g *Gate) open(ctx context.Context, place Rendition, req Request, a *admission) (Writer, error) {
	opened := false
	defer func() { // also when Target panics
		if !opened {
			a.free()
		}
	}()
	req.Rendition, req.Role = place.Name, Primary
	if place.Backup {
		req.Role = Backup
	}
	req.Language, req.Label = CleanLanguage(req.Language), CleanLabel(req.Label)
	w, err := g.Target(ctx, place.Stream, req)
	if err != nil {
		return nil, err
	}
	opened = true
	g.stats.admitted.Add(1)
	return &gateWriter{Writer: w, free: a.free, language: req.Language, label: req.Label, rendition: place.Name, track: req.Track != ""}, nil
}

// Make lets a publication through that is made here of another one, by what open opens: it needs no key. Whoever really publishes
// comes before it: it gets ErrInUse where somebody does, and is kicked for the samples of somebody who comes later, as Takeover
// describes and whatever it says. Then WriteSample returns ErrKicked.
func (g *Gate) Make(place Rendition, open func() (Writer, error)) (Writer, error) {
	kicked := new(atomic.Bool)
	a := &admission{kick: func(error) { kicked.Store(true) }, made: true}
	if _, err := g.take(place, a); err != nil {
		return nil, err
	}
	opened := false
	defer func() { // also when open panics
		if !opened {
			a.free()
		}
	}()
	w, err := open()
	if err != nil {
		return nil, err
	}
	opened = true
	return &madeWriter{gateWriter{Writer: w, free: a.free}, kicked}, nil
}

// MaxRendition is the longest name of a rendition in bytes.
const MaxRendition = 32

// CheckRendition says whether a name can be a rendition's: letters, digits and dashes. Its errors wrap ErrBadName.
func CheckRendition(name string) error {
	if len(name) > MaxRendition {
		return fmt.Errorf("%w: its rendition has %d bytes, more than %d", ErrBadName, len(name), MaxRendition)
	}
	for _, b := range []byte(name) {
		if b != '-' && (b < '0' || b > '9') && (b|0x20 < 'a' || b|0x20 > 'z') {
			return fmt.Errorf("%w: its rendition holds something other than letters, digits and dashes", ErrBadName)
		}
	}
	return nil
}

// place finds the stream and the rendition that a request is for.
func (g *Gate) place(req Request) (Rendition, error) {
	p, ok := g.Renditions[req.Name]
	if !ok {
		p = g.suffixed(req)
	}
	switch req.Role {
	case Backup:
		p.Backup = true
	case Primary, "":
	default:
		return p, ErrBadRole
	}
	if req.Track != "" {
		if err := CheckRendition(req.Track); err != nil {
			return p, err
		}
		if p.Name != "" {
			p.Name += "-"
		}
		p.Name += req.Track
	}
	return p, CheckRendition(p.Name)
}

// Source is the rendition that the first track of a connection is published as, of a request that Target has been given.
func (r *Request) Source() string {
	if r.Track == "" {
		return r.Rendition
	}
	return strings.TrimSuffix(strings.TrimSuffix(r.Rendition, r.Track), "-")
}

// suffixed finds the rendition that the request asks for, or that its name ends in.
func (g *Gate) suffixed(req Request) Rendition {
	p := Rendition{Stream: req.Name, Name: req.Rendition}
	if p.Name == "" && g.Suffix != nil {
		app, name, _ := strings.Cut(req.Name, "/")
		for _, at := range g.Suffix.FindAllStringIndex(name, -1) {
			if rung := strings.TrimLeft(name[at[0]:], "_-.~"); at[0] > 0 && at[1] == len(name) && rung != "" {
				p = Rendition{Stream: app + "/" + name[:at[0]], Name: rung}
			}
		}
	}
	return p
}

// take gives the place to a if it is free, and otherwise makes a the next who has it, and returns who has it before.
func (g *Gate) take(place Rendition, a *admission) (old *admission, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	old = g.live[place]
	if old != nil && (a.made || !g.Takeover && !old.made) {
		return nil, ErrInUse
	}
	if old != nil && old.next != nil {
		return nil, fmt.Errorf("%w, and another one waits to take over", ErrInUse)
	}
	a.done = make(chan struct{})
	a.free = sync.OnceFunc(func() {
		g.mu.Lock()
		if a.next != nil {
			g.live[place], a.next = a.next, nil
		} else {
			delete(g.live, place)
		}
		g.mu.Unlock()
		close(a.done)
	})
	if old != nil {
		old.next = a
		return old, nil
	}
	if g.live == nil {
		g.live = map[Rendition]*admission{}
	}
	g.live[place] = a
	return nil, nil
}

// withdraw undoes that a is the next after old. It says false if a has the place by now.
func (g *Gate) withdraw(a, old *admission) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if old.next != a {
		return false
	}
	old.next = nil
	return true
}

// A gateWriter frees the name when it is closed, tells what the publisher has said of its audio, and is the Writer itself for
// everything else.
type gateWriter struct {
	Writer
	free            func()
	language, label string
	rendition       string
	track           bool // it is not the first track of its connection
}

// SetTracks implements Writer. Audio of which nothing is said, and that is not the sound of the rendition's own picture, is called
// after the rendition.
func (w *gateWriter) SetTracks(tracks []media.Track) error {
	label := w.label
	if w.language == "" && w.label == "" {
		if !w.track && slices.ContainsFunc(tracks, func(t media.Track) bool { return t.Kind == media.Video }) {
			return w.Writer.SetTracks(tracks)
		}
		label = w.rendition
	}
	tracks = slices.Clone(tracks)
	for i := range tracks {
		t := &tracks[i]
		if t.Kind != media.Audio {
			continue
		}
		if t.Language == "" && t.Label == "" {
			t.Label = label
		}
		t.Language, t.Label = cmp.Or(t.Language, w.language), cmp.Or(t.Label, w.label)
	}
	return w.Writer.SetTracks(tracks)
}

func (w *gateWriter) Close(reason error) error {
	defer w.free()
	return w.Writer.Close(reason)
}

// A madeWriter is that of a publication that is made here.
type madeWriter struct {
	gateWriter
	kicked *atomic.Bool
}

// WriteSample implements Writer.
func (w *madeWriter) WriteSample(track int, s *media.Sample) error {
	if w.kicked.Load() {
		return ErrKicked
	}
	return w.Writer.WriteSample(track, s)
}

// allowed says whether key opens one of the names. It takes the same time for every key that does not, but for the key's length.
func (g *Gate) allowed(key string, names ...string) bool {
	if len(g.Keys) == 0 && len(g.KeyByName) == 0 {
		return true
	}
	g.keysOnce.Do(func() {
		g.nameHash = map[string][sha256.Size]byte{}
		for _, k := range g.Keys {
			if k != "" {
				g.keyHashes = append(g.keyHashes, sha256.Sum256([]byte(k)))
			}
		}
		for n, k := range g.KeyByName {
			if k != "" {
				g.nameHash[n] = sha256.Sum256([]byte(k))
			}
		}
	})
	h := sha256.Sum256([]byte(key))
	ok := 0
	for i := range g.keyHashes {
		ok |= subtle.ConstantTimeCompare(h[:], g.keyHashes[i][:])
	}
	for _, name := range names {
		if want, found := g.nameHash[name]; found {
			ok |= subtle.ConstantTimeCompare(h[:], want[:])
		}
	}
	return ok == 1
}

// CheckName says whether a name can be a stream's: an application and a name, with one slash between them, both of
// letters, digits and "-._~" (what RFC 3986, 2.3, lets stand in a path as it is), not beginning with a dot. Its errors
// wrap ErrBadName and say what is wrong without repeating the name.
func CheckName(name string) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrBadName, fmt.Sprintf(format, args...))
	}
	if len(name) > MaxName {
		return bad("it has %d bytes, more than %d", len(name), MaxName)
	}
	slashes := 0
	start := 0 // of the present segment
	for i := 0; i <= len(name); i++ {
		if i == len(name) || name[i] == '/' {
			if i == start {
				if slashes > 0 || i < len(name) {
					return bad("a part of it is empty, want <app>/<name>")
				}
				return bad("it is empty, want <app>/<name>")
			}
			if i < len(name) {
				slashes++
			}
			start = i + 1
			continue
		}
		switch b := name[i]; {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b == '-', b == '_', b == '~':
		case b == '.':
			if i == start {
				return bad("a part of it begins with a dot")
			}
		case b == '%':
			return bad("percent escapes are not allowed, only letters, digits and -._~")
		case b < ' ' || b == 0x7f:
			return bad("it holds the control character %#02x", b)
		case b >= 0x80:
			return bad("it holds a character outside ASCII, use letters, digits and -._~")
		default:
			return bad("it holds the character %q, use letters, digits and -._~", b)
		}
	}
	if slashes != 1 {
		return bad("it has %d parts, want <app>/<name>", slashes+1)
	}
	return nil
}
