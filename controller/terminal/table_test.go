package terminal

import (
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	fill := func(table Table) string {
		table.Header = []string{"NAME", "MODEL", "ADDRESS"}
		table.Add("web1", "ThinkCentre M75q Gen 2", "10.77.0.5")
		table.Add("日本", "", "fe80::1%eth0")
		table.Add("x\x1b[2J", "short")
		return strings.Join(table.Lines(), "\n")
	}
	mark := func(column int, cell string) Style {
		if column == 0 && cell == "web1" {
			return Green
		}
		return Normal
	}
	for name, c := range map[string]struct {
		table Table
		want  string
	}{
		"file": {Table{}, `
NAME   MODEL                   ADDRESS
web1   ThinkCentre M75q Gen 2  10.77.0.5
日本                           fe80::1%eth0
x�[2J  short`},
		"narrow": {Table{Width: 32}, `
NAME   MODEL        ADDRESS
web1   ThinkCentr…  10.77.0.5
日本                fe80::1%eth0
x�[2J  short`},
		"too narrow": {Table{Width: 15}, `
NAME   MODEL  …
web1   Think… …
日本          …
x�[2J  short`},
		"color": {Table{Color: true, Style: mark}, strings.NewReplacer("<", "\x1b[1m", "{", "\x1b[32m", ">", "\x1b[0m").Replace(`
<NAME>   <MODEL>                   <ADDRESS>
{web1>   ThinkCentre M75q Gen 2  10.77.0.5
日本                           fe80::1%eth0
x�[2J  short`)},
	} {
		got := "\n" + fill(c.table)
		if got != c.want {
			t.Errorf("%s: got %s\nwant %s", name, got, c.want)
		}
		for _, line := range strings.Split(got, "\n") {
			if w := c.table.Width; w > 0 && Columns(line) > w {
				t.Errorf("%s: %q is %d columns wide", name, line, Columns(line))
			}
		}
	}
	if lines := (&Table{Header: []string{"A"}}).Lines(); len(lines) != 1 {
		t.Errorf("a table without rows has lines %q, want its header", lines)
	}
}
