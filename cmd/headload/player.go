package main

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"time"
)

// A rendition plays one Media Playlist. It belongs to one goroutine, apart from the request for the hinted part.
type rendition struct {
	f          *fetcher
	url        *url.URL
	lowLatency bool

	pl       *mediaPlaylist
	msn      uint64 // the next part to fetch, or the next segment when there are no parts
	n        int
	init     string
	started  bool
	hinted   string // the part that is being fetched ahead
	hintDone chan error
	play     playhead
	now      func() time.Time
}

// retryAfter is the pause after a request that failed.
const retryAfter = 500 * time.Millisecond

// run plays until ctx ends or the playlist does.
func (r *rendition) run(ctx context.Context) {
	r.now = time.Now
	defer func() {
		if r.hintDone != nil {
			<-r.hintDone // it ends with ctx
		}
	}()
	for ctx.Err() == nil {
		before := r.pl
		pl, err := r.reload(ctx)
		if err != nil {
			sleep(ctx, retryAfter)
			continue
		}
		r.check(before, pl)
		r.pl = pl
		if !r.started && !r.begin(ctx) {
			sleep(ctx, retryAfter)
			continue
		}
		if r.blocking() {
			r.fetchHint(ctx)
			r.fetchParts(ctx)
		} else {
			r.fetchSegments(ctx)
		}
		if pl.ended {
			return
		}
		if !r.blocking() {
			wait := pl.target // RFC 8216bis 6.3.4
			if before != nil && before.msn+uint64(len(before.segments)) == pl.msn+uint64(len(pl.segments)) {
				wait /= 2
			}
			sleep(ctx, wait)
		}
	}
}

// blocking says whether to play parts with blocking reloads.
func (r *rendition) blocking() bool {
	return r.lowLatency && r.pl != nil && r.pl.canBlock && r.pl.partTarget > 0
}

// reload fetches the playlist, waiting at the server for what is not listed yet.
func (r *rendition) reload(ctx context.Context) (*mediaPlaylist, error) {
	u := *r.url
	held := r.started && r.blocking()
	if held {
		msn, n := r.pl.next()
		q := u.Query()
		q.Set("_HLS_msn", strconv.FormatUint(msn, 10))
		q.Set("_HLS_part", strconv.Itoa(n))
		u.RawQuery = q.Encode()
	}
	t := r.now()
	body, _, err := r.f.get(ctx, &u, true)
	if err != nil {
		return nil, err
	}
	pl, err := r.f.known.parse(body)
	if err != nil {
		r.f.stats.violation("playlist cannot be read", "%v: %v", &u, err)
		return nil, err
	}
	s := r.f.stats
	s.mu.Lock()
	s.reload.add(r.now().Sub(t))
	s.mu.Unlock()
	if held && !pl.ended {
		// The answer holds the part that was asked for, or something after it (RFC 8216bis 6.2.5.2).
		msn, n := pl.next()
		if m, k := r.pl.next(); msn < m || msn == m && n <= k {
			s.violation("blocking reload answered too early", "%v: asked for %d.%d, the next is %d.%d", &u, m, k, msn, n)
			sleep(ctx, pl.partTarget)
		}
	}
	return pl, nil
}

// durationSlack is what rounding in a playlist may add up to.
const durationSlack = 5 * time.Millisecond

// check compares a playlist with the one before (RFC 8216bis 6.2.1).
func (r *rendition) check(before, pl *mediaPlaylist) {
	if before == nil {
		return
	}
	s := r.f.stats
	if pl.msn < before.msn {
		s.violation("media sequence went back", "%v: from %d to %d", r.url, before.msn, pl.msn)
	}
	m, k := before.next()
	if msn, n := pl.next(); msn < m || msn == m && n < k {
		s.violation("end of the playlist went back", "%v: from %d.%d to %d.%d", r.url, m, k, msn, n)
	}
	if pl.target != before.target || pl.partTarget != before.partTarget {
		s.violation("target changed", "%v: %v, %v became %v, %v", r.url, before.target, before.partTarget, pl.target, pl.partTarget)
	}
	for i := range pl.segments {
		is := &pl.segments[i]
		if is.uri == "" || len(is.parts) == 0 || pl.msn+uint64(i) < m {
			continue
		}
		sum := time.Duration(0)
		for _, pt := range is.parts {
			sum += pt.duration
		}
		if (sum - is.duration).Abs() > durationSlack {
			s.violation("parts do not add up to their segment", "%v: %d lasts %v, its parts %v", r.url, pl.msn+uint64(i), is.duration, sum)
		}
	}
	for i := range before.segments {
		was, is := &before.segments[i], pl.at(before.msn+uint64(i))
		if is == nil || was.uri == "" {
			continue
		}
		if is.uri != was.uri || is.duration != was.duration {
			s.violation("listed segment changed", "%v: %d was %s %v, is %s %v", r.url, before.msn+uint64(i), was.uri, was.duration, is.uri, is.duration)
		}
	}
}

// begin chooses where to start: the last segment or part that is as far from the end as the server asks for.
func (r *rendition) begin(ctx context.Context) bool {
	pl := r.pl
	if len(pl.segments) == 0 {
		return false
	}
	back := pl.holdBack
	if !r.blocking() {
		back = 3 * pl.target
	}
	r.msn, r.n = pl.next()
	if !r.blocking() {
		r.n = 0 // an open segment is not there for those who read segments
	}
	for have := time.Duration(0); have < back; {
		if r.n > 0 {
			r.n--
			have += pl.at(r.msn).parts[r.n].duration
			continue
		}
		seg := pl.at(r.msn - 1)
		if seg == nil || r.blocking() && len(seg.parts) == 0 {
			break
		}
		r.msn--
		if r.n = len(seg.parts); !r.blocking() {
			r.n = 0
			have += seg.duration
		}
	}
	if !r.fetchInit(ctx) {
		return false
	}
	r.started = true
	s := r.f.stats
	s.mu.Lock()
	s.playing++
	s.mu.Unlock()
	return true
}

func (r *rendition) fetchInit(ctx context.Context) bool {
	if r.pl.init == r.init {
		return true
	}
	u, err := resolve(r.url, r.pl.init)
	if err != nil {
		r.f.stats.violation("bad URI", "%v", err)
		return false
	}
	if _, _, err := r.f.get(ctx, u, false); err != nil {
		return false
	}
	r.init = r.pl.init
	return true
}

// fetchHint asks for the hinted part ahead of time; the server answers when it is whole (RFC 8216bis 6.2.6).
func (r *rendition) fetchHint(ctx context.Context) {
	if r.pl.hint == "" || r.hintDone != nil {
		return
	}
	u, err := resolve(r.url, r.pl.hint)
	if err != nil {
		r.f.stats.violation("bad URI", "%v", err)
		return
	}
	r.hinted, r.hintDone = r.pl.hint, make(chan error, 1)
	done := r.hintDone
	go func() {
		_, _, err := r.f.get(ctx, u, false)
		done <- err
	}()
}

// fetchParts takes every part that is listed and not yet fetched, in order.
func (r *rendition) fetchParts(ctx context.Context) {
	for ctx.Err() == nil {
		seg := r.pl.at(r.msn)
		if seg == nil {
			if r.msn < r.pl.msn {
				r.f.stats.violation("fell out of the window", "%v: at %d, the first is %d", r.url, r.msn, r.pl.msn)
				r.msn, r.n = r.pl.next()
				r.play.seek()
			}
			break
		}
		if r.n == len(seg.parts) {
			if seg.uri == "" {
				break
			}
			r.msn, r.n = r.msn+1, 0
			continue
		}
		if r.n > len(seg.parts) {
			// Parts of old segments are no longer listed (6.2.2): the player was too slow, or the segment lost parts.
			r.f.stats.violation("gap in parts", "%v: expected part %d of %d, which has %d", r.url, r.n, r.msn, len(seg.parts))
			r.msn, r.n = r.msn+1, 0
			r.play.seek()
			continue
		}
		r.fetchPart(ctx, seg)
	}
	// The hint that was being fetched has become a part by now, or it never will.
	if r.hintDone != nil && r.hinted != r.pl.hint && ctx.Err() == nil {
		if !r.pl.ended {
			r.f.stats.violation("abandoned hint", "%v: %s", r.url, r.hinted)
		}
		<-r.hintDone
		r.hinted, r.hintDone = "", nil
	}
	if r.hintDone == nil {
		r.fetchHint(ctx)
	}
}

func (r *rendition) fetchPart(ctx context.Context, seg *segment) {
	p := seg.parts[r.n]
	start := time.Duration(0)
	for _, q := range seg.parts[:r.n] {
		start += q.duration
	}
	r.n++
	if p.gap {
		r.play.seek()
		return
	}
	var err error
	if r.hintDone != nil && p.uri == r.hinted {
		err = <-r.hintDone
		r.hinted, r.hintDone = "", nil
	} else {
		var u *url.URL
		if u, err = resolve(r.url, p.uri); err == nil {
			_, _, err = r.f.get(ctx, u, false)
		}
	}
	if err != nil {
		r.play.seek()
		return
	}
	r.got(seg, start, p.duration, true)
}

// fetchSegments takes every whole segment that is listed and not yet fetched.
func (r *rendition) fetchSegments(ctx context.Context) {
	if r.msn < r.pl.msn {
		r.f.stats.violation("fell out of the window", "%v: at %d, the first is %d", r.url, r.msn, r.pl.msn)
		r.msn = r.pl.msn
		r.play.seek()
	}
	for seg := r.pl.at(r.msn); seg != nil && seg.uri != "" && ctx.Err() == nil; seg = r.pl.at(r.msn) {
		r.msn++
		if seg.gap {
			r.play.seek()
			continue
		}
		u, err := resolve(r.url, seg.uri)
		if err == nil {
			_, _, err = r.f.get(ctx, u, false)
		}
		if err != nil {
			r.play.seek()
			continue
		}
		r.got(seg, 0, seg.duration, false)
	}
}

// got records media that has been fetched: d from start in the segment.
func (r *rendition) got(seg *segment, start, d time.Duration, isPart bool) {
	now := r.now()
	stall := r.play.fetched(now, d)
	s := r.f.stats
	s.mu.Lock()
	defer s.mu.Unlock()
	if isPart {
		s.parts++
	} else {
		s.segments++
	}
	if stall > 0 {
		s.stalls++
		s.stalled += stall
	}
	if !seg.start.IsZero() {
		s.latency.add(now.Sub(seg.start.Add(start + d)))
	}
}

// A playhead reckons when a player would have run dry: it starts with the first media and moves in real time, and the
// end of what has been fetched must stay ahead of it.
type playhead struct {
	running bool
	dry     time.Time // when what has been fetched will have been played
}

// stallSlack is what jitter of the clock and of scheduling may eat of the buffer before it counts.
const stallSlack = 20 * time.Millisecond

// fetched adds media and returns for how long the player stood still before it came.
func (h *playhead) fetched(now time.Time, d time.Duration) (stall time.Duration) {
	if !h.running {
		h.running, h.dry = true, now
	}
	if late := now.Sub(h.dry); late > 0 {
		h.dry = now
		if late > stallSlack {
			stall = late
		}
	}
	h.dry = h.dry.Add(d)
	return stall
}

// seek says that media is missing on purpose or was skipped; playing starts anew with what comes.
func (h *playhead) seek() { h.running = false }

// open finds the media playlists of a stream: the video one first. It tries until ctx ends.
func open(ctx context.Context, f *fetcher, u *url.URL) ([]*url.URL, error) {
	body, _, err := f.get(ctx, u, true)
	if err != nil {
		return nil, err
	}
	v, media, err := parseMultivariant(body)
	if err != nil {
		f.stats.violation("playlist cannot be read", "%v: %v", u, err)
		return nil, err
	}
	if media {
		return []*url.URL{u}, nil
	}
	var urls []*url.URL
	for _, ref := range []string{v.uri, v.audio} {
		if ref == "" {
			continue
		}
		m, err := resolve(u, ref)
		if err != nil {
			return nil, fmt.Errorf("multivariant playlist: %w", err)
		}
		urls = append(urls, m)
	}
	return urls, nil
}
