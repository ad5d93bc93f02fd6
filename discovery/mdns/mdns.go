// Package mdns browses one link for installers with multicast DNS (RFC 6762).
//
// hashicorp/mdns asks, and a listener of our own hears what is told to
// everybody: announcements, goodbyes, and the answers on a link without a default
// route, where the library has no IPv4. Both end in one [cache] that believes
// nothing and bounds everything. What comes out is where on the link an installer
// may be: addresses of other networks are left out.
package mdns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/miekg/dns"

	"github.com/nixctl/nixctl/discovery"
)

// A Source browses one interface.
type Source struct {
	Interface *net.Interface
	Watch     bool // go on until the context is done, and tell who leaves
}

var _ discovery.Source = (*Source)(nil)

// String implements [discovery.Source].
func (s *Source) String() string { return "mdns/" + s.Interface.Name }

// rounds are the times of the questions: a packet may get lost, and three seldom
// do. A watch asks again every pause.
var rounds = []time.Duration{0, 250 * time.Millisecond, 750 * time.Millisecond}

const pause = 20 * time.Second

// Find implements [discovery.Source]. It fails if the link can neither be
// listened to nor asked. After ctx is done, a query may keep its sockets open for
// [queryTime] more.
func (s *Source) Find(ctx context.Context, found func(discovery.Candidate)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b := &browser{
		source:  s,
		cache:   newCache(s.Interface.Name, (&link{ifi: s.Interface}).near),
		heard:   make(chan *dns.Msg),
		answers: make(chan answer),
	}
	defer b.close()
	b.listen(ctx)
	return b.browse(ctx, found)
}

// A browser is one run of a source.
type browser struct {
	source    *Source
	cache     *cache
	listeners []*listener
	heard     chan *dns.Msg
	answers   chan answer
	asking    int  // queries that have not returned yet
	worked    bool // something could be asked or was heard
	errs      []error
}

// listen starts a listener for each address family that there is.
func (b *browser) listen(ctx context.Context) {
	for _, open := range []func(context.Context, *net.Interface) (*listener, error){listen4, listen6} {
		l, err := open(ctx, b.source.Interface)
		if err != nil {
			b.note(err)
			continue
		}
		b.listeners = append(b.listeners, l)
		go l.run(ctx, b.heard)
	}
}

func (b *browser) close() {
	for _, l := range b.listeners {
		l.Close()
	}
}

// browse asks in rounds and reports what is heard.
func (b *browser) browse(ctx context.Context, found func(discovery.Candidate)) error {
	begin, round, over := time.Now(), 0, false
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		var told []discovery.Candidate
		select {
		case <-ctx.Done():
			return nil
		case m := <-b.heard:
			b.note(nil)
			now := time.Now()
			told = b.cache.hear(records(m), now, now)
		case a := <-b.answers:
			b.asking--
			b.note(a.err)
			told = b.cache.hear(a.records, a.asked, time.Now())
		case <-next.C:
			if over = round >= len(rounds) && !b.source.Watch; over {
				break
			}
			told = b.cache.expire(time.Now())
			b.ask(ctx)
			round++
			next.Reset(b.wait(begin, round))
		}
		for _, c := range told {
			found(c)
		}
		if b.asking == 0 && (b.hopeless() || over) {
			return b.err()
		}
	}
}

// wait is the time until the given round, or until what follows the last one.
func (b *browser) wait(begin time.Time, round int) time.Duration {
	switch {
	case round < len(rounds):
		return time.Until(begin.Add(rounds[round]))
	case b.source.Watch:
		return pause
	default:
		return queryTime
	}
}

// ask sends one round of questions.
func (b *browser) ask(ctx context.Context) {
	for _, v6 := range []bool{false, true} {
		b.asking++
		go func() {
			a := query(ctx, b.source.Interface, v6)
			select {
			case b.answers <- a:
			case <-ctx.Done():
			}
		}()
	}
	questions := b.cache.questions()
	for _, l := range b.listeners {
		b.note(l.ask(questions))
	}
}

// note remembers that something worked, or the first errors for the case that
// nothing does.
func (b *browser) note(err error) {
	switch {
	case err == nil:
		b.worked = true
	case len(b.errs) < 8:
		b.errs = append(b.errs, err)
	}
}

// hopeless reports whether there is nothing to wait for.
func (b *browser) hopeless() bool { return len(b.listeners) == 0 && !b.worked }

// err is what went wrong, if nothing went right.
func (b *browser) err() error {
	if b.worked {
		return nil
	}
	return fmt.Errorf("interface %q can be neither asked nor listened to: %w", b.source.Interface.Name, errors.Join(b.errs...))
}
