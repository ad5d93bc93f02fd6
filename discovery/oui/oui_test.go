package oui

import (
	"slices"
	"testing"
)

func TestVendor(t *testing.T) {
	tests := []struct{ mac, want string }{
		{"b8:27:eb:12:34:56", "Raspberry Pi Foundation"},
		{"D8-3A-DD-00-00-01", "Raspberry Pi Trading Ltd"}, // assigned after many tables in use were made
		{"00:15:5d:01:02:03", "Microsoft Corporation"},
		{"00:50:c2:00:01:23", "T.L.S. Corp."},     // an IAB, 36 bits
		{"70:b3:d5:f2:f0:01", "TELEPLATFORMS"},    // MA-S, 36 bits
		{"20:85:93:b0:00:01", "IOG Products LLC"}, // MA-M, 28 bits
		{"70:b3:d5:00:00:00", ""},                 // the parts' parent has no maker
		{"52:54:00:12:34:56", "QEMU/KVM"},
		{"02:42:ac:11:00:02", "locally administered"},
		{"ff:ff:ff:ff:ff:ff", ""},
		{"01:00:5e:00:00:fb", ""},
		{"00:00:00:00:00:00:00:01", ""}, // EUI-64
		{"b8:27:eb", ""},
		{"", ""},
	}
	for _, tt := range tests {
		if got := Vendor(tt.mac); got != tt.want {
			t.Errorf("Vendor(%q) = %q, want %q", tt.mac, got, tt.want)
		}
	}
}

func TestTable(t *testing.T) {
	table, err := decode(packed)
	if err != nil {
		t.Fatal(err)
	}
	if len(packed) > 450_000 {
		t.Errorf("the table takes %d bytes of every program", len(packed))
	}
	least := []int{10_000, 6_000, 38_000}
	for i, blocks := range table.blocks {
		if len(blocks) < least[i] {
			t.Errorf("%d blocks of %d bits, want at least %d", len(blocks), lengths[i], least[i])
		}
		for n := 1; n < len(blocks); n++ {
			if blocks[n-1].prefix >= blocks[n].prefix {
				t.Fatalf("blocks of %d bits are not in order at %x", lengths[i], blocks[n].prefix)
			}
		}
	}
	if slices.Contains(table.makers, "") {
		t.Error("a maker without a name")
	}
}

func TestDecodeDamaged(t *testing.T) {
	for _, packed := range [][]byte{nil, packed[:len(packed)/2], []byte("no gzip at all, whatever it is")} {
		if _, err := decode(packed); err == nil {
			t.Errorf("decode took a table cut to %d bytes", len(packed))
		}
	}
}

func BenchmarkVendor(b *testing.B) {
	for b.Loop() {
		Vendor("b8:27:eb:12:34:56")
	}
}

func BenchmarkDecode(b *testing.B) {
	for b.Loop() {
		if _, err := decode(packed); err != nil {
			b.Fatal(err)
		}
	}
}
