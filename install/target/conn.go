package target

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// A conn is one SSH connection that is closed when the machine falls silent.
//
// Any byte that arrives is a sign of life, not only the answer to a keep-alive: on
// a slow link the question waits behind megabytes of an upload (measured: OpenSSH
// grants 2 MiB a channel, which is 16 s at 1 Mbit/s).
type conn struct {
	*ssh.Client
	set   settings
	watch *time.Timer // closes the connection
	once  sync.Once
	gone  chan struct{} // closed with the connection
}

func newConn(client *ssh.Client, set settings) *conn {
	c := &conn{Client: client, set: set, gone: make(chan struct{})}
	c.watch = time.AfterFunc(set.patience, func() { c.Close() })
	go func() {
		client.Wait()
		c.Close()
	}()
	go c.ask()
	return c
}

// Close ends the connection, from now on for [conn.alive] too.
func (c *conn) Close() error {
	c.once.Do(func() { close(c.gone) })
	return c.Client.Close()
}

// ask sends keep-alives as OpenSSH's ServerAliveInterval does, ssh_config(5).
func (c *conn) ask() {
	for {
		select {
		case <-c.gone:
			return
		case <-time.After(c.set.keepAlive):
		}
		if _, _, err := c.SendRequest("keepalive@openssh.com", true, nil); err != nil {
			return
		}
		c.seen()
	}
}

// seen notes a sign of life.
func (c *conn) seen() {
	if c.alive() {
		c.watch.Reset(c.set.patience)
	}
}

func (c *conn) alive() bool {
	select {
	case <-c.gone:
		return false
	default:
		return true
	}
}

// A lifeline notes a sign of life whenever a read or write gets on.
type lifeline struct {
	io.Reader
	io.Writer
	c *conn
}

func (l lifeline) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	l.c.seen()
	return n, err
}

func (l lifeline) Write(p []byte) (int, error) {
	l.c.seen()
	return l.Writer.Write(p)
}

// A strict writer closes s when a write fails: a command whose output nobody takes
// would otherwise wait for ever.
type strict struct {
	io.Writer
	s io.Closer
}

func (w strict) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil {
		w.s.Close()
	}
	return n, err
}

// hangUp closes s when ctx is done, and the whole connection if what uses s has
// not ended a second later: a dead machine does not confirm. The returned function
// must be called when the use of s has ended.
func (c *conn) hangUp(ctx context.Context, s io.Closer) (ended func()) {
	over := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		force := time.AfterFunc(time.Second, func() { c.Close() })
		s.Close()
		<-over
		force.Stop()
	})
	return func() {
		close(over)
		stop()
	}
}

// session opens a session channel. It ends early if ctx is done.
func (c *conn) session(ctx context.Context) (*ssh.Session, error) {
	defer c.hangUp(ctx, io.NopCloser(nil))()
	s, err := c.NewSession()
	if err != nil {
		return nil, c.cause(ctx, err)
	}
	return s, nil
}

// exec runs line by the login shell of the machine and waits for it.
func (c *conn) exec(ctx context.Context, line string, stdin io.Reader, stdout, stderr io.Writer) error {
	s, err := c.session(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	if stdin != nil {
		s.Stdin = lifeline{Reader: stdin, c: c}
	}
	s.Stdout = lifeline{Writer: strict{stdout, s}, c: c}
	s.Stderr = lifeline{Writer: strict{stderr, s}, c: c}
	defer c.hangUp(ctx, s)()
	return c.cause(ctx, s.Run(line))
}

// cause says why an operation ended with err: because ctx is done, or because the
// connection was lost, or because the machine refused or failed, which is err as it
// is. The library tells a loss in many ways, so in doubt the machine is asked.
func (c *conn) cause(ctx context.Context, err error) error {
	var exit *ssh.ExitError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &exit):
		return err
	}
	if _, _, lost := c.SendRequest("keepalive@openssh.com", true, nil); lost == nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	c.Close()
	return fmt.Errorf("%w: %w", ErrLost, err)
}
