package login

import (
	"fmt"
	"io"
	"net"
	"strings"
	"time"
	"unicode"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// How long an agent may take: for a signature its user may have to touch a token.
const (
	listTimeout = 10 * time.Second
	signTimeout = 2 * time.Minute
)

// withAgent opens the agent's socket for one question.
func withAgent(socket string, timeout time.Duration, ask func(agent.ExtendedAgent) error) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return fmt.Errorf("ssh-agent: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return fmt.Errorf("ssh-agent: %w", err)
	}
	if err := ask(agent.NewClient(conn)); err != nil {
		return fmt.Errorf("ssh-agent: %w", err)
	}
	return nil
}

// agentKeys lists what the agent holds.
func agentKeys(socket string) (keys []key, err error) {
	err = withAgent(socket, listTimeout, func(a agent.ExtendedAgent) error {
		list, err := a.List()
		for _, k := range list {
			public, err := ssh.ParsePublicKey(k.Marshal())
			if err != nil {
				continue // a kind of key that is not known here
			}
			comment := oneLine(k.Comment)
			keys = append(keys, key{agentSigner{socket, public}, fmt.Sprintf("ssh-agent (%q)", comment), comment})
		}
		return err
	})
	return keys, err
}

// An agentSigner asks the agent over a connection of its own each time, because a
// login may be repeated hours later.
type agentSigner struct {
	socket string
	public ssh.PublicKey
}

func (s agentSigner) PublicKey() ssh.PublicKey { return s.public }

func (s agentSigner) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	return s.sign(data, 0)
}

// SignWithAlgorithm implements [ssh.AlgorithmSigner] for RSA keys, RFC 8332.
func (s agentSigner) SignWithAlgorithm(_ io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	flags := map[string]agent.SignatureFlags{
		ssh.KeyAlgoRSASHA256: agent.SignatureFlagRsaSha256, ssh.KeyAlgoRSASHA512: agent.SignatureFlagRsaSha512,
	}
	return s.sign(data, flags[algorithm])
}

func (s agentSigner) sign(data []byte, flags agent.SignatureFlags) (sig *ssh.Signature, err error) {
	err = withAgent(s.socket, signTimeout, func(a agent.ExtendedAgent) error {
		sig, err = a.SignWithFlags(s.public, data, flags)
		return err
	})
	return sig, err
}

// oneLine makes a comment fit for a line of authorized_keys.
func oneLine(comment string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) {
			return r
		}
		return -1
	}, comment)
}
