package main

import (
	"encoding/json"
	"fmt"
	"math/bits"
	"time"
)

// durations is a histogram of durations with a relative error of at most 1/32, of constant size. Negative ones count as 0.
type durations struct {
	counts  [32 * 48]uint64 // microseconds below 64 exactly, then 32 buckets per power of two
	n       uint64
	longest time.Duration
}

func (d *durations) add(v time.Duration) {
	v = max(v, 0)
	d.longest = max(d.longest, v)
	d.n++
	us := uint64(v / time.Microsecond)
	shift := max(bits.Len64(us)-6, 0)
	d.counts[min(uint64(shift)*32+us>>shift, uint64(len(d.counts)-1))]++
}

func (d *durations) merge(o *durations) {
	for i, c := range o.counts {
		d.counts[i] += c
	}
	d.n += o.n
	d.longest = max(d.longest, o.longest)
}

// quantile returns the duration that the fraction q of them does not exceed; 0 if there is none.
func (d *durations) quantile(q float64) time.Duration {
	if d.n == 0 {
		return 0
	}
	rank := uint64(q * float64(d.n))
	rank = min(rank, d.n-1)
	seen := uint64(0)
	for i, c := range d.counts {
		if seen += c; seen > rank {
			shift := max(i/32-1, 0)
			us := uint64(i-shift*32) << shift
			return min(time.Duration(us+1<<shift-1)*time.Microsecond, d.longest)
		}
	}
	return d.longest
}

func milliseconds(d time.Duration) float64 { return float64(d.Round(time.Microsecond)) / 1e6 }

// String gives the median, the 99th percentile and the longest.
func (d *durations) String() string {
	if d.n == 0 {
		return "none"
	}
	return fmt.Sprintf("p50 %.2f ms, p95 %.2f ms, p99 %.2f ms, max %.2f ms", milliseconds(d.quantile(0.5)), milliseconds(d.quantile(0.95)),
		milliseconds(d.quantile(0.99)), milliseconds(d.longest))
}

// MarshalJSON gives the same in milliseconds.
func (d *durations) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]float64{"n": float64(d.n), "p50_ms": milliseconds(d.quantile(0.5)),
		"p95_ms": milliseconds(d.quantile(0.95)), "p99_ms": milliseconds(d.quantile(0.99)), "max_ms": milliseconds(d.longest)})
}
