package terminal

import "strings"

// A Table is lines of cells under a header.
type Table struct {
	Header []string
	Width  int  // of the terminal, in columns; 0 to cut nothing
	Color  bool // print the header and styled cells so

	// Style tells how a cell looks. Nil means that none is special.
	Style func(column int, cell string) Style

	rows [][]string
}

const (
	gap       = 2 // blanks between columns
	minColumn = 6 // a narrower column would tell nothing
)

// Add adds a row. Its cells are sanitized when they are shown.
func (t *Table) Add(cells ...string) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = Sanitize(c)
	}
	t.rows = append(t.rows, row)
}

// Lines returns the header and the rows, aligned, the widest columns cut where the
// lines would be too long.
func (t *Table) Lines() []string {
	widths := fit(widths(append([][]string{t.Header}, t.rows...)), t.Width)
	lines := []string{t.line(t.Header, widths, func(int, string) Style { return Bold })}
	style := t.Style
	if style == nil {
		style = func(int, string) Style { return Normal }
	}
	for _, row := range t.rows {
		lines = append(lines, t.line(row, widths, style))
	}
	return lines
}

// widths returns the columns that the widest cell of each column takes.
func widths(rows [][]string) (widths []int) {
	for _, row := range rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], Columns(c))
		}
	}
	return widths
}

// fit narrows the widest of widths until a line fits into total columns, or until all
// are as narrow as they may be.
func fit(widths []int, total int) []int {
	sum := gap * (len(widths) - 1)
	for _, w := range widths {
		sum += w
	}
	for ; total > 0 && sum > total; sum-- {
		widest := 0
		for i, w := range widths {
			if w > widths[widest] {
				widest = i
			}
		}
		if widths[widest] <= minColumn {
			break
		}
		widths[widest]--
	}
	return widths
}

func (t *Table) line(row []string, widths []int, style func(int, string) Style) string {
	var b strings.Builder
	pad := 0
	for i, c := range row {
		text := Cut(c, widths[i])
		if text == "" {
			pad += widths[i] + gap
			continue
		}
		b.WriteString(strings.Repeat(" ", pad)) // before text only: no line ends in blanks
		pad = widths[i] - Columns(text) + gap
		if t.Color {
			text = Paint(style(i, c), text)
		}
		b.WriteString(text)
	}
	return Cut(b.String(), t.Width)
}
