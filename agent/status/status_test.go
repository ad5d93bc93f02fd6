package status

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var web1 = Status{
	Name: "web1", Addresses: []string{"192.0.2.10", "fd00::5054:ff:fe12:3456"}, Port: 22,
	Fingerprint: "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU", Words: "apple-river-stone-tiger",
	State: "ready", Version: "0.1.0",
}

func TestPrint(t *testing.T) {
	var b bytes.Buffer
	if err := Print(&b, web1); err != nil {
		t.Fatal(err)
	}
	want := `
  nixctl installer 0.1.0

  name       web1
  address    192.0.2.10
             fd00::5054:ff:fe12:3456
  state      ready
  host key   SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU
  words      apple-river-stone-tiger

  "nixctl discover" shows the same words for this machine, or it is another one.

`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	for line := range strings.Lines(b.String()) {
		if len(line) > 81 {
			t.Errorf("%d columns: %q", len(line)-1, line)
		}
	}
}

func TestPrintMissing(t *testing.T) {
	var b bytes.Buffer
	if err := Print(&b, Status{Name: "web1", Port: 2222}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"address    none yet", "host key   none yet", "port       2222"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("missing %q in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "words") {
		t.Errorf("words without a key:\n%s", b.String())
	}
}

func TestWatch(t *testing.T) {
	for _, terminal := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			start, looks := time.Now(), 0
			current := func() Status {
				looks++
				s := web1
				if looks > 5 {
					s.State = "installing"
				}
				if looks == 10 {
					cancel()
				}
				return s
			}
			var b bytes.Buffer
			if err := (Screen{W: &b, Terminal: terminal, Every: time.Second}).Watch(ctx, current); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took != 9*time.Second {
				t.Errorf("ten looks took %v", took)
			}
			ready, installing := strings.Count(b.String(), "ready"), strings.Count(b.String(), "installing")
			if ready != 1 || installing != 1 {
				t.Errorf("shown %d and %d times, want once for each state:\n%s", ready, installing, b.String())
			}
			if got := strings.Contains(b.String(), clearScreen); got != terminal {
				t.Errorf("the screen was cleared: %v, want %v", got, terminal)
			}
		})
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("gone") }

func TestWatchBroken(t *testing.T) {
	if err := (Screen{W: broken{}}).Watch(t.Context(), func() Status { return web1 }); err == nil {
		t.Error("no error when the screen is gone")
	}
}
