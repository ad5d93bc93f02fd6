package survey

import "github.com/nixctl/nixctl/discovery"

// Bounds on the checks that run at a time.
const (
	parallel = 64           // in all
	perMAC   = 8            // of one machine: it may answer for many addresses and then keep silent
	unknown  = parallel / 2 // of those whose MAC is not known, as mDNS has them
)

// A queue holds the checks that wait. Machines take turns, so that one with many
// addresses does not keep the others waiting.
type queue struct {
	lanes   map[string]*lane // by MAC
	ready   []*lane          // that may start something, the one whose turn it is first
	running int
}

// A lane is what is to be checked of one machine.
type lane struct {
	waiting []discovery.Candidate
	running int
	most    int
}

func (l *lane) ready() bool { return len(l.waiting) > 0 && l.running < l.most }

// add appends c.
func (q *queue) add(c discovery.Candidate) {
	l := q.lanes[c.MAC]
	if l == nil {
		l = &lane{most: perMAC}
		if c.MAC == "" {
			l.most = unknown
		}
		q.lanes[c.MAC] = l
	}
	q.change(l, func() { l.waiting = append(l.waiting, c) })
}

// next takes out a candidate to check now, if there is one.
func (q *queue) next() (c discovery.Candidate, ok bool) {
	if q.running == parallel || len(q.ready) == 0 {
		return c, false
	}
	l := q.ready[0]
	q.ready = q.ready[1:]
	c, l.waiting = l.waiting[0], l.waiting[1:]
	l.running++
	q.running++
	if l.ready() {
		q.ready = append(q.ready, l)
	}
	return c, true
}

// done says that the check of c, which next returned, is over.
func (q *queue) done(c discovery.Candidate) {
	l := q.lanes[c.MAC]
	q.running--
	q.change(l, func() { l.running-- })
	if l.running == 0 && len(l.waiting) == 0 {
		delete(q.lanes, c.MAC)
	}
}

// change changes l and gives it a turn if it could not use one before.
func (q *queue) change(l *lane, do func()) {
	before := l.ready()
	do()
	if !before && l.ready() {
		q.ready = append(q.ready, l)
	}
}
