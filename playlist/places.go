package playlist

import (
	"net/url"
	"slices"

	"headwater/playlist/rendezvous"
	"headwater/segmenter"
)

// Where what a playlist lists lies, if not beside it: media on shards, and whole presentations on pathways.

// MaxShards and MaxPathways bound a segmenter.Delivery. Further shards are not used.
const (
	MaxShards   = 16
	MaxPathways = 16
)

// Steering is the name of a stream's steering manifest (RFC 8216bis 7), beside its multivariant playlist.
const Steering = "steering.json"

// Shard returns the one of hosts that an object's path ("/live/cam/...") is assigned to, by rendezvous hash: the path alone
// decides, so it is the same in every playlist and from every origin, and a host that comes or goes moves only its share.
func Shard(hosts []string, path string) string {
	p := newPlaces(hosts)
	return p.pick(rendezvous.New(path))
}

// places are the shards of a rendition's segments and initialization sections. Parts have none: low latency wants the playlist
// and its parts from one host, where the connection is that holds the next request (Apple's rules for low-latency HLS).
type places struct {
	hosts  []string
	seeds  [MaxShards]rendezvous.Hash
	folder string          // the path of the objects up to their names
	hash   rendezvous.Hash // of folder
	up     string          // without hosts: from the playlist's folder to that of the objects
}

func newPlaces(hosts []string) (p places) {
	p.hosts = hosts[:min(len(hosts), MaxShards)]
	for i, h := range p.hosts {
		p.seeds[i] = rendezvous.New(h)
	}
	return p
}

// placesOf returns the places of r's objects in that folder below the playlist's ("ts/"). Without shards that costs nothing.
func placesOf(r *segmenter.Rendition, below string) places {
	hosts := shards(r.Run)
	if len(hosts) == 0 {
		return places{}
	}
	p := newPlaces(hosts)
	p.folder = streamFolder(r.Run) + url.PathEscape(r.Run.ID) + "/" + url.PathEscape(r.ID) + "/" + below
	p.hash = rendezvous.New(p.folder)
	return p
}

// placeBytes is how much longer an object's URI is than its name, at most.
func placeBytes(r *segmenter.Rendition) int {
	hosts := shards(r.Run)
	if len(hosts) == 0 {
		return 0
	}
	most := 0
	for _, h := range hosts {
		most = max(most, len(h))
	}
	return most + len(streamFolder(r.Run)) + len(r.Run.ID) + len(r.ID) + len("//"+TSFolder+"/")
}

func shards(r *segmenter.Run) []string {
	if d := r.Config.Delivery; d != nil {
		return d.Shards
	}
	return nil
}

// streamFolder is the path of the stream's multivariant playlist, up to its name. Stream names need no escapes.
func streamFolder(r *segmenter.Run) string {
	if r.Stream == nil {
		return "/"
	}
	return "/" + r.Stream.Name + "/"
}

// place puts the address before the name that dst ends with, from n on.
func (p *places) place(dst []byte, n int) []byte {
	before, folder := "", p.up
	if len(p.hosts) > 0 {
		before, folder = p.pick(rendezvous.Add(p.hash, dst[n:])), p.folder
	}
	more := len(before) + len(folder)
	if more == 0 {
		return dst
	}
	dst = slices.Grow(dst, more)[:len(dst)+more]
	copy(dst[n+more:], dst[n:])
	copy(dst[n+copy(dst[n:], before):], folder)
	return dst
}

func (p *places) pick(key rendezvous.Hash) string {
	best, most := "", uint64(0)
	for i, h := range p.hosts {
		if s := rendezvous.Score(p.seeds[i], key); best == "" || s > most || s == most && h < best {
			best, most = h, s
		}
	}
	return best
}

// A pathway is what the URIs and the groups of a Multivariant Playlist begin with, for one pathway.
type pathway struct {
	id   string // "": the playlist has no pathways
	base string // of URIs that are relative to the run's folder
}

// pathwaysOf returns the pathways of p in their order, or else one that leads up to the stream's folder from where the playlist is.
func pathwaysOf(p *segmenter.Presentation, up string) []pathway {
	d := p.Run.Config.Delivery
	run := url.PathEscape(p.Run.ID) + "/"
	if d == nil || len(d.Pathways) == 0 {
		return []pathway{{base: up + run}}
	}
	var out []pathway
	for _, w := range d.Pathways[:min(len(d.Pathways), MaxPathways)] {
		out = append(out, pathway{w.ID, w.URL + streamFolder(p.Run) + run})
	}
	return out
}

// group is g as it is on the pathway. Rendition groups belong to one pathway each, by their names (RFC 8216bis 7.1); no other
// group's has a slash.
func (w pathway) group(g group) group {
	if w.id != "" {
		g.id = w.id + "/" + g.id
	}
	return g
}

// attributes are those of a variant on the pathway that the library cannot write. The stable identifier is the same on all
// pathways: it is by that that players find the variant's like (RFC 8216bis 4.4.6.2, 7.1).
func (w pathway) attributes(stableID string) []string {
	out := []string{quoted("STABLE-VARIANT-ID", stableID)}
	if w.id != "" {
		out = append(out, quoted("PATHWAY-ID", w.id))
	}
	return out
}

// steeringLine is EXT-X-CONTENT-STEERING (RFC 8216bis 4.4.6.6). The first pathway is the one to begin with, whatever the weights
// are now: they are in the manifest alone, which players ask for at once.
func steeringLine(p *segmenter.Presentation, up string) string {
	d := p.Run.Config.Delivery
	if d == nil || len(d.Pathways) == 0 {
		return ""
	}
	uri := up + Steering
	if d.SteeringURL != "" {
		uri = d.SteeringURL + streamFolder(p.Run) + Steering
	}
	return "#EXT-X-CONTENT-STEERING:" + quoted("SERVER-URI", uri) + "," + quoted("PATHWAY-ID", d.Pathways[0].ID) + "\n"
}
