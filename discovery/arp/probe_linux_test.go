package arp

import (
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newProber returns a prober whose frames can be read from the other end of a
// socket pair.
func newProber(t *testing.T) (q *prober, sent func() []*parser) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	tx, rx := os.NewFile(uintptr(fds[0]), "tx"), os.NewFile(uintptr(fds[1]), "rx")
	t.Cleanup(func() { tx.Close(); rx.Close() })
	q = &prober{tx: &transmitter{socket: tx, ring: newRing()}, mac: ours, from: 40000, to: 22}
	q.reset()
	return q, func() (list []*parser) {
		if err := q.tx.flush(); err != nil {
			t.Fatal(err)
		}
		for buf := make([]byte, 200); ; {
			n, err := unix.Read(fds[1], buf)
			if err != nil {
				return list
			}
			p := newParser()
			p.verdict(append([]byte(nil), buf[:n]...))
			list = append(list, p)
		}
	}
}

func TestProber(t *testing.T) {
	q, sent := newProber(t)
	now := time.Unix(1, 0)
	p := &probe{addr: host, source: me, mac: theirs}
	if err := q.add(p, now); err != nil {
		t.Fatal(err)
	}
	if s := sent(); len(s) != 1 || !s[0].tcp.SYN || s[0].tcp.Seq != p.seq {
		t.Fatalf("sent %d frames, want one SYN", len(s))
	}
	q.retry(now.Add(synGap-1), 0)
	if s := sent(); len(s) != 0 {
		t.Error("repeated before its time")
	}
	for _, v := range []verdict{{host, p.seq + 1, true}, {me, p.seq, true}} {
		if got, err := q.judge(v); got != nil || err != nil {
			t.Errorf("judge(%+v) = %v, %v, want no probe", v, got, err)
		}
	}
	if got, err := q.judge(verdict{host, p.seq, true}); got != p || err != nil || p.state != open {
		t.Errorf("judge = %+v, %v", got, err)
	}
	if s := sent(); len(s) != 1 || !s[0].tcp.RST || s[0].tcp.Seq != p.seq+1 {
		t.Errorf("sent %d frames, want one RST", len(s))
	}
	if got, _ := q.judge(verdict{host, p.seq, true}); got != nil {
		t.Error("an answer counted twice")
	}
	q.retry(now.Add(time.Hour), 0)
	if s := sent(); len(s) != 0 || len(q.waiting) != 0 {
		t.Error("repeated what was answered")
	}
}

// syns counts SYNs, each but the first of which has an RST before it.
func syns(list []*parser) (n int) {
	for _, p := range list {
		if p.tcp.SYN {
			n++
		}
	}
	return n
}

// TestRepeats counts the SYNs to a filtered port: 3, and more once loss is
// known, also for those that were given up.
func TestRepeats(t *testing.T) {
	q, sent := newProber(t)
	now := time.Unix(1, 0)
	if err := q.add(&probe{addr: host, source: me, mac: theirs}, now); err != nil {
		t.Fatal(err)
	}
	repeat := func(loss float64) {
		for range 50 {
			now = now.Add(synGap)
			if err := q.retry(now, loss); err != nil {
				t.Fatal(err)
			}
		}
	}
	repeat(0)
	if n := syns(sent()); n != leastTries {
		t.Errorf("%d SYNs without loss, want %d", n, leastTries)
	}
	repeat(0.36)
	if n := leastTries + syns(sent()); n != 5 { // 1*0.36^5 = 0.006
		t.Errorf("%d SYNs at a loss of 0.36, want 5", n)
	}
	repeat(0.99)
	if n := 5 + syns(sent()); n != mostSYNs {
		t.Errorf("%d SYNs at a loss of 0.99, want %d", n, mostSYNs)
	}
}

// TestAgain is a host that answers ARP before its SSH server is up.
func TestAgain(t *testing.T) {
	q, sent := newProber(t)
	now := time.Unix(1, 0)
	p := &probe{addr: host, source: me, mac: theirs}
	if err := q.add(p, now); err != nil {
		t.Fatal(err)
	}
	if got, _ := q.judge(verdict{host, p.seq, false}); got != p || p.state != closed {
		t.Fatalf("judge = %+v", got)
	}
	sent()
	for _, tt := range []struct {
		after time.Duration
		want  int
	}{{againGap - 1, 0}, {againGap, 1}, {againGap, 0}} {
		if err := q.again(p, now.Add(tt.after)); err != nil {
			t.Fatal(err)
		}
		if n := len(sent()); n != tt.want {
			t.Errorf("heard %v after a refusal: %d SYNs, want %d", tt.after, n, tt.want)
		}
	}
}

// TestHear believes only whom it asked, and not without end.
func TestHear(t *testing.T) {
	q, sent := newProber(t)
	w := &sweep{mac: ours, prober: q, index: map[netip.Addr]int{host: 0}, targets: []target{{host, me}}, hosts: map[netip.Addr][]*probe{}}
	now := time.Unix(1, 0)
	hear := func(addr netip.Addr, mac hwaddr) int {
		if err := w.hear(neighbor{addr, mac, true}, now); err != nil {
			t.Fatal(err)
		}
		return len(sent())
	}
	if hear(netip.MustParseAddr("10.77.0.12"), theirs) != 0 || hear(host, ours) != 0 {
		t.Error("probed an address that is no target, or ourselves")
	}
	if hear(host, theirs) != 1 || hear(host, theirs) != 0 {
		t.Error("a host is to be probed once")
	}
	n := 0
	for i := range 200 {
		n += hear(host, hwaddr{2, 2, byte(i)})
	}
	if n != maxMACs-1 {
		t.Errorf("%d of 200 more claims to one address were probed, want %d", n, maxMACs-1)
	}
}
