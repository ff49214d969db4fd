package main

import (
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"headwater/playlist"
	"headwater/segmenter"
	"headwater/web"
)

// defaultWeight is that of a pathway of which nothing else is said.
const defaultWeight = 100

const (
	minSteeringTTL = time.Second
	maxSteeringTTL = 24 * time.Hour
)

// A pathway is one of the setting pathways: in the file {id: cdn-a, url: https://a.example.com, weight: 100}, elsewhere
// cdn-a:100=https://a.example.com; the weight may be left out.
type pathway struct {
	ID     string `yaml:"id"`
	URL    string `yaml:"url"`
	Weight int    `yaml:"weight"`
}

// UnmarshalText reads the form of the command line.
func (p *pathway) UnmarshalText(b []byte) error {
	name, address, ok := strings.Cut(string(b), "=")
	id, weight, weighed := strings.Cut(name, ":")
	if !ok {
		return fmt.Errorf("%q is not ID:WEIGHT=URL", b)
	}
	n := defaultWeight
	if weighed {
		var err error
		if n, err = strconv.Atoi(weight); err != nil {
			return fmt.Errorf("weight %q is not a whole number", weight)
		}
	}
	*p = pathway{id, address, n}
	return nil
}

// pathwayText is the same of what a mapping in the file says.
func pathwayText(m map[string]any) (string, error) {
	for k := range m {
		if k != "id" && k != "url" && k != "weight" {
			return "", fmt.Errorf("unknown key %q; there are id, url and weight", k)
		}
	}
	id, _ := m["id"].(string)
	address, _ := m["url"].(string)
	weight, weighed := m["weight"].(string)
	if strings.ContainsAny(id, ":=") {
		return "", fmt.Errorf("id %q: letters, digits and ._- are allowed", id)
	}
	if weighed {
		id += ":" + weight
	}
	return id + "=" + address, nil
}

// checkDelivery says what is wrong with where players are sent.
func (s *StreamSettings) checkDelivery() error {
	for i, h := range s.Shards {
		if err := web.CheckBase(h, false); err != nil {
			return bad("shards", "%w", err)
		}
		if slices.Contains(s.Shards[:i], h) {
			return bad("shards", "%s is there twice", h)
		}
	}
	for i, p := range s.Pathways {
		err := web.Pathway(p).Check()
		switch {
		case err == nil && slices.ContainsFunc(s.Pathways[:i], func(q pathway) bool { return q.ID == p.ID }):
			err = fmt.Errorf("%s is there twice", p.ID)
		case err == nil && slices.ContainsFunc(s.Pathways[:i], func(q pathway) bool { return strings.EqualFold(q.URL, p.URL) }):
			err = fmt.Errorf("%s is there twice", p.URL)
		}
		if err != nil {
			return bad("pathways", "%w", err)
		}
	}
	if s.SteeringURL != "" {
		if err := web.CheckBase(s.SteeringURL, true); err != nil {
			return bad("steering-url", "%w", err)
		}
	}
	switch {
	case len(s.Shards) > playlist.MaxShards:
		return bad("shards", "%d are more than %d", len(s.Shards), playlist.MaxShards)
	case len(s.Pathways) > playlist.MaxPathways:
		return bad("pathways", "%d are more than %d", len(s.Pathways), playlist.MaxPathways)
	case len(s.Shards) > 0 && len(s.Pathways) > 0:
		return bad("shards", "a media playlist is the same on all pathways: with shards in it they would all fetch from the same hosts; set one of the two")
	case s.SteeringTTL < minSteeringTTL || s.SteeringTTL > maxSteeringTTL || s.SteeringTTL%time.Second != 0:
		return bad("steering-ttl", "%v is not a whole number of seconds between %v and %v", s.SteeringTTL, minSteeringTTL, maxSteeringTTL)
	}
	return nil
}

// delivery is where the streams of these settings are fetched, nil for where their playlists are.
func (s *StreamSettings) delivery() *segmenter.Delivery {
	if len(s.Shards)+len(s.Pathways) == 0 {
		return nil
	}
	d := &segmenter.Delivery{Shards: s.Shards, SteeringURL: s.SteeringURL}
	for _, p := range s.Pathways {
		d.Pathways = append(d.Pathways, segmenter.Pathway{ID: p.ID, URL: p.URL})
	}
	return d
}

// hosts are the origins (RFC 6454) other than this one that playlists lead to.
func (s *Settings) hosts() []string {
	var all []string
	for _, c := range s.everyStream() {
		bases := slices.Clone(c.Shards)
		for _, p := range c.Pathways {
			bases = append(bases, p.URL)
		}
		if c.SteeringURL != "" && len(c.Pathways) > 0 {
			bases = append(bases, c.SteeringURL)
		}
		for _, b := range bases {
			u, _ := url.Parse(b) // has been checked
			all = append(all, u.Scheme+"://"+u.Host)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// warnOfShards says, once, what shards are no good for.
func (s *Settings) warnOfShards(log *slog.Logger) {
	if slices.ContainsFunc(s.everyStream(), func(c *StreamSettings) bool { return len(c.Shards) > 0 }) {
		log.Warn("shards: players that speak HTTP/2 or HTTP/3 gain nothing from several hosts and lose the use of one connection for all")
	}
}

// steer connects the content steering of the settings, which have been checked. A pattern of names that says nothing of pathways shares those of all.
func (s *Settings) steer(w *web.Server) {
	add := func(streams string, c *StreamSettings) *web.Steering {
		if len(c.Pathways) == 0 {
			return nil
		}
		var list []web.Pathway
		for _, p := range c.Pathways {
			list = append(list, web.Pathway{ID: p.ID, URL: p.URL, Weight: p.Weight})
		}
		x := web.NewSteering(streams, c.SteeringTTL, list)
		w.Steerings = append(w.Steerings, x)
		return x
	}
	general := add("", &s.StreamSettings)
	steerings := map[*StreamSettings]*web.Steering{&s.StreamSettings: general}
	for i := range s.Streams {
		p := &s.Streams[i]
		steerings[&p.Settings] = general
		if slices.ContainsFunc(p.Set, func(e Entry) bool { return e.Name == "pathways" || e.Name == "steering-ttl" }) {
			steerings[&p.Settings] = add(p.Pattern, &p.Settings)
		}
	}
	w.Steering = func(stream string) *web.Steering { return steerings[s.stream(stream)] }
}
