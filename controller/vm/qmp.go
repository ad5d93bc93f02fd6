package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// maxLine bounds one QMP message; the longest ones here are a few KiB.
const maxLine = 1 << 20

// An Event is what QEMU tells without being asked, see
// https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html.
type Event struct {
	Name string          `json:"event"` // such as "RESET"
	Data json.RawMessage `json:"data"`
}

// monitor is a client of the QEMU Machine Protocol: JSON objects, one a line,
// over a unix socket. It is our own because the kept Go library
// (digitalocean/go-qemu) is made around libvirt and brings its RPC code along.
type monitor struct {
	conn *net.UnixConn

	mu      sync.Mutex
	next    int
	pending map[int]chan message // nil once the connection has ended

	ended chan struct{} // closed when no more message will come
}

// message is anything that QEMU sends: a greeting, an answer or an event.
type message struct {
	Greeting *json.RawMessage `json:"QMP"`
	ID       *int             `json:"id"`
	Return   json.RawMessage  `json:"return"`
	Error    *struct {
		Desc string `json:"desc"`
	} `json:"error"`
	Event
}

type request struct {
	Execute   string `json:"execute"`
	Arguments any    `json:"arguments,omitempty"`
	ID        int    `json:"id"`
}

// dial connects to QEMU's socket and enters command mode. QEMU talks to one
// client at a time: while there is another, dial waits until ctx ends.
func dial(ctx context.Context, socket string, onEvent func(Event)) (*monitor, error) {
	c, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	q := &monitor{conn: c.(*net.UnixConn), pending: make(map[int]chan message), ended: make(chan struct{})}
	greeted := make(chan struct{})
	go q.read(onEvent, sync.OnceFunc(func() { close(greeted) }))
	select {
	case <-greeted:
		err = q.do(ctx, "qmp_capabilities", nil, nil)
	case <-q.ended:
		err = ErrNotRunning
	case <-ctx.Done():
		err = fmt.Errorf("QEMU does not answer on %q; is another program attached to it? %w", socket, ctx.Err())
	}
	if err != nil {
		q.conn.Close()
		return nil, err
	}
	return q, nil
}

// read hands out messages until the connection ends or breaks the protocol.
func (q *monitor) read(onEvent func(Event), greeted func()) {
	defer q.end()
	lines := bufio.NewScanner(q.conn)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var m message
		if json.Unmarshal(lines.Bytes(), &m) != nil {
			return
		}
		switch {
		case m.Greeting != nil:
			greeted()
		case m.Name != "":
			onEvent(m.Event)
		case m.ID != nil:
			q.answer(*m.ID, m)
		}
	}
}

func (q *monitor) answer(id int, m message) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if c, ok := q.pending[id]; ok {
		delete(q.pending, id)
		c <- m // has room for the one answer
	}
}

func (q *monitor) end() {
	q.mu.Lock()
	q.pending = nil
	q.mu.Unlock()
	q.conn.Close()
	close(q.ended)
}

// do runs a command and decodes what it returns into result, if not nil.
// A file, if given, is passed along for the commands that take one.
func (q *monitor) do(ctx context.Context, command string, args, result any, file ...*os.File) error {
	answer, err := q.send(command, args, file)
	if err != nil {
		return fmt.Errorf("qemu %s: %w", command, err)
	}
	select {
	case m := <-answer:
		if m.Error != nil {
			return fmt.Errorf("qemu %s: %s", command, m.Error.Desc)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(m.Return, result)
	case <-q.ended:
		return fmt.Errorf("qemu %s: %w", command, ErrNotRunning)
	case <-ctx.Done():
		return fmt.Errorf("qemu %s: %w", command, ctx.Err())
	}
}

func (q *monitor) send(command string, args any, file []*os.File) (<-chan message, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.pending == nil {
		return nil, ErrNotRunning
	}
	q.next++
	line, err := json.Marshal(request{Execute: command, Arguments: args, ID: q.next})
	if err != nil {
		return nil, err
	}
	var rights []byte
	for _, f := range file {
		rights = syscall.UnixRights(int(f.Fd()))
	}
	answer := make(chan message, 1)
	q.pending[q.next] = answer
	err = q.conn.SetWriteDeadline(time.Now().Add(10 * time.Second)) // a stopped QEMU process must not block us
	if err == nil {
		_, _, err = q.conn.WriteMsgUnix(append(line, '\n'), rights, nil)
	}
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed) {
		err = ErrNotRunning
	}
	return answer, err
}
