package web

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"headwater/playlist"
)

// A pathway that is added while players already have their playlists is a clone of one that is in them (RFC 8216bis 7.2): they are told of it in the
// steering manifest, and make its URIs from those that they know.

const (
	maxParams = 16  // of a clone
	maxParam  = 256 // bytes of a name or a value
)

// A clone is how a pathway differs from the one that it is a clone of.
type clone struct {
	base   string
	params map[string]string
	json   []byte // the Pathway Clone object
}

// An errClone says why a pathway cannot be added or taken away.
type errClone string

func (e errClone) Error() string { return string(e) }

const errNoBase errClone = "url: no pathway of the settings differs from it in the name of its host alone (same scheme, port and path); one that differs in more goes into the settings"

// addClone adds a pathway, or gives one that it has added the weight. The hosts differ in their names alone: that is what a player can put into
// the URIs it knows, and with other paths objects would have other names than everywhere else.
func (s *Steering) addClone(p Pathway, params map[string]string) error {
	if err := p.Check(); err != nil {
		return errClone(err.Error())
	}
	u, err := url.Parse(p.URL)
	if err != nil {
		return errClone(err.Error())
	}
	if err := checkParams(params); err != nil {
		return err
	}
	return s.change(func(list []steered) ([]steered, error) {
		if i := find(list, p.ID); i >= 0 {
			x := &list[i]
			if x.URL != p.URL || x.clone != nil && !sameParams(x.clone.params, params) || x.clone == nil && len(params) > 0 {
				return nil, errClone(fmt.Sprintf("players that know %s keep what they know of it: take another ID", p.ID))
			}
			x.Weight = p.Weight
			return list, nil
		}
		if len(list) >= playlist.MaxPathways {
			return nil, errClone(fmt.Sprintf("there are %d pathways, more are not possible", len(list)))
		}
		i := slices.IndexFunc(list, func(x steered) bool { return x.clone == nil && likeBut(x.URL, u) })
		if i < 0 {
			return nil, errNoBase
		}
		c := &clone{base: list[i].ID, params: params}
		var o struct {
			Base string `json:"BASE-ID"`
			ID   string `json:"ID"`
			URI  struct {
				Host   string            `json:"HOST"`
				Params map[string]string `json:"PARAMS,omitempty"`
			} `json:"URI-REPLACEMENT"`
		}
		o.Base, o.ID, o.URI.Host, o.URI.Params = c.base, p.ID, hostName(u), params
		if c.json, err = json.Marshal(o); err != nil {
			return nil, err
		}
		return append(list, steered{Pathway: p, clone: c}), nil
	})
}

// removeClone takes a pathway away that was added.
func (s *Steering) removeClone(id string) error {
	return s.change(func(list []steered) ([]steered, error) {
		i := find(list, id)
		switch {
		case i < 0:
			return nil, errUnknown
		case list[i].clone == nil:
			return nil, errClone(fmt.Sprintf("%s is in the playlists, which players do not read again: give it the weight 0", id))
		}
		return slices.Delete(list, i, i+1), nil
	})
}

// likeBut says whether a URL is u but for the name of the host.
func likeBut(base string, u *url.URL) bool {
	b, err := url.Parse(base)
	return err == nil && b.Scheme == u.Scheme && b.Port() == u.Port() && b.EscapedPath() == u.EscapedPath()
}

// hostName is the name or address of u's host as it is in a URL, without the port: hls.js gives it to URL.hostname, which takes no port.
func hostName(u *url.URL) string {
	return strings.TrimSuffix(u.Host, ":"+u.Port())
}

func checkParams(params map[string]string) error {
	if len(params) > maxParams {
		return errClone(fmt.Sprintf("params: %d are more than %d", len(params), maxParams))
	}
	for name, value := range params {
		switch {
		case name == "" || len(name) > maxParam || len(value) > maxParam:
			return errClone(fmt.Sprintf("params: a name has 1 to %d bytes, a value %d at most", maxParam, maxParam))
		case strings.HasPrefix(name, "_HLS_"): // RFC 8216bis 6.2.5 keeps these names for itself
			return errClone("params: names that begin with _HLS_ are the standard's")
		}
	}
	return nil
}

func sameParams(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for name, value := range a {
		if other, ok := b[name]; !ok || other != value {
			return false
		}
	}
	return true
}

// CloneHosts are the origins (RFC 6454) of the pathways that were added.
func (s *Server) CloneHosts() (hosts []string) {
	for _, x := range s.Steerings {
		for _, p := range x.pathways() {
			if u, err := url.Parse(p.URL); err == nil && p.clone != nil {
				hosts = append(hosts, u.Scheme+"://"+u.Host)
			}
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}
