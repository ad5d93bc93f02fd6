package target

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"
)

// TestKeepAlive: with a machine that answers a quiet command goes on for hours,
// with one that does not it is lost.
func TestKeepAlive(t *testing.T) {
	for _, answers := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			c := newConn(quietMachine(t, answers), usual)
			defer c.Close()
			if err := c.exec(t.Context(), "sleep 3h", nil, io.Discard, io.Discard); errors.Is(err, ErrLost) == answers || answers && err != nil {
				t.Errorf("answers: %v, command: %v", answers, err)
			}
		})
	}
}

// quietMachine is an SSH server in this process whose command says nothing for
// three hours and then succeeds.
func quietMachine(t *testing.T, answers bool) *ssh.Client {
	t.Helper()
	here, there := pipe()
	key, _ := newKey(t)
	go func() {
		config := &ssh.ServerConfig{NoClientAuth: true}
		config.AddHostKey(key)
		conn, channels, requests, err := ssh.NewServerConn(there, config)
		if err != nil {
			t.Error(err)
			return
		}
		go func() {
			for r := range requests {
				if answers {
					r.Reply(true, nil)
				}
			}
		}()
		gone := make(chan struct{})
		go func() {
			conn.Wait()
			close(gone)
		}()
		for c := range channels {
			session, exec, err := c.Accept()
			if err != nil {
				return
			}
			go func() {
				for r := range exec {
					r.Reply(true, nil)
				}
			}()
			select {
			case <-time.After(3 * time.Hour):
			case <-gone:
				return
			}
			session.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{}))
			session.Close()
		}
	}()
	conn, channels, requests, err := ssh.NewClientConn(here, "quiet", &ssh.ClientConfig{HostKeyCallback: ssh.FixedHostKey(key.PublicKey())})
	if err != nil {
		t.Fatal(err)
	}
	return ssh.NewClient(conn, channels, requests)
}

// pipe is a net.Pipe that takes writes before they are read, as a socket does.
func pipe() (a, b net.Conn) {
	a, b = net.Pipe()
	return newBuffered(a), newBuffered(b)
}

type buffered struct {
	net.Conn
	pieces chan []byte
	closed chan struct{}
	once   sync.Once
}

func newBuffered(c net.Conn) *buffered {
	b := &buffered{Conn: c, pieces: make(chan []byte, 1000), closed: make(chan struct{})}
	go func() {
		for {
			select {
			case p := <-b.pieces:
				c.Write(p)
			case <-b.closed:
				c.Close()
				return
			}
		}
	}()
	return b
}

func (b *buffered) Write(p []byte) (int, error) {
	select {
	case b.pieces <- bytes.Clone(p):
		return len(p), nil
	case <-b.closed:
		return 0, net.ErrClosed
	}
}

func (b *buffered) Close() error {
	b.once.Do(func() { close(b.closed) })
	return b.Conn.Close()
}
