package vm

import (
	"bufio"
	"errors"
	"io"
	"regexp"
)

const (
	troubleLine = 4096 // bytes of one line that are looked at
	troubleMax  = 100  // lines that are returned
)

// trouble matches what a dying kernel or Go program prints, but not the
// "panic=10" of a kernel command line.
var trouble = regexp.MustCompile(`\bOops\b|\bpanic(:| -)|\bBUG:|double fault|general protection`)

// Trouble returns the lines of a serial log that tell of a crash in the
// guest: a test that ends well in spite of them was lucky. Lines are cut and
// their number is bounded, since the guest decides what is in the log.
func Trouble(serialLog io.Reader) ([]string, error) {
	var found []string
	for r := bufio.NewReaderSize(serialLog, troubleLine); len(found) < troubleMax; {
		line, more, err := r.ReadLine()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return found, err
		}
		if trouble.Match(line) {
			found = append(found, string(line))
		}
		for more && err == nil {
			_, more, err = r.ReadLine()
		}
	}
	return found, nil
}
