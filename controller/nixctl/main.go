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
	signal.Ignore(syscall.SIGPIPE) // who reads the output may go away; the work must not
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends it at once
	code := controller.Main(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
