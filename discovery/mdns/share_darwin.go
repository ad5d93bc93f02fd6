package mdns

import (
	"errors"

	"golang.org/x/sys/unix"
)

// share lets others have the port too, as mDNSResponder always does.
func share(fd int, _ string) error {
	return errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
}
