package web

import (
	"encoding/json"
	"fmt"
	"maps"
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

	maxRetired = 64 // clones that were taken away
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

// cloned is p with another pathway, or with the weight of one that has been added. The hosts differ in their names alone: that is what a player can put
// into the URIs it knows, and with other paths objects would have other names than everywhere else. Players keep what they have learnt of an ID.
func (p pathways) cloned(add Pathway, params map[string]string) (pathways, error) {
	switch {
	case !goodID(add.ID):
		return p, errClone("id: " + errID.Error())
	case CheckBase(add.URL, true) != nil:
		return p, errClone("url: " + errBase.Error()) // it may hold a secret
	}
	if err := checkParams(params); err != nil {
		return p, err
	}
	same := func(x steered) bool {
		return strings.EqualFold(x.URL, add.URL) && (x.clone == nil && len(params) == 0 || x.clone != nil && maps.Equal(x.clone.params, params))
	}
	if i := find(p.list, add.ID); i >= 0 && same(p.list[i]) {
		return p.weighed(add.ID, add.Weight)
	} else if j := find(p.retired, add.ID); i >= 0 || j >= 0 && !same(p.retired[j]) {
		return p, errClone(fmt.Sprintf("players that know %s keep what they know of it: take another ID", add.ID))
	}
	if len(p.list) >= playlist.MaxPathways {
		return p, errClone(fmt.Sprintf("there are %d pathways, more are not possible", len(p.list)))
	}
	if i := slices.IndexFunc(p.list, same); i >= 0 {
		return p, errClone(fmt.Sprintf("url: that is %s already", p.list[i].ID))
	}
	u, err := url.Parse(add.URL)
	if err != nil {
		return p, err
	}
	i := slices.IndexFunc(p.list, func(x steered) bool { return x.clone == nil && likeBut(x.URL, u) })
	if i < 0 {
		return p, errNoBase
	}
	c := &clone{base: p.list[i].ID, params: params}
	var o struct {
		Base string `json:"BASE-ID"`
		ID   string `json:"ID"`
		URI  struct {
			Host   string            `json:"HOST"`
			Params map[string]string `json:"PARAMS,omitempty"`
		} `json:"URI-REPLACEMENT"`
	}
	o.Base, o.ID, o.URI.Params = c.base, add.ID, params
	o.URI.Host = strings.TrimSuffix(u.Host, ":"+u.Port()) // hls.js gives it to URL.hostname, which takes no port
	if c.json, err = json.Marshal(o); err != nil {
		return p, err
	}
	p.list = append(slices.Clip(p.list), steered{add, c})
	return p, nil
}

// without is p without a pathway that has been added.
func (p pathways) without(id string) (pathways, error) {
	i := find(p.list, id)
	switch {
	case i < 0:
		return p, errUnknown
	case p.list[i].clone == nil:
		return p, errClone(fmt.Sprintf("%s is in the playlists, which players do not read again: give it the weight 0", id))
	}
	if find(p.retired, id) < 0 {
		if len(p.retired) >= maxRetired {
			return p, errClone(fmt.Sprintf("%d have been taken away since the start, which is as many as are remembered: give it the weight 0", maxRetired))
		}
		p.retired = append(slices.Clip(p.retired), p.list[i])
	}
	p.list = slices.Delete(slices.Clone(p.list), i, i+1)
	return p, nil
}

// likeBut says whether a URL is u but for the name of the host.
func likeBut(base string, u *url.URL) bool {
	b, err := url.Parse(base)
	return err == nil && b.Scheme == u.Scheme && b.Port() == u.Port() && b.EscapedPath() == u.EscapedPath()
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
