// Package rendezvous assigns keys to nodes by highest random weight (Thaler and Ravishankar, "Using name-based mappings to
// increase hit rates", 1998): every key ranks all nodes by a hash of the two and takes the first. What one node gets does not
// depend on the others, so adding or removing one moves only what it gets or had. There is no state, and the hash
// is fixed: every origin and every release assigns alike.
package rendezvous

import (
	"cmp"
	"math"
	"slices"
)

// FNV-1a, 64 bits.
const (
	offset = 14695981039346656037
	prime  = 1099511628211
)

// A Hash is that of a node, or of a key. It is FNV-1a, to which more can be added.
type Hash uint64

// New is the hash of s.
func New(s string) Hash { return Add(Hash(offset), s) }

// Add returns the hash of what h is the hash of, with s after it.
func Add[T string | []byte](h Hash, s T) Hash {
	for i := range len(s) {
		h = (h ^ Hash(s[i])) * prime
	}
	return h
}

// Score is the weight of the node for the key.
func Score(node, key Hash) uint64 { return mix(mix(uint64(key)) + mix(uint64(node))) }

// mix spreads a hash over all its bits, which FNV does not do with the last bytes (the finalizer of MurmurHash3).
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// A Node is one of several that get shares by their weights.
type Node struct {
	ID     string
	Weight int // 0 gets nothing as long as another has more
}

// Sort orders nodes for the key: the first of them is the one that the key is assigned to, and the others follow as though
// those before them were not there. Each is first for a share of all keys that is its weight's of all weights; a
// weight that changes moves only keys from or to its node. Weightless nodes come last.
func Sort(nodes []Node, key Hash) {
	rank := func(n Node) (weighted, plain float64) {
		// The logarithm of a number between 0 and 1, exclusive, from the upper 53 bits.
		plain = -1 / math.Log((float64(Score(New(n.ID), key)>>11)+0.5)/(1<<53))
		return plain * float64(max(n.Weight, 0)), plain
	}
	slices.SortFunc(nodes, func(a, b Node) int {
		aw, ap := rank(a)
		bw, bp := rank(b)
		return cmp.Or(cmp.Compare(bw, aw), cmp.Compare(bp, ap), cmp.Compare(a.ID, b.ID))
	})
}
