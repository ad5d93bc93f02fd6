package arp

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// A hwaddr is an Ethernet address.
type hwaddr [6]byte

func (h hwaddr) String() string { return net.HardwareAddr(h[:]).String() }

// sane reports whether h can be the address of one network card.
func (h hwaddr) sane() bool { return h != hwaddr{} && h[0]&1 == 0 }

// request returns an ARP request for the address zero; setTarget fills it in.
func request(mac hwaddr, source netip.Addr) ([]byte, error) {
	return serialize(
		&layers.Ethernet{SrcMAC: mac[:], DstMAC: layers.EthernetBroadcast, EthernetType: layers.EthernetTypeARP},
		&layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, Operation: layers.ARPRequest,
			HwAddressSize: 6, ProtAddressSize: 4,
			SourceHwAddress: mac[:], SourceProtAddress: source.AsSlice(),
			DstHwAddress: make([]byte, 6), DstProtAddress: make([]byte, 4),
		})
}

// setTarget makes request ask for addr.
func setTarget(request []byte, addr netip.Addr) {
	a := addr.As4()
	copy(request[14+24:], a[:]) // RFC 826: the last field, behind the Ethernet header
}

// segment returns a TCP segment without data from a connection that is never
// completed: its SYN, or the RST that ends it.
func segment(mac hwaddr, p *probe, from, to uint16, syn bool) ([]byte, error) {
	ip := &layers.IPv4{
		Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, Flags: layers.IPv4DontFragment,
		SrcIP: p.source.AsSlice(), DstIP: p.addr.AsSlice(),
	}
	tcp := &layers.TCP{SrcPort: layers.TCPPort(from), DstPort: layers.TCPPort(to), Seq: p.seq}
	if syn {
		tcp.SYN, tcp.Window = true, 64240
		mss := []byte{1460 >> 8, 1460 & 0xff}
		tcp.Options = []layers.TCPOption{{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: mss}}
	} else {
		tcp.RST = true
		tcp.Seq++
	}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		return nil, err
	}
	return serialize(&layers.Ethernet{SrcMAC: mac[:], DstMAC: p.mac[:], EthernetType: layers.EthernetTypeIPv4}, ip, tcp)
}

func serialize(l ...gopacket.SerializableLayer) ([]byte, error) {
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l...)
	return buf.Bytes(), err
}

// A parser takes frames apart. It may be used by one goroutine.
type parser struct {
	eth  layers.Ethernet
	arp  layers.ARP
	ip   layers.IPv4
	tcp  layers.TCP
	all  *gopacket.DecodingLayerParser
	seen []gopacket.LayerType
}

func newParser() *parser {
	p := new(parser)
	p.all = gopacket.NewDecodingLayerParser(layers.LayerTypeEthernet, &p.eth, &p.arp, &p.ip, &p.tcp)
	p.all.IgnoreUnsupported = true // whatever follows a TCP header
	return p
}

func (p *parser) decode(frame []byte, want ...gopacket.LayerType) bool {
	if p.all.DecodeLayers(frame, &p.seen) != nil || len(p.seen) < len(want) {
		return false
	}
	for i, w := range want {
		if p.seen[i] != w {
			return false
		}
	}
	return true
}

// A neighbor is who a host says it is by ARP.
type neighbor struct {
	addr  netip.Addr
	mac   hwaddr
	reply bool // and not a request or an announcement
}

// neighbor reads an ARP packet from someone who has an address. A probe of RFC
// 5227, from someone who wants one, is none.
func (p *parser) neighbor(frame []byte) (n neighbor, ok bool) {
	if !p.decode(frame, layers.LayerTypeEthernet, layers.LayerTypeARP) {
		return n, false
	}
	a := &p.arp
	if a.AddrType != layers.LinkTypeEthernet || a.Protocol != layers.EthernetTypeIPv4 ||
		len(a.SourceHwAddress) != 6 || len(a.SourceProtAddress) != 4 ||
		a.Operation != layers.ARPRequest && a.Operation != layers.ARPReply {
		return n, false
	}
	n.addr, _ = netip.AddrFromSlice(a.SourceProtAddress)
	n.mac = hwaddr(a.SourceHwAddress)
	n.reply = a.Operation == layers.ARPReply
	return n, n.mac.sane() && !n.addr.IsUnspecified()
}

// A verdict is the answer to a SYN.
type verdict struct {
	addr netip.Addr
	seq  uint32 // of the SYN
	open bool
}

// verdict reads a SYN-ACK or an RST.
func (p *parser) verdict(frame []byte) (v verdict, ok bool) {
	if !p.decode(frame, layers.LayerTypeEthernet, layers.LayerTypeIPv4, layers.LayerTypeTCP) {
		return v, false
	}
	v.addr, _ = netip.AddrFromSlice(p.ip.SrcIP)
	v.seq = p.tcp.Ack - 1
	v.open = p.tcp.SYN && !p.tcp.RST
	return v, p.tcp.ACK && (p.tcp.SYN || p.tcp.RST)
}

// halves splits h as the socket filter loads it.
func (h hwaddr) halves() (high, low uint32) {
	return binary.BigEndian.Uint32(h[:4]), uint32(binary.BigEndian.Uint16(h[4:]))
}
