// Command nixctl finds booted NixOS installers and installs onto them.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/nixctl/nixctl/controller"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := controller.Main(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
