package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// AMF0 as a publisher needs it (AMF0 specification, 2): commands go out, and of the replies the leading scalars and the
// strings of an information object matter.

type amfObject []amfField

type amfField struct {
	name  string
	value any
}

// appendAMF0 appends values: float64, string, bool, nil, amfObject, and map[string]float64 as an ECMA array.
func appendAMF0(dst []byte, values ...any) []byte {
	for _, v := range values {
		switch v := v.(type) {
		case float64:
			dst = binary.BigEndian.AppendUint64(append(dst, 0), math.Float64bits(v))
		case bool:
			dst = append(dst, 1, 0)
			if v {
				dst[len(dst)-1] = 1
			}
		case string:
			dst = appendAMF0Name(append(dst, 2), v)
		case nil:
			dst = append(dst, 5)
		case amfObject:
			dst = append(dst, 3)
			for _, f := range v {
				dst = appendAMF0(appendAMF0Name(dst, f.name), f.value)
			}
			dst = append(dst, 0, 0, 9)
		case map[string]float64:
			dst = binary.BigEndian.AppendUint32(append(dst, 8), uint32(len(v)))
			names := make([]string, 0, len(v))
			for name := range v {
				names = append(names, name)
			}
			slices.Sort(names)
			for _, name := range names {
				dst = appendAMF0(appendAMF0Name(dst, name), v[name])
			}
			dst = append(dst, 0, 0, 9)
		}
	}
	return dst
}

func appendAMF0Name(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}

// maxAMF0Depth bounds nesting in a server's reply.
const maxAMF0Depth = 8

// parseAMF0 reads the values of a command. Objects come as map[string]any.
func parseAMF0(b []byte) ([]any, error) {
	var out []any
	for len(b) > 0 {
		v, rest, err := parseAMF0Value(b, 0)
		if err != nil {
			return out, err
		}
		out, b = append(out, v), rest
	}
	return out, nil
}

func parseAMF0Value(b []byte, depth int) (any, []byte, error) {
	short := fmt.Errorf("amf0: value is cut short")
	if len(b) == 0 {
		return nil, nil, short
	}
	marker := b[0]
	b = b[1:]
	switch marker {
	case 0:
		if len(b) < 8 {
			return nil, nil, short
		}
		return math.Float64frombits(binary.BigEndian.Uint64(b)), b[8:], nil
	case 1:
		if len(b) < 1 {
			return nil, nil, short
		}
		return b[0] != 0, b[1:], nil
	case 2:
		s, rest, ok := cutAMF0Name(b)
		if !ok {
			return nil, nil, short
		}
		return s, rest, nil
	case 5, 6:
		return nil, b, nil
	case 3, 8:
		if depth == maxAMF0Depth {
			return nil, nil, fmt.Errorf("amf0: nested too deep")
		}
		if marker == 8 {
			if len(b) < 4 {
				return nil, nil, short
			}
			b = b[4:]
		}
		m := map[string]any{}
		for {
			name, rest, ok := cutAMF0Name(b)
			if !ok || len(rest) == 0 {
				return nil, nil, short
			}
			if name == "" && rest[0] == 9 {
				return m, rest[1:], nil
			}
			v, rest, err := parseAMF0Value(rest, depth+1)
			if err != nil {
				return nil, nil, err
			}
			m[name], b = v, rest
		}
	}
	return nil, nil, fmt.Errorf("amf0: marker %d in a reply", marker)
}

func cutAMF0Name(b []byte) (string, []byte, bool) {
	if len(b) < 2 {
		return "", nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if len(b) < 2+n {
		return "", nil, false
	}
	return string(b[2 : 2+n]), b[2+n:], true
}
