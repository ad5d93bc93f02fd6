package main

import (
	"bytes"
	"strings"
	"testing"
)

const listing = `Registry,Assignment,Organization Name,Organization Address
MA-L,00000A,Omron  Tateisi,"Kyoto, JP"
MA-L,00000C,"Cisco Systems, Inc",US
MA-L,00000D,Private,
MA-M,00000E1,Omron Tateisi,JP
`

func TestWrite(t *testing.T) {
	makers := make(map[string]string)
	if err := read(makers, strings.NewReader(listing)); err != nil {
		t.Fatal(err)
	}
	if err := read(makers, strings.NewReader("header\nMA-L,00000A,Later,\n")); err == nil {
		t.Error("a listing with rows of different lengths was taken")
	}
	var got bytes.Buffer
	if err := write(&got, makers); err != nil {
		t.Fatal(err)
	}
	want := "Cisco Systems, Inc\nOmron Tateisi\n\n" + // the makers
		"\x00" + // no block of 36 bits
		"\x01\xe1\x01\x01" + // one of 28 bits, 0x00000e1
		"\x02\x0a\x02\x01\x00" // two of 24 bits, 0x00000a and two further on
	if got.String() != want {
		t.Errorf("write = %q, want %q", &got, want)
	}
}

func TestRefuses(t *testing.T) {
	if err := read(map[string]string{}, strings.NewReader("a,b\nc,d\n")); err == nil {
		t.Error("read took a row of two columns")
	}
	if err := write(&bytes.Buffer{}, map[string]string{"00000g": "x"}); err == nil {
		t.Error("write took an assignment that is not hexadecimal")
	}
	if err := run(t.TempDir()+"/out", t.TempDir()); err == nil {
		t.Error("run took an empty folder")
	}
}
