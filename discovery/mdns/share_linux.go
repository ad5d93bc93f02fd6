package mdns

import (
	"errors"

	"golang.org/x/sys/unix"
)

// share lets others have the port too, and takes packets from no groups but those
// that this socket joined: by default Linux delivers what any socket of the
// machine joined, on any link (ip(7), IP_MULTICAST_ALL).
func share(fd int, network string) error {
	err := errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
	if network == "udp6" {
		return errors.Join(err, unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL, 0))
	}
	return errors.Join(err, unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0))
}
