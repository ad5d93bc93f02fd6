// Package e2e runs nixctl as its users do, on machines that boot, are installed and
// boot again: QEMU guests on a network of their own.
//
// It has tests only. They need root, QEMU and the guest image, which
// "go run ./testenv test" brings.
package e2e
