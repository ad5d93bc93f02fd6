// Gen makes the table of package oui from the CSV files of the IEEE
// Registration Authority, as Debian's package ieee-data installs them.
//
//	gen -o table.gz /usr/share/ieee-data
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// files are read in this order; the first to name a block wins.
var files = []string{"oui.csv", "mam.csv", "oui36.csv", "iab.csv"}

// digits are the lengths of the assignments in hexadecimal digits, in the order
// that package oui looks blocks up.
var digits = []int{9, 7, 6}

func main() {
	out := flag.String("o", "table.gz", "`file` to write")
	flag.Parse()
	if err := run(*out, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(out, dir string) error {
	makers := make(map[string]string)
	for _, name := range files {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		err = read(makers, f)
		f.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	if err := write(z, makers); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile(out, packed.Bytes(), 0o644)
}

// read adds one listing to makers, a map of assignments in hexadecimal to names.
func read(makers map[string]string, r io.Reader) error {
	rows := csv.NewReader(r)
	if _, err := rows.Read(); err != nil { // the header
		return err
	}
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(row) < 3 {
			return fmt.Errorf("row %q: want at least 3 columns", row)
		}
		block, name := strings.ToLower(row[1]), strings.Join(strings.Fields(row[2]), " ")
		if _, ok := makers[block]; !ok && named(name) {
			makers[block] = name
		}
	}
}

// named reports whether name is that of a maker. The authority itself stands
// for blocks that were given away in parts.
func named(name string) bool {
	return name != "" && name != "Private" && name != "IEEE Registration Authority"
}

// write encodes makers as the comment of decode in package oui says.
func write(w io.Writer, makers map[string]string) error {
	names := slices.Compact(slices.Sorted(maps.Values(makers)))
	data := []byte(strings.Join(names, "\n") + "\n\n")
	for _, n := range digits {
		blocks := slices.DeleteFunc(slices.Sorted(maps.Keys(makers)), func(b string) bool { return len(b) != n })
		data = binary.AppendUvarint(data, uint64(len(blocks)))
		var last uint64
		for _, b := range blocks {
			prefix, err := strconv.ParseUint(b, 16, 64)
			if err != nil {
				return fmt.Errorf("assignment %q: %w", b, err)
			}
			data = binary.AppendUvarint(data, prefix-last)
			last = prefix
		}
		for _, b := range blocks {
			i, _ := slices.BinarySearch(names, makers[b])
			data = binary.AppendUvarint(data, uint64(i))
		}
	}
	_, err := w.Write(data)
	return err
}
