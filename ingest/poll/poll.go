// Package poll lets many connections wait for input together. Each of them is read by a goroutine of its own, with a plain
// Read; but instead of waking one thread for every packet of every connection, a Poller looks for input at most once in an
// interval, and wakes all the readers that have some at once. With fifty publishers that saves a third of the processor
// time; the price is that input may be noticed an interval late. With few publishers nothing is late: the interval only
// counts when there is input in most of them.
package poll

import "time"

// DefaultInterval is short beside the 3 ms after which a full part has to be fetchable, and long beside the time between
// packets when many publish.
const DefaultInterval = 2 * time.Millisecond
