// Package oui names the makers of network cards.
//
// The table is made from the public listings of the IEEE Registration
// Authority (MA-L, MA-M, MA-S and IAB) as Debian packages them: ieee-data
// 20260625, 57,000 blocks of 33,000 makers. To renew it, install a newer
// ieee-data and run go generate.
package oui

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
)

//go:generate go run ./gen -o table.gz /usr/share/ieee-data

//go:embed table.gz
var packed []byte

// A block is a range of addresses that one maker has, named by the first bits
// of the addresses in it.
type block struct {
	prefix uint64
	maker  uint32 // index into table.makers
}

// A table holds the blocks in ascending order, apart by the length of their
// prefix: nested blocks are looked up from the longest prefix to the shortest.
type table struct {
	makers []string
	blocks [len(lengths)][]block
}

// lengths are those of the prefixes, in bits: MA-S and IAB, MA-M, MA-L.
var lengths = [...]int{36, 28, 24}

// load unpacks the table once, 10 ms of work. The table is part of the program
// and a test proves that it is whole, so the error has nobody to go to.
var load = sync.OnceValue(func() table {
	t, _ := decode(packed)
	return t
})

// Vendor returns the maker of the network card with address mac, in any
// notation that [net.ParseMAC] takes. Addresses that belong to no maker are
// "locally administered"; those that QEMU hands out are "QEMU/KVM". It returns
// "" for an unknown maker and for what is not the address of one card.
func Vendor(mac string) string {
	hw, err := net.ParseMAC(mac)
	if err != nil || len(hw) != 6 || hw[0]&1 != 0 {
		return ""
	}
	switch {
	case bytes.HasPrefix(hw, []byte{0x52, 0x54, 0x00}):
		return "QEMU/KVM"
	case hw[0]&2 != 0: // IEEE 802-2014 section 8.4, the U/L bit
		return "locally administered"
	}
	return load().find(binary.BigEndian.Uint64(append([]byte{0, 0}, hw...)))
}

func (t table) find(addr uint64) string {
	for i, blocks := range t.blocks {
		n, ok := slices.BinarySearchFunc(blocks, addr>>(48-lengths[i]), func(b block, p uint64) int {
			return int(int64(b.prefix) - int64(p))
		})
		if ok {
			return t.makers[blocks[n].maker]
		}
	}
	return ""
}

var errDamaged = errors.New("damaged table of makers")

// decode reads what gen writes: the makers, one a line, and an empty line; then
// for each of lengths the number of blocks, the distance of each block from the
// one before, and the index of each block's maker, all as unsigned varints.
func decode(packed []byte) (t table, err error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return t, fmt.Errorf("%w: %w", errDamaged, err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		return t, fmt.Errorf("%w: %w", errDamaged, err)
	}
	names, numbers, ok := strings.Cut(string(data), "\n\n")
	if !ok {
		return t, errDamaged
	}
	t.makers = strings.Split(names, "\n")
	r := strings.NewReader(numbers)
	for i := range t.blocks {
		if t.blocks[i], err = readBlocks(r, uint64(len(t.makers))); err != nil {
			return table{}, err
		}
	}
	return t, nil
}

func readBlocks(r *strings.Reader, makers uint64) ([]block, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil || n > uint64(r.Len()) {
		return nil, errDamaged
	}
	blocks := make([]block, n)
	var prefix uint64
	for i := range blocks {
		step, err := binary.ReadUvarint(r)
		if err != nil {
			return nil, errDamaged
		}
		prefix += step
		blocks[i].prefix = prefix
	}
	for i := range blocks {
		maker, err := binary.ReadUvarint(r)
		if err != nil || maker >= makers {
			return nil, errDamaged
		}
		blocks[i].maker = uint32(maker)
	}
	return blocks, nil
}
