// Microsshd is the SSH server of a micro guest: it proves that the machine has
// its host key and lets nobody in.
//
//	microsshd HOSTKEY [ADDRESS]
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/crypto/ssh"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: microsshd HOSTKEY [ADDRESS]")
		os.Exit(2)
	}
	address := ":22"
	if len(os.Args) > 2 {
		address = os.Args[2]
	}
	if err := run(os.Args[1], address); err != nil {
		fmt.Fprintln(os.Stderr, "microsshd:", err)
		os.Exit(1)
	}
}

func run(keyFile, address string) error {
	config, err := load(keyFile)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return serve(l, config)
}

// load makes a server that has the key and knows no way to log in but one that
// always fails.
func load(keyFile string) (*ssh.ServerConfig, error) {
	text, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	key, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("host key %q: %w", keyFile, err)
	}
	config := &ssh.ServerConfig{
		ServerVersion: "SSH-2.0-micro",
		PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) {
			return nil, errors.New("nobody logs in here")
		},
	}
	config.AddHostKey(key)
	return config, nil
}

// patience is how long a client may take for its handshake.
const patience = 10 * time.Second

// serve does handshakes until l is closed.
func serve(l net.Listener, config *ssh.ServerConfig) error {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		} else if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			if conn.SetDeadline(time.Now().Add(patience)) == nil {
				_, _, _, _ = ssh.NewServerConn(conn, config) // always ends in an error
			}
		}()
	}
}
