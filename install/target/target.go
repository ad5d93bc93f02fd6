// Package target works on one verified machine over one SSH connection: short
// commands, long jobs that run detached from the connection, uploads, and the
// reboot.
//
// Connections get lost: a cable is pulled, a lid is closed, a machine freezes. A
// [Target] notices by itself, because it asks the machine for a sign of life every
// few seconds, and tells a lost connection ([ErrLost]) from a command that failed
// ([*ExitError]). What can go on after a loss does: [Target.Run] follows its job
// again from the byte where it stopped and [Target.Upload] begins anew. Everything
// else is returned to the caller, who knows whether it may be done twice.
package target

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nixctl/nixctl/discovery/verify"
	"golang.org/x/crypto/ssh"
)

// ErrOtherBoot is wrapped by the error for a connection that does not lead to the
// boot that was pinned, see [Target.Pin].
var ErrOtherBoot = errors.New("another machine, or another boot of it, answers now; what runs there is not this work")

// ErrLost is wrapped by errors of a connection that was lost or could not be
// opened. What was asked of the machine may or may not have been done.
var ErrLost = errors.New("connection lost")

// A Target is a machine that is logged in to. Its methods may be called from
// several goroutines. A ctx that is done ends its method within a second; if the
// machine does not confirm by then, the connection is closed and the other methods
// see it lost.
type Target struct {
	// These may be set before use. OnLost is called when [Target.Run] or
	// [Target.Upload] lost the connection and is about to dial again, OnBack when it
	// is back: in turn, one call at a time. They must not use the Target.
	OnLost func(err error)
	OnBack func()
	GiveUp time.Duration // dial no longer than this after a loss; 0 means 10 minutes

	name string
	dial func(context.Context) (*ssh.Client, error)
	set  settings

	dialing   chan struct{} // holds a token while somebody dials
	uploading sync.Mutex    // two uploads would clear each other's stages

	mu     sync.Mutex
	conn   *conn // nil until dialled
	closed bool
	boot   string // the boot ID that new connections must lead to; "" for any

	telling sync.Mutex
	lost    bool // OnLost was called last
}

// settings are what tests shorten or move.
type settings struct {
	keepAlive time.Duration // between two questions for a sign of life
	patience  time.Duration // silence after which a connection is given up
	dial      time.Duration // for one connection and login
	backOff   time.Duration // longest pause between two attempts to dial
	run       string        // where jobs are kept on the machine
	systemd   string        // exists while systemd runs, sd_booted(3)
	bootID    string        // the kernel's file that tells it, random(4)
	streams   int64         // SFTP requests on their way at once
	log       int64         // bytes of a job's log that are passed on
	looks     int           // for the result of a job that was killed, one each 50 ms
}

var usual = settings{
	keepAlive: 5 * time.Second,
	patience:  15 * time.Second,
	dial:      15 * time.Second,
	backOff:   5 * time.Second,
	run:       "/run/nixctl",
	systemd:   "/run/systemd/system",
	bootID:    "/proc/sys/kernel/random/boot_id",
	streams:   128,
	log:       64 << 20,
	looks:     100,
}

// Dial logs in to a verified installer. It does not try twice.
func Dial(ctx context.Context, i *verify.Installer, user string, auth ...ssh.AuthMethod) (*Target, error) {
	t := newTarget(i.String(), usual, func(ctx context.Context) (*ssh.Client, error) {
		return i.Dial(ctx, user, auth...)
	})
	_, err := t.connect(ctx)
	return t, err
}

func newTarget(name string, set settings, dial func(context.Context) (*ssh.Client, error)) *Target {
	return &Target{name: name, dial: dial, set: set, dialing: make(chan struct{}, 1)}
}

// String returns the machine's name and address.
func (t *Target) String() string { return t.name }

// Close ends the connection for good. Jobs on the machine run on.
func (t *Target) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.conn == nil || !t.conn.alive() {
		return nil
	}
	return t.conn.Close()
}

// connect returns the connection, after dialling if there is none or it is dead.
func (t *Target) connect(ctx context.Context) (*conn, error) {
	select {
	case t.dialing <- struct{}{}:
		defer func() { <-t.dialing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c, err := t.current(); c != nil || err != nil {
		return c, err
	}
	c, err := t.open(ctx)
	if err != nil {
		if ctx.Err() == nil && transient(err) {
			return nil, fmt.Errorf("%w: %w", ErrLost, err)
		}
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		c.Close()
		return nil, fmt.Errorf("%s: %w", t, net.ErrClosed)
	}
	t.conn = c
	return c, nil
}

// open makes a new connection, to the right boot.
func (t *Target) open(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, t.set.dial)
	defer cancel()
	client, err := t.dial(ctx)
	if err != nil {
		return nil, err
	}
	c := newConn(client, t.set)
	if err := t.checkBoot(ctx, c); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Pin makes sure that later connections lead to the same boot of the same machine,
// by the content of /proc/sys/kernel/random/boot_id, random(4). A host key alone does
// not tell machines apart that booted one medium. Where another one answers, the
// methods fail with [ErrOtherBoot] at once. The connection there is stays.
func (t *Target) Pin(bootID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.boot = strings.TrimSpace(bootID)
}

// checkBoot asks a new connection for the boot that it leads to, if one is pinned.
func (t *Target) checkBoot(ctx context.Context, c *conn) error {
	t.mu.Lock()
	want := t.boot
	t.mu.Unlock()
	if want == "" {
		return nil
	}
	out := &bounded{limit: 256}
	if err := c.exec(ctx, "cat "+t.set.bootID, nil, out, io.Discard); err != nil {
		return fmt.Errorf("read the boot id: %w", err)
	}
	if got := strings.TrimSpace(out.String()); got != want {
		return fmt.Errorf("%w (boot id %q, not %q)", ErrOtherBoot, got, want)
	}
	return nil
}

// current returns the connection if it is alive, nil if there is none.
func (t *Target) current() (*conn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return nil, fmt.Errorf("%s: %w", t, net.ErrClosed)
	case t.conn != nil && t.conn.alive():
		return t.conn, nil
	}
	return nil, nil
}

// once runs op over a connection that is alive as far as is known.
func (t *Target) once(ctx context.Context, op func(*conn) error) error {
	c, err := t.connect(ctx)
	if err != nil {
		return err
	}
	return op(c)
}

// persist runs op until it ends otherwise than by a lost connection. After a loss
// it dials again, with pauses that grow while nothing answers, and not for ever.
func (t *Target) persist(ctx context.Context, op func(*conn) error) error {
	const first = 100 * time.Millisecond
	pause := min(first, t.set.backOff)
	var since time.Time // when the connection was lost
	for {
		err := t.once(ctx, func(c *conn) error {
			since, pause = time.Time{}, min(first, t.set.backOff)
			t.tell(nil)
			return op(c)
		})
		if !errors.Is(err, ErrLost) {
			return err
		}
		if c, _ := t.current(); c == nil {
			t.tell(err)
		}
		if since.IsZero() {
			since = time.Now()
		}
		if limit := cmp.Or(t.GiveUp, 10*time.Minute); time.Since(since) >= limit {
			return fmt.Errorf("no connection for %v; what runs on the machine goes on: see that it can be reached, then resume (last: %w)", limit, err)
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, t.set.backOff)
		case <-ctx.Done():
			return fmt.Errorf("%w (last: %w)", ctx.Err(), err)
		}
	}
}

// tell reports the loss of the connection, or with nil that it is back, once.
func (t *Target) tell(loss error) {
	t.telling.Lock()
	defer t.telling.Unlock()
	if t.lost == (loss != nil) {
		return
	}
	t.lost = loss != nil
	switch {
	case t.lost && t.OnLost != nil:
		t.OnLost(loss)
	case !t.lost && t.OnBack != nil:
		t.OnBack()
	}
}

// transient reports whether dialling may succeed later. A refused login or
// another host key will not change by waiting.
func transient(err error) bool {
	var network net.Error
	var errno syscall.Errno
	return errors.As(err, &network) || errors.As(err, &errno) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}
