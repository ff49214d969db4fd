package flv

// A nalKind is what a NAL unit is to a demuxer.
type nalKind uint8

const (
	nalOther      nalKind = iota // belongs to the access unit
	nalLeftOut                   // has no place in a sample: a delimiter, or the end of something
	nalParameters                // belongs into the sample entry
	nalSEI
	nalSlice
	nalCRA // a slice of a picture at which only an open GOP can begin
	nalIDR // a slice of a picture from which on everything can be decoded
)

// avcKind is the kind of a NAL unit of H.264 (ITU-T H.264, table 7-1).
func avcKind(nal []byte) nalKind {
	switch typ := nal[0] & 0x1f; typ {
	case 1, 2, 3, 4:
		return nalSlice
	case 5:
		return nalIDR
	case 6:
		return nalSEI
	case 7, 8:
		return nalParameters
	case 9:
		return nalLeftOut
	}
	return nalOther
}

// hevcKind is the kind of a NAL unit of HEVC (ITU-T H.265, table 7-1). A CRA picture is no IDR: what is presented before it may
// not be decodable after it (open GOP).
func hevcKind(nal []byte) nalKind {
	switch typ := nal[0] >> 1 & 0x3f; {
	case typ >= 16 && typ <= 20: // BLA and IDR pictures
		return nalIDR
	case typ == 21:
		return nalCRA
	case typ <= 31:
		return nalSlice
	case typ <= 34:
		return nalParameters
	case typ <= 37: // access unit delimiter, end of sequence, end of bitstream
		return nalLeftOut
	case typ == 39, typ == 40:
		return nalSEI
	}
	return nalOther
}

// parameters are the parameter sets of a codec, *codec.AVCConfig or *codec.HEVCConfig.
type parameters interface {
	Have(nal []byte) bool
	Replace(nal []byte) (changed bool, err error)
	Append(dst []byte) ([]byte, error)
}
