package segmenter

// A Delivery says from where players fetch what a stream has, if not all from the host of its multivariant playlist. The engine
// makes no use of it: it goes with the run to those who write playlists. It does not change.
type Delivery struct {
	// Shards are the origins, "https://m1.example.com", among which segments and initialization sections are divided.
	Shards []string
	// Pathways are the places that each offer everything (RFC 8216bis 4.4.6.6); the first is where playback begins. With
	// them there are no Shards.
	Pathways []Pathway
	// SteeringURL is where below it the steering manifests lie, "https://steer.example.com"; "" is where the
	// multivariant playlist is.
	SteeringURL string
}

// A Pathway is a CDN, say, with the URL under which it has what the origin has under "/", without a slash at its end.
type Pathway struct{ ID, URL string }
