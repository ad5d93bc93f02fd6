//go:build !linux

package vm

import "syscall"

// attributes cuts QEMU loose from our terminal; only Linux can tie its life to
// ours.
func attributes(detach bool) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: detach}
}
