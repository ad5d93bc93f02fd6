package arp

import "math"

// A tally counts those who answered, and so measures the loss.
type tally struct {
	first int // answered the first request
	later int // answered another one
}

func (t *tally) add(tries int) {
	if tries == 1 {
		t.first++
	} else {
		t.later++
	}
}

// loss is the chance that a request or its answer is lost.
func (t tally) loss() float64 {
	if t.later == 0 {
		return 0
	}
	return float64(t.later) / float64(t.first+t.later)
}

// Bounds on requests to one address.
const (
	unhurtTries = 2 // no loss seen
	leastTries  = 3 // loss seen, or no answer to measure it by
	mostTries   = 16
	missing     = 0.01 // of all who are there, how many may be expected to be missed
)

// tries is how often to ask those who have not answered.
func (t tally) tries() int { return tries(t.first+t.later, t.loss()) }

// tries is how often to ask if n have answered so far: n*loss^tries are then
// expected to be missed, provided that losses are independent.
func tries(n int, loss float64) int {
	switch {
	case n == 0:
		return leastTries
	case loss == 0:
		return unhurtTries
	case loss == 1:
		return mostTries
	}
	return min(mostTries, max(leastTries, int(math.Ceil(math.Log(missing/float64(n))/math.Log(loss)))))
}
