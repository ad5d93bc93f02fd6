package terminal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/term"
)

// ErrNotTerminal is returned where a person is to be asked but there is only a file,
// a pipe or nothing to read from. A confirmation must never come from such.
var ErrNotTerminal = errors.New("standard input is not a terminal")

// maxAnswer bounds what is read of an answer: a terminal's own line has 4096 bytes.
const maxAnswer = 4096

// Ask prints prompt to out and returns the line that is typed at in, without blanks
// around it. No line, as after Ctrl-D, is io.ErrUnexpectedEOF.
//
// When ctx is done Ask returns at once, but the terminal is still being read: the
// program is expected to end, or one more line is lost.
func Ask(ctx context.Context, in io.Reader, out io.Writer, prompt string) (string, error) {
	if _, ok := terminal(in); !ok {
		return "", ErrNotTerminal
	}
	if _, err := io.WriteString(out, prompt); err != nil {
		return "", err
	}
	answer, err := await(ctx, func() ([]byte, error) { return readLine(in) })
	return strings.TrimSpace(string(answer)), err
}

// Secret is like [Ask] for what must not be seen: nothing that is typed is shown, and
// blanks are kept. However it returns, the terminal is then as it was before.
func Secret(ctx context.Context, in io.Reader, out io.Writer, prompt string) ([]byte, error) {
	fd, ok := terminal(in)
	if !ok {
		return nil, ErrNotTerminal
	}
	before, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	defer term.Restore(fd, before) // ReadPassword does it only once it has read a line
	if _, err := io.WriteString(out, prompt); err != nil {
		return nil, err
	}
	secret, err := await(ctx, func() ([]byte, error) { return term.ReadPassword(fd) })
	fmt.Fprintln(out) // the line feed that was typed was not shown either
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return secret, err
}

// await returns what read does, or the reason of ctx if that is done first.
func await(ctx context.Context, read func() ([]byte, error)) ([]byte, error) {
	type result struct {
		line []byte
		err  error
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	done := make(chan result, 1) // a read that nobody waits for any more can end, too
	go func() {
		line, err := read()
		done <- result{line, err}
	}()
	select {
	case r := <-done:
		return r.line, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// readLine reads up to the end of a line and nothing after it.
func readLine(r io.Reader) ([]byte, error) {
	var line []byte
	for b := make([]byte, 1); len(line) <= maxAnswer; {
		n, err := r.Read(b)
		switch {
		case n == 1 && b[0] == '\n':
			return line, nil
		case n == 1:
			line = append(line, b[0])
		case errors.Is(err, io.EOF):
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		}
	}
	return nil, fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
}
