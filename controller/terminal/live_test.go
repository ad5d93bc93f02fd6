package terminal

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
)

// screen is as much of a terminal as a frame needs.
type screen struct {
	t        *testing.T
	height   int
	lines    [][]rune
	row, col int
}

func (s *screen) write(text string) {
	s.t.Helper()
	for text != "" {
		var n int
		switch {
		case strings.HasPrefix(text, "\x1b[K"):
			s.line()
			s.lines[s.row] = s.lines[s.row][:s.col]
			text = text[3:]
		case strings.HasPrefix(text, "\x1b[J"):
			s.line()
			s.lines = s.lines[:s.row+1]
			s.lines[s.row] = s.lines[s.row][:s.col]
			text = text[3:]
		case strings.HasPrefix(text, "\x1b["):
			if _, err := fmt.Sscanf(text, "\x1b[%dA", &n); err != nil || n < 1 || n > s.height-1 || n > s.row {
				s.t.Fatalf("%q in row %d of a screen of %d lines: %v", text, s.row, s.height, err)
			}
			s.row -= n
			text = text[strings.IndexByte(text, 'A')+1:]
		default:
			r := []rune(text)[0]
			s.put(r)
			text = text[len(string(r)):]
		}
	}
}

func (s *screen) line() {
	for len(s.lines) <= s.row {
		s.lines = append(s.lines, nil)
	}
}

func (s *screen) put(r rune) {
	switch s.line(); r {
	case '\r':
		s.col = 0
	case '\n':
		s.row, s.col = s.row+1, 0
	default:
		s.lines[s.row] = append(s.lines[s.row][:s.col], append([]rune{r}, s.lines[s.row][min(s.col+1, len(s.lines[s.row])):]...)...)
		s.col++
	}
}

func (s *screen) String() string {
	lines := make([]string, len(s.lines))
	for i, l := range s.lines {
		lines[i] = string(l)
	}
	return strings.Join(lines, "\n")
}

// live returns a block on a terminal of the given size, and what is written to it.
func live(columns, lines int) (*Live, *bytes.Buffer) {
	var b bytes.Buffer
	s := Screen{Interactive: true, Colour: true, Width: columns, Height: lines}
	return &Live{w: &b, screen: func() Screen { return s }}, &b
}

// TestLive does at random what programs do, and compares the screen with what should
// be on it after each.
func TestLive(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		l, b := live(12, 6)
		s := &screen{t: t, height: 6}
		var stays, block []string
		for step := range 20 {
			switch r.IntN(4) {
			case 0:
				stays = append(stays, fmt.Sprint("stays ", step, " with a long tail"))
				l.Print(stays[len(stays)-1])
			case 1:
				block = nil
				l.Close()
			default:
				block = nil
				for i := range r.IntN(8) {
					block = append(block, fmt.Sprint(step, "/", i, strings.Repeat("x", r.IntN(12))))
				}
				l.Set(block)
			}
			s.write(b.String())
			b.Reset()
			want := append(append([]string{}, stays...), clip(block, l.Screen())...)
			if got := s.String(); got != strings.Join(append(want, ""), "\n") {
				t.Fatalf("step %d: the screen shows\n%s\nwant\n%s", step, got, strings.Join(want, "\n"))
			}
		}
	}
}

func TestClip(t *testing.T) {
	block := []string{"one", "two", "three", "a very long line"}
	for _, c := range []struct {
		columns, lines int
		want           string
	}{
		{0, 0, "one|two|three|a very long line"},
		{8, 5, "one|two|three|a very …"},
		{80, 4, "one|two|… 2 more"},
		{80, 2, "… 4 more"},
		{80, 1, "one|two|three|a very long line"}, // no screen is like that
		{5, 3, "one|… 3 …"},
	} {
		if got := strings.Join(clip(block, Screen{Width: c.columns, Height: c.lines}), "|"); got != c.want {
			t.Errorf("clip to %dx%d: got %q, want %q", c.columns, c.lines, got, c.want)
		}
	}
	if got := clip(nil, Screen{Width: 80, Height: 24}); len(got) != 0 {
		t.Errorf("got %q of nothing", got)
	}
}

func TestLiveElsewhere(t *testing.T) {
	var b bytes.Buffer
	l := NewLive(&b, false)
	l.Set([]string{"never seen"})
	l.Print("begun")
	l.Set([]string{"never seen"})
	l.Close()
	l.Print(Paint(Red, "result"), "of \x1b]0;it\a")
	if got, want := b.String(), "begun\nresult\nof �]0;it�\n"; got != want || l.Screen() != (Screen{}) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLiveSanitizes(t *testing.T) {
	l, b := live(80, 24)
	l.Print("output\x1b[5A\x1b]52;c;x\a")
	l.Set([]string{Paint(Red, "bad") + "\r\x1b[?25l"})
	l.Close()
	want := "\routput�[5A�]52;c;x�\x1b[K\n\x1b[J" +
		"\r\x1b[31mbad\x1b[0m �[?25l\x1b[K\n\x1b[J" +
		"\x1b[1A\r\x1b[J"
	if b.String() != want {
		t.Errorf("got  %q\nwant %q", b.String(), want)
	}
}

func TestLiveFromManyGoroutines(t *testing.T) {
	l, b := live(80, 24)
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			l.Set([]string{fmt.Sprint("at ", i)})
			l.Print(fmt.Sprint("line ", i))
		})
	}
	wg.Wait()
	l.Close()
	s := &screen{t: t, height: 24}
	s.write(b.String())
	for i := range 10 {
		if got := strings.Count(s.String(), fmt.Sprint("line ", i, "\n")); got != 1 {
			t.Errorf("line %d is on the screen %d times", i, got)
		}
	}
}
