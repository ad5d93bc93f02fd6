package vm

import (
	"context"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestTrouble(t *testing.T) {
	long := strings.Repeat("x", 3*troubleLine)
	log := "Linux version 6.12 panic=10\r\n" +
		"[ 1.0] Oops: 0002 [#1]\r\n" + "all is well\n" + long + "\nKernel panic - not syncing: init\n" +
		"BUG: unable to handle\n" + "traps: ssh general protection fault\n" + "PANIC: double fault\n" + "panic: runtime error\n" + "nopanic\nDEBUG: x"
	got, err := Trouble(strings.NewReader(log))
	want := []string{"[ 1.0] Oops: 0002 [#1]", "Kernel panic - not syncing: init", "BUG: unable to handle",
		"traps: ssh general protection fault", "PANIC: double fault", "panic: runtime error"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

func FuzzTrouble(f *testing.F) {
	f.Add("Oops\n" + strings.Repeat("BUG: ", 2000) + "\n\n")
	f.Fuzz(func(t *testing.T, log string) {
		found, err := Trouble(strings.NewReader(log))
		if err != nil || len(found) > troubleMax {
			t.Fatalf("%d lines, %v", len(found), err)
		}
		for _, l := range found {
			if len(l) > troubleLine || !strings.Contains(log, l) {
				t.Fatalf("line %q is too long or not in the log", l)
			}
		}
	})
}

// FuzzMonitor has a QEMU that says anything: a command must end, one way or
// the other.
func FuzzMonitor(f *testing.F) {
	const greeting = `{"QMP": {"version": {}}}` + "\n"
	f.Add(greeting + `{"return": {}, "id": 1}` + "\n" + `{"event": "STOP"}` + "\n" + `{"return": {"status": "running"}, "id": 2}` + "\n")
	f.Add(greeting + `{"error": {"desc": "no"}, "id": 1}` + "\n")
	f.Add(greeting + `{"return": null, "id": 1}` + "\n" + `{"id": 99}` + "\n" + `{"return": 7, "id": 2}`)
	f.Add("null\n{}\nHTTP/1.1 400\n")
	f.Fuzz(func(t *testing.T, said string) {
		l, err := net.Listen("unix", filepath.Join(t.TempDir(), "qmp"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			c.Write([]byte(said))
			c.(*net.UnixConn).CloseWrite()
			c.Read(make([]byte, 1000))
		}()
		q, err := dial(context.Background(), l.Addr().String(), func(Event) {})
		if err != nil {
			return
		}
		var s struct{ Status string }
		q.do(context.Background(), "query-status", nil, &s)
		<-q.ended
	})
}

func TestMonitorLineBound(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "qmp"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	closed := make(chan error)
	go func() {
		c, err := l.Accept()
		for b := make([]byte, 1<<16); err == nil; {
			_, err = c.Write(b)
		}
		closed <- err
	}()
	if _, err := dial(t.Context(), l.Addr().String(), func(Event) {}); err == nil {
		t.Error("attached to an endless line")
	}
	<-closed
}
