package terminal

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
)

// A Live is a block of lines at the end of the output that is drawn again and again,
// below lines that stay. Where there is no terminal only the lines that stay are
// written, so whatever a log has to tell must be printed. The methods may be called
// from several goroutines. Errors of writing are ignored: progress that nobody can
// read must not stop the work.
type Live struct {
	w      io.Writer
	screen func() Screen // people resize their terminals

	mu    sync.Mutex
	block []string // as it was set
	drawn int      // lines of it that are on the screen
}

// NewLive returns a block at the end of what is written to w, which is looked at as
// [Detect] does, each time anew.
func NewLive(w io.Writer, noColour bool) *Live {
	return &Live{w: w, screen: func() Screen { return Detect(w, noColour) }}
}

// Screen returns what the block is drawn on.
func (l *Live) Screen() Screen { return l.screen() }

// Set replaces the block. Lines that are too long are cut; if there are too many the
// last one says how many more there are.
func (l *Live) Set(lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.block = slices.Clone(lines)
	l.redraw(nil)
}

// Print writes lines that stay, above the block.
func (l *Live) Print(lines ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.redraw(lines)
}

// Close removes the block. To keep it, the whole of it, Print it then.
func (l *Live) Close() { l.Set(nil) }

// redraw writes lines that stay, and the block anew.
func (l *Live) redraw(stay []string) {
	s := l.screen()
	text, drawn := "", 0
	if s.Interactive {
		block := clip(l.block, s)
		text, drawn = s.frame(l.drawn, slices.Concat(stay, block)), len(block)
	} else {
		for _, line := range stay {
			text += s.clean(line) + "\n"
		}
	}
	// One write for the whole, so that no half of it is ever seen.
	io.WriteString(l.w, text)
	l.drawn = drawn
}

// clip returns as much of block as fits on s, with one line to spare for the cursor.
// A line that wraps would be two, so none does.
func clip(block []string, s Screen) []string {
	room := len(block)
	if s.Height > 1 {
		room = min(room, s.Height-1)
	}
	shown := make([]string, room)
	for i := range shown {
		shown[i] = Cut(s.clean(block[i]), s.Width)
	}
	if room < len(block) {
		shown[room-1] = Cut(fmt.Sprintf("… %d more", len(block)-room+1), s.Width)
	}
	return shown
}

// frame returns what makes s show lines in place of the old ones above its cursor.
// Lines are overwritten rather than erased first, so that nothing flickers.
func (s Screen) frame(old int, lines []string) string {
	var b strings.Builder
	if old > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", old)
	}
	b.WriteString("\r")
	for _, line := range lines {
		b.WriteString(s.clean(line) + "\x1b[K\n")
	}
	b.WriteString("\x1b[J")
	return b.String()
}
