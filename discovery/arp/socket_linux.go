package arp

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	batch      = 64      // frames a system call
	frameSize  = 128     // bytes; the largest of ours and the interesting part of theirs
	receiveBuf = 8 << 20 // bytes; the default loses a fifth of a dense /16
)

// packetSocket opens a socket for frames of the interface. The filter is set
// before the socket is bound, so that no other frame is ever queued. With no
// filter nothing is received.
func packetSocket(ifindex int, protocol uint16, filter []bpf.Instruction) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), errors.Is(err, unix.EAFNOSUPPORT):
		return nil, fmt.Errorf("%w: %w", ErrNoRawSocket, err)
	case err != nil:
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	if filter != nil {
		err = prepare(fd, filter)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol<<8 | protocol>>8, Ifindex: ifindex})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind packet socket: %w", err)
	}
	return os.NewFile(uintptr(fd), "packet"), nil // non-blocking: in the poller, so that Close ends a read
}

func prepare(fd int, filter []bpf.Instruction) error {
	program, err := bpf.Assemble(filter)
	if err != nil {
		return err
	}
	f := make([]unix.SockFilter, len(program))
	for i, p := range program {
		f[i] = unix.SockFilter{Code: p.Op, Jt: p.Jt, Jf: p.Jf, K: p.K}
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1) // Linux 4.20; the filter does for the rest
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuf) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuf)
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]})
}

// Offsets in frames and values there, for the filters (RFCs 826, 791, 793).
const (
	offType     = 12
	offIP       = 14
	offFragment = offIP + 6
	offProto    = offIP + 9
	offSender   = 14 + 8 // of an ARP packet

	typeARP  = 0x0806
	typeIPv4 = 0x0800
	protoTCP = 6
)

// heard passes ARP packets of others than mac.
func heard(mac hwaddr) []bpf.Instruction {
	high, low := mac.halves()
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: offType, Size: 2}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: typeARP, SkipTrue: 5},
		bpf.LoadAbsolute{Off: offSender, Size: 4}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: high, SkipTrue: 2},
		bpf.LoadAbsolute{Off: offSender + 4, Size: 2}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: low, SkipTrue: 1},
		bpf.RetConstant{Val: frameSize}, bpf.RetConstant{Val: 0},
	}
}

// answered passes TCP segments from one port to another.
func answered(from, to uint16) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: offType, Size: 2}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: typeIPv4, SkipTrue: 10},
		bpf.LoadAbsolute{Off: offProto, Size: 1}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protoTCP, SkipTrue: 8},
		bpf.LoadAbsolute{Off: offFragment, Size: 2}, bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x1fff, SkipTrue: 6},
		bpf.LoadMemShift{Off: offIP}, // the length of the IP header
		bpf.LoadIndirect{Off: offIP, Size: 2}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(from), SkipTrue: 3},
		bpf.LoadIndirect{Off: offIP + 2, Size: 2}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(to), SkipTrue: 1},
		bpf.RetConstant{Val: frameSize}, bpf.RetConstant{Val: 0},
	}
}

// holdPort takes a TCP port from the kernel, so that no connection has it while
// we send segments from it. The socket is bound and does not listen: segments
// that come back are answered by RST.
func holdPort() (*os.File, uint16, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("open TCP socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), "port")
	if err := unix.Bind(fd, &unix.SockaddrInet4{}); err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("bind TCP socket: %w", err)
	}
	sa, err := unix.Getsockname(fd)
	in4, ok := sa.(*unix.SockaddrInet4)
	if err != nil || !ok {
		f.Close()
		return nil, 0, fmt.Errorf("name of TCP socket: %w", err)
	}
	return f, uint16(in4.Port), nil
}

// A mmsghdr is the kernel's struct of that name, see recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// A ring is room for a batch of frames.
type ring struct {
	frames [batch][frameSize]byte
	iovs   [batch]unix.Iovec
	msgs   [batch]mmsghdr
}

func newRing() *ring {
	r := new(ring)
	for i := range batch {
		r.iovs[i].Base = &r.frames[i][0]
		r.iovs[i].SetLen(frameSize)
		r.msgs[i].hdr.Iov = &r.iovs[i]
		r.msgs[i].hdr.SetIovlen(1)
	}
	return r
}

// call makes one of the system calls sendmmsg and recvmmsg on messages from
// the given one up to before the other, and returns how many were done.
func (r *ring) call(trap uintptr, f *os.File, from, to int) (n int, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	wait := conn.Read
	if trap == unix.SYS_SENDMMSG {
		wait = conn.Write
	}
	var errno unix.Errno
	err = wait(func(fd uintptr) bool {
		var done uintptr
		for errno = unix.EINTR; errno == unix.EINTR; {
			done, _, errno = unix.Syscall6(trap, fd, uintptr(unsafe.Pointer(&r.msgs[from])), uintptr(to-from), unix.MSG_DONTWAIT, 0, 0)
		}
		n = int(done)
		return errno != unix.EAGAIN
	})
	switch {
	case err != nil:
		return 0, err
	case errno != 0:
		return 0, errno
	}
	return n, nil
}

// receive calls each for every frame, until the socket is closed. The link may
// go down and come up meanwhile.
func receive(f *os.File, each func(frame []byte)) {
	r := newRing()
	for {
		n, err := r.call(unix.SYS_RECVMMSG, f, 0, batch)
		if err != nil && !errors.Is(err, unix.ENETDOWN) {
			return
		}
		for i := range n {
			each(r.frames[i][:min(r.msgs[i].n, frameSize)])
		}
	}
}

// A transmitter sends frames in batches.
type transmitter struct {
	socket *os.File
	ring   *ring
	n      int // frames that wait
}

// add copies a frame, and sends what waits if that is a batch.
func (t *transmitter) add(frame []byte) error {
	t.ring.iovs[t.n].SetLen(copy(t.ring.frames[t.n][:], frame))
	if t.n++; t.n < batch {
		return nil
	}
	return t.flush()
}

// flush sends what waits. A frame for which the link has no room is lost, like
// others on their way.
func (t *transmitter) flush() error {
	defer func() { t.n = 0 }()
	for sent := 0; sent < t.n; {
		n, err := t.ring.call(unix.SYS_SENDMMSG, t.socket, sent, t.n)
		if errors.Is(err, unix.ENOBUFS) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("send: %w", err)
		}
		sent += n
	}
	return nil
}
