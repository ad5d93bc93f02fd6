package arp

import "testing"

func TestTries(t *testing.T) {
	for _, tt := range []struct {
		tally tally
		want  int
		why   string
	}{
		{tally{}, 3, "nobody answered: perhaps all was lost"},
		{tally{first: 88}, 2, "no loss"},
		{tally{first: 79, later: 9}, 4, "5 % each way: 88*0.10^4 = 0.009"},
		{tally{first: 56, later: 32}, 9, "20 % each way: 88*0.36^9 = 0.009"},
		{tally{first: 1, later: 1}, 8, "2*0.5^8 = 0.008"},
		{tally{first: 1000, later: 1}, 3, "one straggler is reason for one more"},
		{tally{later: 5}, 16, "slower than the rounds are apart"},
		{tally{first: 1, later: 9}, 16, "bounded"},
	} {
		if got := tt.tally.tries(); got != tt.want {
			t.Errorf("%+v.tries() = %d, want %d (%s)", tt.tally, got, tt.want, tt.why)
		}
	}
}
