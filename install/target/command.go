package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/nixctl/nixctl/install/command"
	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

const (
	maxOutput = 8 << 20  // bytes that Output returns at most
	maxTail   = 64 << 10 // bytes of error output that are kept
)

// An ExitError tells how a command or job failed.
type ExitError struct {
	Name   string // the program, or a job's ID
	Status int    // exit status; 128+n for a job whose script was ended by signal n
	Killed string // why it was ended from outside; empty if it ended by itself
	Output []byte // the last 64 KiB: stderr of a command, the log of a job
}

func (e *ExitError) Error() string {
	text := fmt.Sprintf("%q: exit status %d", e.Name, e.Status)
	switch {
	case e.Killed != "":
		text = fmt.Sprintf("%q was ended from outside (%s)", e.Name, e.Killed)
	case e.Status == 128+9:
		text += " (killed; out of memory?)"
	}
	if tail := e.tail(); tail != "" {
		text += ": " + tail
	}
	return text
}

// tail returns the last lines of the output in at most 300 bytes.
func (e *ExitError) tail() string {
	const count, size = 3, 300
	var last []string
	lines := &splitter{line: func(l string) {
		if l = strings.TrimSpace(l); l != "" {
			last = append(last, l)
		}
	}}
	lines.Write(e.Output)
	lines.end()
	text := strings.Join(last[max(0, len(last)-count):], "; ")
	if len(text) > size {
		text = "..." + strings.ToValidUTF8(text[len(text)-size:], "")
	}
	return text
}

// A bounded writer keeps up to limit bytes and fails on more.
type bounded struct {
	bytes.Buffer
	limit int
	over  error
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.limit {
		b.over = fmt.Errorf("printed more than %d bytes", b.limit)
		return 0, b.over
	}
	return b.Buffer.Write(p)
}

// A tail keeps the last maxTail bytes written to it.
type tail []byte

func (t *tail) Write(p []byte) (int, error) {
	*t = append(*t, p...)
	if len(*t) > 2*maxTail {
		*t = append((*t)[:0], t.bytes()...)
	}
	return len(p), nil
}

func (t tail) bytes() []byte { return t[max(0, len(t)-maxTail):] }

// Output runs a short command and returns what it printed to stdout, up to 8 MiB.
// If it fails the error is an [*ExitError] with what it printed to stderr.
func (t *Target) Output(ctx context.Context, c command.Command) ([]byte, error) {
	return t.output(ctx, c, maxOutput)
}

func (t *Target) output(ctx context.Context, c command.Command, limit int) ([]byte, error) {
	out := &bounded{limit: limit}
	var stderr tail
	err := t.once(ctx, func(conn *conn) error {
		return conn.exec(ctx, c.String(), strings.NewReader(c.Stdin), out, &stderr)
	})
	if out.over != nil {
		return nil, fmt.Errorf("%s: %q %w", t, name(c), out.over)
	}
	return out.Bytes(), t.explain(name(c), err, stderr)
}

// Pipe runs c with stdin in place of c.Stdin and calls out, one call at a time,
// for each line that it prints to stdout or stderr; lines are as [Target.Run] makes
// them. A Read of stdin that blocks may outlive the call.
func (t *Target) Pipe(ctx context.Context, c command.Command, stdin io.Reader, out func(line string)) error {
	var (
		mu      sync.Mutex
		printed tail
	)
	line := func(l string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(&printed, l)
		out(l)
	}
	stdout, stderr := &splitter{line: line}, &splitter{line: line}
	err := t.once(ctx, func(conn *conn) error {
		return conn.exec(ctx, c.String(), stdin, stdout, stderr)
	})
	stdout.end()
	stderr.end()
	return t.explain(name(c), err, printed)
}

// explain names the machine and makes an ExitError of a command's failure.
func (t *Target) explain(name string, err error, printed tail) error {
	if err == nil {
		return nil
	}
	var exit *ssh.ExitError
	if errors.As(err, &exit) {
		err = &ExitError{Name: name, Status: exit.ExitStatus(), Killed: exit.Signal(), Output: printed.bytes()}
	}
	return fmt.Errorf("%s: %w", t, err)
}

func name(c command.Command) string {
	if len(c.Argv) == 0 {
		return ""
	}
	return c.Argv[0]
}

// ReadFile returns the content of a file of at most limit bytes. The error for a
// file that is not there is [fs.ErrNotExist].
func (t *Target) ReadFile(ctx context.Context, path string, limit int64) ([]byte, error) {
	var content []byte
	err := t.once(ctx, func(c *conn) error {
		return c.sftp(ctx, func(s *sftp.Client) error {
			f, err := s.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			content, err = readAll(f, limit)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("%s: read %q: %w", t, path, err)
	}
	return content, nil
}

// readAll reads large pieces: each read is a round trip, and a file in /proc or
// /sys does not tell its size.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	var content bytes.Buffer
	piece := make([]byte, min(limit+1, 256<<10))
	if _, err := io.CopyBuffer(struct{ io.Writer }{&content}, struct{ io.Reader }{io.LimitReader(r, limit+1)}, piece); err != nil {
		return nil, err
	}
	if int64(content.Len()) > limit {
		return nil, fmt.Errorf("larger than %d bytes", limit)
	}
	return content.Bytes(), nil
}
