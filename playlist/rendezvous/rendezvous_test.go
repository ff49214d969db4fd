package rendezvous

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

// first returns the node of the highest score.
func first(nodes []string, key string) string {
	return slices.MaxFunc(nodes, func(a, b string) int {
		x, y := Score(New(a), New(key)), Score(New(b), New(key))
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
}

func keys(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("/live/cam/19f9c1b2a3d/video_720p/s%d.m4s", 1764033360+i))
	}
	return out
}

func hosts(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("https://m%d.example.com", i+1))
	}
	return out
}

// The hash is a promise to other origins and to later releases.
func TestFixed(t *testing.T) {
	if h := New("a"); h != 0xaf63dc4c8601ec8c { // from the authors' own test suite of FNV-1a
		t.Errorf("hash of a: %#x", h)
	}
	if Add(Add(New(""), "/live/"), []byte("cam")) != New("/live/cam") {
		t.Error("a hash in pieces is another")
	}
	for _, c := range []struct {
		node, key string
		want      uint64
	}{
		{"https://m1.example.com", "/live/cam/r/video/s1764033360.m4s", 0x8b63480033ab6763},
		{"https://m2.example.com", "/live/cam/r/video/s1764033360.m4s", 0xfffdb0d3bb2768b5},
		{"cdn-a", "0", 0x8af447021ffe1523},
	} {
		if got := Score(New(c.node), New(c.key)); got != c.want {
			t.Errorf("%s, %s: %#x, want %#x", c.node, c.key, got, c.want)
		}
	}
}

// Every node gets its share of keys that differ in their last digits only, and of what moves when one comes or goes, there is
// nothing that need not.
func TestSharesAndStability(t *testing.T) {
	const n = 20_000
	for _, count := range []int{2, 3, 5, 16} {
		nodes, shares := hosts(count), map[string]int{}
		for _, k := range keys(n) {
			was := first(nodes, k)
			shares[was]++
			if got := first(append(hosts(count), "https://new.example.com"), k); got != was && got != "https://new.example.com" {
				t.Fatalf("of %d, %s moves from %s to %s when another comes", count, k, was, got)
			}
			for _, gone := range nodes {
				rest := slices.DeleteFunc(slices.Clone(nodes), func(h string) bool { return h == gone })
				if got := first(rest, k); gone != was && got != was {
					t.Fatalf("of %d, %s moves from %s to %s when %s goes", count, k, was, got, gone)
				}
			}
			slices.Reverse(nodes)
			if got := first(nodes, k); got != was {
				t.Fatalf("of %d, %s is on %s or %s, by their order", count, k, was, got)
			}
		}
		for _, h := range nodes {
			if got, want := float64(shares[h])/n, 1/float64(count); math.Abs(got-want) > 5*math.Sqrt(want/n) {
				t.Errorf("of %d, %s has %.3f, want %.3f", count, h, got, want)
			}
		}
	}
}

func ids(nodes []Node) string {
	var out []string
	for _, n := range nodes {
		out = append(out, n.ID)
	}
	return strings.Join(out, " ")
}

func sorted(nodes []Node, key string) []Node {
	nodes = slices.Clone(nodes)
	Sort(nodes, New(key))
	return nodes
}

// Each node is first for the share that its weight is of all, and what comes after the first is the order without it.
func TestWeights(t *testing.T) {
	const n = 20_000
	for _, nodes := range [][]Node{
		{{"a", 100}, {"b", 100}},
		{{"a", 90}, {"b", 10}},
		{{"a", 1}, {"b", 99}, {"c", 0}},
		{{"cdn-a", 5}, {"cdn-b", 3}, {"cdn-c", 2}, {"cdn-d", 1_000_000}},
		{{"a", 0}, {"b", 0}, {"c", 0}},
	} {
		sum, got := 0, map[string]int{}
		for _, x := range nodes {
			sum += x.Weight
		}
		for i := range n {
			key := fmt.Sprint(i)
			all := sorted(nodes, key)
			got[all[0].ID]++
			if rest := sorted(all[1:], key); ids(rest) != ids(all[1:]) {
				t.Fatalf("%v: %s, without the first %s", nodes, ids(all), ids(rest))
			}
			for j := 1; j < len(all); j++ {
				if all[j-1].Weight == 0 && all[j].Weight > 0 {
					t.Fatalf("%v: %s, a node without weight before one with", nodes, ids(all))
				}
			}
			reversed := slices.Clone(nodes)
			slices.Reverse(reversed)
			if other := sorted(reversed, key); ids(other) != ids(all) {
				t.Fatalf("%v: %s, or by their order %s", nodes, ids(all), ids(other))
			}
		}
		for _, x := range nodes {
			want := 1 / float64(len(nodes))
			if sum > 0 {
				want = float64(x.Weight) / float64(sum)
			}
			if share := float64(got[x.ID]) / n; math.Abs(share-want) > 0.0001+5*math.Sqrt(want*(1-want)/n) {
				t.Errorf("%v: %s is first for %.4f, want %.4f", nodes, x.ID, share, want)
			}
		}
	}
}

// A weight that falls moves keys from its node only, and no key between others.
func TestWeightMovesOnlyItsShare(t *testing.T) {
	before := []Node{{"a", 60}, {"b", 30}, {"c", 30}}
	for _, weight := range []int{59, 30, 1, 0} {
		after := []Node{{"a", weight}, {"b", 30}, {"c", 30}}
		for i := range 5000 {
			key := fmt.Sprint(i)
			was, is := sorted(before, key), sorted(after, key)
			if was[0].ID != is[0].ID && was[0].ID != "a" {
				t.Fatalf("weight of a to %d: key %s moves from %s to %s", weight, key, was[0].ID, is[0].ID)
			}
			if was[0].ID == "a" && is[0].ID != "a" && is[0].ID != was[1].ID {
				t.Fatalf("weight of a to %d: key %s moves from a to %s, next was %s", weight, key, is[0].ID, was[1].ID)
			}
		}
	}
}
