// Package terminal shows results and progress to a person and asks them questions.
//
// What is drawn is computed by pure functions and written in one place. Redrawing and
// questions need a terminal; elsewhere, as in a pipe or a log, the same calls give
// plain lines. Names, models and messages of other machines can hold anything:
// [Table] and [Live] let no control character through but the styles that [Paint]
// writes, and all other text from outside must pass through [Sanitize].
package terminal

import (
	"io"
	"os"

	"golang.org/x/term"
)

// A Screen is what is known of the place where output goes. The zero value is a file
// or a pipe.
type Screen struct {
	Interactive   bool // a terminal that can move its cursor
	Colour        bool // styles are shown
	Width, Height int  // in columns and lines; 0 if unknown, and then nothing is cut
}

// Detect looks at where w leads. Colours need a terminal, and the caller can turn them
// off, as NO_COLOR does (https://no-color.org).
func Detect(w io.Writer, noColour bool) Screen {
	fd, ok := terminal(w)
	if !ok || os.Getenv("TERM") == "dumb" {
		return Screen{}
	}
	s := Screen{Interactive: true, Colour: !noColour && os.Getenv("NO_COLOR") == ""}
	if width, height, err := term.GetSize(fd); err == nil {
		s.Width, s.Height = width, height
	}
	return s
}

// terminal returns the descriptor of stream, an io.Reader or io.Writer, if that is a
// terminal. A buffer in a test, say, is none.
func terminal(stream any) (fd int, ok bool) {
	f, ok := stream.(interface{ Fd() uintptr })
	if !ok {
		return 0, false
	}
	return int(f.Fd()), term.IsTerminal(int(f.Fd()))
}
