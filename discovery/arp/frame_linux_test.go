package arp

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"golang.org/x/net/bpf"
)

var (
	ours   = hwaddr{0x02, 0, 0, 0, 0, 0x01}
	theirs = hwaddr{0xb8, 0x27, 0xeb, 0, 0, 0x02}
	me     = netip.MustParseAddr("10.77.0.1")
	host   = netip.MustParseAddr("10.77.0.11")
)

// bytesOf reads frames as tcpdump -xx prints them.
func bytesOf(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	arpRequest = "ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 0a4d0001 000000000000 0a4d000b"
	arpReply   = "020000000001 b827eb000002 0806 0001 0800 06 04 0002 b827eb000002 0a4d000b 020000000001 0a4d0001"
	arpAnnounc = "ffffffffffff b827eb000002 0806 0001 0800 06 04 0001 b827eb000002 0a4d000b 000000000000 0a4d000b"
	arpProbe   = "ffffffffffff b827eb000002 0806 0001 0800 06 04 0001 b827eb000002 00000000 000000000000 0a4d000b"
	ether      = "020000000001 b827eb000002 0800"
	padding    = "000000000000"
	ipv4       = "4500 002c 0000 4000 4006 2680 0a4d000b 0a4d0001"
	synAck     = ether + ipv4 + "0016 9c40 0000beef 00000064 6012 faf0 0000 0000 020405b4"
	rstAck     = ether + ipv4 + "0016 9c40 00000000 00000064 6014 0000 0000 0000 020405b4"
	optionsIP  = ether + "4600 0030 0000 4000 4006 2680 0a4d000b 0a4d0001 01010101 0016 9c40 0000beef 00000064 6012 faf0 0000 0000 020405b4"
)

func TestRequest(t *testing.T) {
	got, err := request(ours, me)
	if err != nil {
		t.Fatal(err)
	}
	setTarget(got, host)
	if want := append(bytesOf(t, arpRequest), make([]byte, 18)...); !bytes.Equal(got, want) { // 60 bytes, the least on Ethernet
		t.Errorf("request\n%x, want\n%x", got, want)
	}
}

func TestNeighbor(t *testing.T) {
	p := newParser()
	for _, tt := range []struct {
		name, frame string
		ok          bool
		want        neighbor
	}{
		{"reply", arpReply, true, neighbor{host, theirs, true}},
		{"padded", arpReply + padding, true, neighbor{host, theirs, true}},
		{"request", arpRequest, true, neighbor{me, ours, false}},
		{"announcement", arpAnnounc, true, neighbor{host, theirs, false}},
		{"probe of who has no address", arpProbe, false, neighbor{}},
		{"multicast sender", strings.Replace(arpReply, "0002 b827eb000002", "0002 b927eb000002", 1), false, neighbor{}},
		{"zero sender", strings.Replace(arpReply, "0002 b827eb000002", "0002 000000000000", 1), false, neighbor{}},
		{"reverse ARP", strings.Replace(arpReply, "04 0002", "04 0004", 1), false, neighbor{}},
		{"not Ethernet", strings.Replace(arpReply, "0001 0800 06", "0006 0800 06", 1), false, neighbor{}},
		{"addresses of 8 and 2 bytes", strings.Replace(arpReply, "06 04 0002", "08 02 0002", 1), false, neighbor{}},
		{"addresses of 255 bytes", strings.Replace(arpReply, "06 04 0002", "ff ff 0002", 1), false, neighbor{}},
		{"TCP", synAck, false, neighbor{}},
		{"cut", strings.TrimSuffix(arpReply, "0a4d0001"), false, neighbor{}},
		{"empty", "", false, neighbor{}},
	} {
		got, ok := p.neighbor(bytesOf(t, tt.frame))
		if ok != tt.ok || ok && got != tt.want {
			t.Errorf("%s: %+v, %v; want %+v, %v", tt.name, got, ok, tt.want, tt.ok)
		}
	}
}

func TestVerdict(t *testing.T) {
	p := newParser()
	for _, tt := range []struct {
		name, frame string
		ok          bool
		want        verdict
	}{
		{"open", synAck, true, verdict{host, 99, true}},
		{"IP options", optionsIP, true, verdict{host, 99, true}},
		{"closed", rstAck, true, verdict{host, 99, false}},
		{"SYN", strings.Replace(synAck, "6012", "6002", 1), false, verdict{}},
		{"RST without ACK", strings.Replace(rstAck, "6014", "6004", 1), false, verdict{}},
		{"data", strings.Replace(synAck, "6012", "6018", 1), false, verdict{}},
		{"header longer than the frame", strings.Replace(synAck, "6012", "f012", 1), false, verdict{}},
		{"fragment", strings.Replace(synAck, "4000 4006", "0001 4006", 1), false, verdict{}},
		{"ARP", arpReply, false, verdict{}},
		{"cut", ether + ipv4 + "0016 9c40", false, verdict{}},
	} {
		got, ok := p.verdict(bytesOf(t, tt.frame))
		if ok != tt.ok || ok && got != tt.want {
			t.Errorf("%s: %+v, %v; want %+v, %v", tt.name, got, ok, tt.want, tt.ok)
		}
	}
}

// TestFilters runs the socket filters as the kernel does.
func TestFilters(t *testing.T) {
	vm := func(filter []bpf.Instruction) *bpf.VM {
		v, err := bpf.NewVM(filter)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	arp, tcp := vm(heard(ours)), vm(answered(22, 40000))
	for _, tt := range []struct {
		name, frame string
		arp, tcp    bool
	}{
		{"reply", arpReply, true, false},
		{"announcement", arpAnnounc, true, false},
		{"our own request", arpRequest, false, false},
		{"half of our address", strings.Replace(arpReply, "0002 b827eb000002", "0002 020000000002", 1), true, false},
		{"open", synAck, false, true},
		{"closed", rstAck, false, true},
		{"IP options", optionsIP, false, true},
		{"other port there", strings.Replace(synAck, "0016 9c40", "0017 9c40", 1), false, false},
		{"other port here", strings.Replace(synAck, "0016 9c40", "0016 9c41", 1), false, false},
		{"UDP", strings.Replace(synAck, "4006", "4011", 1), false, false},
		{"fragment", strings.Replace(synAck, "4000 4006", "0001 4006", 1), false, false},
		{"cut", strings.TrimSuffix(arpReply, "0002 b827eb000002 0a4d000b 020000000001 0a4d0001"), false, false},
	} {
		for _, f := range []struct {
			name string
			vm   *bpf.VM
			want bool
		}{{"ARP", arp, tt.arp}, {"TCP", tcp, tt.tcp}} {
			n, err := f.vm.Run(bytesOf(t, tt.frame))
			if err != nil || n > 0 != f.want {
				t.Errorf("%s: the %s filter passes %d bytes, %v; want %v", tt.name, f.name, n, err, f.want)
			}
		}
	}
}

// TestSegment reads back what segment writes.
func TestSegment(t *testing.T) {
	probe := &probe{addr: host, source: me, mac: theirs, seq: 99}
	for _, syn := range []bool{true, false} {
		frame, err := segment(ours, probe, 40000, 22, syn)
		if err != nil {
			t.Fatal(err)
		}
		p := newParser()
		if !p.decode(frame, layers.LayerTypeEthernet, layers.LayerTypeIPv4, layers.LayerTypeTCP) {
			t.Fatalf("%x is not Ethernet, IPv4 and TCP", frame)
		}
		seq := map[bool]uint32{true: 99, false: 100}[syn]
		if p.tcp.SYN != syn || p.tcp.RST == syn || p.tcp.ACK || p.tcp.Seq != seq || len(frame) > frameSize ||
			p.tcp.SrcPort != 40000 || p.tcp.DstPort != 22 || !p.ip.DstIP.Equal(host.AsSlice()) || hwaddr(p.eth.DstMAC) != theirs {
			t.Errorf("segment(syn %v) = %+v %+v", syn, p.ip, p.tcp)
		}
		if sum := onesComplement(frame[14:34]); sum != 0xffff {
			t.Errorf("IP checksum sums up to %#x", sum)
		}
	}
}

func onesComplement(b []byte) (sum uint32) {
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	return sum>>16 + sum&0xffff
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{arpReply, arpRequest, arpProbe, synAck, rstAck, optionsIP} {
		f.Add(bytesOf(f, s))
	}
	p := newParser()
	f.Fuzz(func(t *testing.T, frame []byte) {
		if n, ok := p.neighbor(frame); ok && (!n.addr.Is4() || !n.mac.sane() || n.addr.IsUnspecified()) {
			t.Errorf("neighbor(%x) = %+v", frame, n)
		}
		if v, ok := p.verdict(frame); ok && !v.addr.Is4() {
			t.Errorf("verdict(%x) = %+v", frame, v)
		}
	})
}

func FuzzEchoReply(f *testing.F) {
	nonce := []byte("0123456789abcdef")
	f.Add(append([]byte{129, 0, 0, 0, 0, 1, 0, 1}, nonce...))
	f.Add([]byte{129, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if isReply(b, nonce) != (len(b) == 24 && b[0] == 129 && bytes.Equal(b[8:], nonce)) {
			t.Errorf("isReply(%x)", b)
		}
	})
}

func BenchmarkRequest(b *testing.B) {
	frame, err := request(ours, me)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		setTarget(frame, host)
	}
}

func BenchmarkSegment(b *testing.B) {
	p := &probe{addr: host, source: me, mac: theirs, seq: 99, sent: time.Time{}}
	for b.Loop() {
		if _, err := segment(ours, p, 40000, 22, true); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNeighbor(b *testing.B) {
	p, frame := newParser(), bytesOf(b, arpReply)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := p.neighbor(frame); !ok {
			b.Fatal("not parsed")
		}
	}
}

func BenchmarkVerdict(b *testing.B) {
	p, frame := newParser(), bytesOf(b, synAck)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := p.verdict(frame); !ok {
			b.Fatal("not parsed")
		}
	}
}
