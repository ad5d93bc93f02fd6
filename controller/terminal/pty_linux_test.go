package terminal

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pty returns a terminal of the given size and the end that its user sits at.
func pty(t *testing.T, columns, lines uint16) (tty, user *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	user = os.NewFile(uintptr(fd), "ptmx")
	t.Cleanup(func() { user.Close() })
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: lines, Col: columns}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TERM", "xterm")
	return tty, user
}

func echo(t *testing.T, tty *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// expect reads what the terminal shows until text has come, and returns it all.
func expect(t *testing.T, user io.Reader, text string) string {
	t.Helper()
	var seen strings.Builder
	for b := make([]byte, 1); !strings.HasSuffix(seen.String(), text); {
		if _, err := user.Read(b); err != nil {
			t.Fatalf("after %q: %v", seen.String(), err)
		}
		seen.Write(b)
	}
	return seen.String()
}

func TestAsk(t *testing.T) {
	tty, user := pty(t, 80, 24)
	for typed, want := range map[string]string{"  nvme0n1 \n": "nvme0n1", "\n": "", "ab\x7fc\n": "ac"} {
		io.WriteString(user, typed+"next\n")
		got, err := Ask(t.Context(), tty, tty, "disk? ")
		if err != nil || got != want {
			t.Errorf("typed %q: got %q, %v, want %q", typed, got, err, want)
		}
		if got, err := Ask(t.Context(), tty, io.Discard, ""); got != "next" {
			t.Errorf("typed %q: the next line is %q, %v", typed, got, err)
		}
	}
	io.WriteString(user, "\x04") // Ctrl-D
	if got, err := Ask(t.Context(), tty, tty, "disk? "); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("end of input: got %q, %v", got, err)
	}
}

func TestSecret(t *testing.T) {
	tty, user := pty(t, 80, 24)
	type answer struct {
		secret []byte
		err    error
	}
	answers := make(chan answer)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ask := func() {
		secret, err := Secret(ctx, tty, tty, "passphrase: ")
		answers <- answer{secret, err}
	}
	go ask()
	expect(t, user, "passphrase: ")
	for echo(t, tty) {
		runtime.Gosched() // Secret turns it off right after the prompt
	}
	io.WriteString(user, " s3cret \n")
	if a := <-answers; a.err != nil || string(a.secret) != " s3cret " {
		t.Errorf("got %q, %v", a.secret, a.err)
	}
	if got := expect(t, user, "\n"); strings.Contains(got, "s3cret") {
		t.Errorf("the terminal shows %q", got)
	}
	if !echo(t, tty) {
		t.Error("echo is still off")
	}

	go ask()
	expect(t, user, "passphrase: ")
	for echo(t, tty) {
		runtime.Gosched()
	}
	cancel()
	if a := <-answers; !errors.Is(a.err, context.Canceled) || a.secret != nil {
		t.Errorf("cancelled: got %q, %v", a.secret, a.err)
	}
	if !echo(t, tty) {
		t.Error("after an interruption echo is still off")
	}
	io.WriteString(user, "\n") // ends the read that is still waiting
}

func TestQuestionsNeedATerminal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	io.WriteString(w, "yes\n")
	w.Close()
	for _, in := range []io.Reader{r, strings.NewReader("yes\n")} {
		var out bytes.Buffer
		_, err := Ask(t.Context(), in, &out, "sure? ")
		_, err2 := Secret(t.Context(), in, &out, "secret? ")
		if !errors.Is(err, ErrNotTerminal) || !errors.Is(err2, ErrNotTerminal) || out.Len() != 0 {
			t.Errorf("%T: got %v and %v after %q, want ErrNotTerminal at once", in, err, err2, out.String())
		}
	}
}

func TestAskStops(t *testing.T) {
	tty, user := pty(t, 80, 24)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := Ask(ctx, tty, tty, "sure? ")
		done <- err
	}()
	expect(t, user, "sure? ")
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want it cancelled", err)
	}
	io.WriteString(user, "\n")
	if got, err := Ask(ctx, tty, tty, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("got %q, %v with a context that is done", got, err)
	}
}

func TestReadLineIsBounded(t *testing.T) {
	endless := bufio.NewReader(zeros{})
	if _, err := readLine(endless); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("got %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestDetect(t *testing.T) {
	tty, _ := pty(t, 80, 24)
	full := Screen{Interactive: true, Colour: true, Width: 80, Height: 24}
	plain := full
	plain.Colour = false
	check := func(name string, got, want Screen) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
	t.Setenv("NO_COLOR", "")
	check("terminal", Detect(tty, false), full)
	check("--no-color", Detect(tty, true), plain)
	check("buffer", Detect(&bytes.Buffer{}, false), Screen{})
	t.Setenv("NO_COLOR", "1")
	check("NO_COLOR", Detect(tty, false), plain)
	t.Setenv("TERM", "dumb")
	check("dumb", Detect(tty, false), Screen{})
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	t.Setenv("TERM", "xterm")
	check("file", Detect(file, false), Screen{})
}

// TestLiveOnTerminal runs a block on a real one, which shrinks in between.
func TestLiveOnTerminal(t *testing.T) {
	tty, user := pty(t, 20, 5)
	l := NewLive(tty, true)
	l.Set([]string{"a line of more than twenty columns", "b", "c", "d", "e", "f"})
	l.Print("stays")
	if err := unix.IoctlSetWinsize(int(user.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 5, Col: 10}); err != nil {
		t.Fatal(err)
	}
	l.Set([]string{Paint(Red, "a line of more than ten columns")})
	l.Close()
	l.Print("closed")
	io.WriteString(tty, "end")
	s := &screen{t: t, height: 5}
	s.write(expect(t, user, "end"))
	if got, want := s.String(), "stays\nclosed\nend"; got != want {
		t.Errorf("the screen shows\n%s\nwant\n%s", got, want)
	}
}
