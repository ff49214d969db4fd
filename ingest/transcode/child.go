package transcode

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"
)

// Why a rung's Writer is closed though its source is not.
var (
	errChanged = errors.New("transcoder: the source changed, and ffmpeg is started anew")
	errStalled = errors.New("nothing comes out of it")
)

// drain is how long a pipe may hold on after its child has ended.
const drain = time.Second

// shortLife is how long a run that was told to end must have lasted for the next to begin at once: a source that changes
// all the time does not get a new child each time.
const shortLife = 2 * time.Second

// supervise serves one run after the other until Close.
func (t *Transcoder) supervise() {
	defer t.ladder.children.Done()
	defer close(t.done)
	defer t.ladder.forget(t)
	// The kernel kills the child when the thread that started it ends, not the process (prctl(2), PR_SET_PDEATHSIG). This
	// goroutine keeps its thread as long as it has a child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	p := pause{first: t.times.backoff, limit: t.times.limit, healthy: t.times.healthy}
	for {
		var r *run
		select {
		case <-t.closed:
			return
		case r = <-t.runs:
		}
		select {
		case <-t.closed: // it came with the end
			return
		default:
		}
		t.want.Store(false)
		start := time.Now()
		err := t.serve(r)
		r.over.Store(true)
		lived := time.Since(start)

		var wait time.Duration
		if err != nil {
			t.count.failures.Add(1)
			wait = p.next(lived)
			t.log.Warn("ffmpeg ended", "err", err, "after", lived.Round(time.Millisecond), "retry", wait)
		} else if lived < shortLife {
			wait = p.next(lived)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-t.closed:
		}
		timer.Stop()
		t.want.Store(true)
	}
}

// serve starts the run's child and stays until it has ended, and the rungs are closed. It returns nil if the child was
// told to end.
func (t *Transcoder) serve(r *run) error {
	c, err := t.start(r)
	if err != nil {
		return err
	}
	err = t.attend(r, c)
	told := false
	select {
	case <-r.end:
		told = true
	default:
	}
	var reason error
	if told {
		reason = r.why
	} else {
		err = cmp.Or(err, errors.New("it was not told to"))
		reason = fmt.Errorf("transcoder: ffmpeg ended: %w", err)
	}
	for _, o := range r.outputs {
		if err := guard(func() error { return o.Close(reason) }); err != nil {
			t.log.Warn("rung ended", "rung", o.rung.Name, "err", err)
		}
	}
	if told && err != nil {
		t.log.Warn("ffmpeg did not end as it was told to", "err", err)
	}
	if told {
		return nil
	}
	return err
}

// guard calls f and makes an error of its panic: what a rung is given to may end the rung, and not the program.
func guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	return f()
}

// A child is a process and our ends of its pipes.
type child struct {
	cmd    *exec.Cmd
	stdin  *os.File
	stderr *os.File
	rungs  []*os.File
}

// start starts the run's child.
func (t *Transcoder) start(r *run) (_ *child, err error) {
	var files []*os.File // all of them, while it is not sure that the child starts
	pipe := func() (in, out *os.File) {
		if err != nil {
			return nil, nil
		}
		if out, in, err = os.Pipe(); err == nil {
			files = append(files, in, out)
		}
		return in, out
	}
	args := r.plan.arguments()
	c := &child{cmd: exec.Command(cmp.Or(t.ladder.FFmpeg, "ffmpeg"), args...)}
	var theirs []*os.File
	in, out := pipe()
	c.stdin, theirs = in, append(theirs, out)
	errIn, errOut := pipe()
	c.stderr, theirs = errOut, append(theirs, errIn)
	for range r.plan.rungs {
		in, out := pipe()
		c.rungs, theirs = append(c.rungs, out), append(theirs, in)
		c.cmd.ExtraFiles = append(c.cmd.ExtraFiles, in)
	}
	if err == nil {
		c.cmd.Stdin, c.cmd.Stderr = out, errIn
		c.cmd.Env = environment()
		c.cmd.SysProcAttr = processAttributes()
		err = c.cmd.Start()
	}
	if err != nil {
		for _, f := range files {
			f.Close()
		}
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("%w: %s", err, howToInstall)
		}
		return nil, err
	}
	for _, f := range theirs {
		f.Close()
	}
	t.mu.Lock()
	t.pid = c.cmd.Process.Pid
	t.mu.Unlock()
	t.count.starts.Add(1)
	t.count.up.Store(r)
	t.log.Info("ffmpeg started", "pid", c.cmd.Process.Pid, "rungs", strings.Join(r.plan.names(), " "))
	return c, nil
}

// attend feeds a child, reads what it gives, and waits for its end, which it brings about when it must. The error says
// why it ended; nil is by itself and well.
func (t *Transcoder) attend(r *run, c *child) error {
	var pipes sync.WaitGroup
	broken := make(chan error, len(c.rungs))
	for i, o := range r.outputs {
		pipes.Go(func() {
			if err := guard(func() error { return o.read(c.rungs[i]) }); err != nil {
				broken <- fmt.Errorf("rung %s: %w", o.rung.Name, err)
			}
		})
	}
	pipes.Go(func() { logLines(t.log, c.stderr, time.Now) })
	stop := make(chan struct{})
	pipes.Go(func() { r.pump(c.stdin, stop) })
	waited := make(chan error, 1)
	go func() { waited <- c.cmd.Wait() }()

	check := time.NewTicker(t.times.check)
	defer check.Stop()
	w := watch{limit: t.times.stall}
	end := r.end
	var tail <-chan time.Time
	var cause error
	kill := func(why error) {
		cause = cmp.Or(cause, why)
		killGroup(c.cmd.Process)
	}
	var err error
	for ended := false; !ended; {
		select {
		case err = <-waited:
			ended = true
		case why := <-broken:
			kill(why)
		case <-check.C:
			if w.tick(t.times.check, r.offered.Load(), r.tags.Load()) {
				kill(errStalled)
			}
		case <-end:
			end = nil
			tail = time.After(t.times.tail)
		case <-tail:
			kill(errors.New("it did not finish"))
		}
	}
	t.ended(c.cmd.ProcessState)
	killGroup(c.cmd.Process) // what it may have started

	close(stop)
	c.stdin.Close()
	// What is still in the pipes is read to its end, which comes at once now that nobody holds the other ends.
	deadline := time.Now().Add(drain)
	for _, f := range append(c.rungs, c.stderr) {
		f.SetReadDeadline(deadline)
	}
	pipes.Wait()
	for _, f := range append(c.rungs, c.stderr) {
		f.Close()
	}
	if cause == nil { // a pipe that breaks is mostly the consequence of the process's end
		cause = err
	}
	if cause == nil && len(broken) > 0 {
		cause = <-broken
	}
	return cause
}

// ended counts what a child has used.
func (t *Transcoder) ended(s *os.ProcessState) {
	t.count.up.Store(nil)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pid = 0
	if s != nil {
		t.cpu += int64(s.UserTime() + s.SystemTime())
	}
}

// pump writes what has been queued into the child until the end of that, and then ends its input.
func (r *run) pump(stdin *os.File, stop <-chan struct{}) {
	defer stdin.Close()
	for {
		b, ok := r.ring.next(stop)
		if !ok {
			return
		}
		n, err := stdin.Write(b[:min(len(b), readStep)])
		if err != nil {
			return // the child's end says more
		}
		r.ring.advance(n)
	}
}

// environment is ours without what configures us: the child is to know no keys.
func environment() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "HEADWATER_") {
			env = append(env, v)
		}
	}
	return env
}
