package mdns

import (
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Bounds on one message. RFC 6762 section 17 allows 9000 bytes.
const (
	maxMessage = 9000
	maxRecords = 256
)

// errNotResponse is returned by parse for a message that answers nothing.
var errNotResponse = errors.New("not a response")

// parse decodes one packet. Messages that RFC 6762 section 18 wants ignored, such
// as questions and failures, are an error.
func parse(packet []byte) (*dns.Msg, error) {
	if len(packet) > maxMessage {
		return nil, errNotResponse
	}
	m := new(dns.Msg)
	if err := m.Unpack(packet); err != nil {
		return nil, err
	}
	if !m.Response || m.Opcode != dns.OpcodeQuery || m.Rcode != dns.RcodeSuccess {
		return nil, errNotResponse
	}
	return m, nil
}

// records are those of m that may be believed to be there: of the Internet class,
// and not too many.
func records(m *dns.Msg) []dns.RR {
	var out []dns.RR
	for _, section := range [][]dns.RR{m.Answer, m.Extra} {
		for _, rr := range section {
			if len(out) < maxRecords && rr.Header().Class&^flushBit == dns.ClassINET {
				out = append(out, rr)
			}
		}
	}
	return out
}

// address is what an A or AAAA record holds, if it is one that a machine can have.
func address(rr dns.RR) (netip.Addr, bool) {
	var b []byte
	switch rr := rr.(type) {
	case *dns.A:
		b = rr.A
	case *dns.AAAA:
		b = rr.AAAA
	}
	a, ok := netip.AddrFromSlice(b)
	a = a.Unmap()
	broadcast := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	return a, ok && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && a != broadcast
}

// life is how long a record may be kept, bounded so that a stranger cannot make
// one that stays.
func life(ttl uint32) time.Duration { return min(time.Duration(ttl)*time.Second, maxLife) }

// unescape undoes what package dns does to text: it writes quotes and backslashes
// with a backslash, and all bytes but printable ASCII as \DDD.
func unescape(txt []string) []string {
	out := make([]string, len(txt))
	for i, s := range txt {
		out[i] = unescapeOne(s)
	}
	return out
}

func unescapeOne(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '\\' || i+1 == len(s):
			b.WriteByte(s[i])
		case i+3 < len(s) && isDigit(s[i+1]) && isDigit(s[i+2]) && isDigit(s[i+3]):
			b.WriteByte((s[i+1]-'0')*100 + (s[i+2]-'0')*10 + s[i+3] - '0')
			i += 3
		default:
			b.WriteByte(s[i+1])
			i++
		}
	}
	return b.String()
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
