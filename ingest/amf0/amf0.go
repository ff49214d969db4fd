// Package amf0 reads and writes Action Message Format 0, the notation of RTMP's commands and of FLV's script data
// (Adobe, "Action Message Format -- AMF 0", 2007). It refuses what would cost more than the bytes it came in: deep
// nesting, too many values, references, and AMF 3 values inside AMF 0.
package amf0

import (
	"encoding/binary"
	"math"
	"slices"

	"headwater/segmenter/media"
)

// An Object holds the members of an anonymous object, a typed object (whose class name is dropped) or an ECMA array.
// Its values, like all values here, are float64, bool, string, nil, Object or []any.
type Object map[string]any

// String returns the member of that name when it is a string, and "" otherwise.
func (o Object) String(name string) string {
	s, _ := o[name].(string)
	return s
}

// Number returns the member of that name when it is a number, and says whether it is.
func (o Object) Number(name string) (float64, bool) {
	f, ok := o[name].(float64)
	return f, ok
}

// Bool returns the member of that name when it is a boolean, and false otherwise.
func (o Object) Bool(name string) bool {
	b, _ := o[name].(bool)
	return b
}

// Array returns the member of that name when it is a strict array, and nil otherwise.
func (o Object) Array(name string) []any {
	a, _ := o[name].([]any)
	return a
}

// Object returns the member of that name when it is an object or an ECMA array, and nil otherwise. A nil Object can be
// asked like any other.
func (o Object) Object(name string) Object {
	m, _ := o[name].(Object)
	return m
}

// Limits on what one call decodes. AMF 0 itself has none but those of its length fields.
const (
	// MaxDepth is how deep objects and arrays may lie in each other. Real commands and metadata use 2 or 3.
	MaxDepth = 16
	// MaxString is the longest string in bytes. Some encoders put whole XML documents into their metadata.
	MaxString = 1 << 20
	// MaxValues is how many values one call returns, inner ones counted: enough for the key frame index of a long file.
	MaxValues = 1 << 16
)

// Type markers, AMF 0 section 2.1.
const (
	markNumber      = 0x00
	markBoolean     = 0x01
	markString      = 0x02
	markObject      = 0x03
	markMovieClip   = 0x04
	markNull        = 0x05
	markUndefined   = 0x06
	markReference   = 0x07
	markECMAArray   = 0x08
	markObjectEnd   = 0x09
	markStrictArray = 0x0a
	markDate        = 0x0b
	markLongString  = 0x0c
	markUnsupported = 0x0d
	markRecordset   = 0x0e
	markXML         = 0x0f
	markTypedObject = 0x10
	markAVMPlus     = 0x11
)

// Decode reads one value and returns the bytes behind it. Undefined and unsupported become nil, a date the float64 of its
// milliseconds since 1970, an XML document the string of its text. Nothing that it returns points into b. Its errors are
// of type *media.FormatError.
func Decode(b []byte) (v any, rest []byte, err error) {
	d := decoder{b: b, left: MaxValues}
	if v, err = d.value(0); err != nil {
		return nil, b, err
	}
	return v, d.b, nil
}

// DecodeAll reads values until b is used up. With an error it returns the values before the bad one.
func DecodeAll(b []byte) ([]any, error) {
	d := decoder{b: b, left: MaxValues}
	var vs []any
	for len(d.b) > 0 {
		v, err := d.value(0)
		if err != nil {
			return vs, err
		}
		vs = append(vs, v)
	}
	return vs, nil
}

// A decoder reads from the front of b.
type decoder struct {
	b    []byte
	left int // values that may still be read
}

func formatf(format string, args ...any) error { return media.Formatf("amf0", format, args...) }

// take returns the next n bytes of the input.
func (d *decoder) take(n int, what string) ([]byte, error) {
	if n > len(d.b) {
		return nil, formatf("%s of %d bytes with %d left", what, n, len(d.b))
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p, nil
}

func (d *decoder) value(depth int) (any, error) {
	if depth > MaxDepth {
		return nil, formatf("nested deeper than %d", MaxDepth)
	}
	if d.left--; d.left < 0 {
		return nil, formatf("more than %d values", MaxValues)
	}
	m, err := d.take(1, "marker")
	if err != nil {
		return nil, err
	}
	switch m[0] {
	case markNumber:
		return d.number("number")
	case markBoolean:
		p, err := d.take(1, "boolean")
		if err != nil {
			return nil, err
		}
		return p[0] != 0, nil
	case markString:
		return d.str(2)
	case markLongString, markXML:
		return d.str(4)
	case markNull, markUndefined, markUnsupported:
		return nil, nil
	case markObject:
		return d.object(depth, -1)
	case markTypedObject:
		if _, err := d.str(2); err != nil { // the class name
			return nil, err
		}
		return d.object(depth, -1)
	case markECMAArray:
		p, err := d.take(4, "array count")
		if err != nil {
			return nil, err
		}
		return d.object(depth, int64(binary.BigEndian.Uint32(p)))
	case markStrictArray:
		return d.array(depth)
	case markDate: // 2.13: milliseconds, then a time zone that is reserved
		f, err := d.number("date")
		if err != nil {
			return nil, err
		}
		if _, err := d.take(2, "date's time zone"); err != nil {
			return nil, err
		}
		return f, nil
	case markReference:
		return nil, formatf("reference to an earlier object")
	case markAVMPlus:
		return nil, formatf("AMF 3 value")
	}
	return nil, formatf("marker %#02x", m[0])
}

func (d *decoder) number(what string) (float64, error) {
	p, err := d.take(8, what)
	if err != nil {
		return 0, err
	}
	return math.Float64frombits(binary.BigEndian.Uint64(p)), nil
}

// str reads a string whose length field has n bytes.
func (d *decoder) str(n int) (string, error) {
	p, err := d.take(n, "string length")
	if err != nil {
		return "", err
	}
	var size int64
	for _, c := range p {
		size = size<<8 | int64(c)
	}
	if size > MaxString {
		return "", formatf("string of %d bytes, more than %d", size, MaxString)
	}
	if p, err = d.take(int(size), "string"); err != nil {
		return "", err
	}
	return string(p), nil
}

// object reads members up to the object end marker. count is the number that an ECMA array announces, -1 for an object: it
// is a hint (2.10), but with it the input may end in place of the marker, which some encoders forget.
func (d *decoder) object(depth int, count int64) (Object, error) {
	o := Object{}
	for n := int64(0); ; n++ {
		if len(d.b) == 0 && count >= 0 && n >= count {
			return o, nil
		}
		name, err := d.str(2)
		if err != nil {
			return nil, err
		}
		if name == "" && len(d.b) > 0 && d.b[0] == markObjectEnd {
			d.b = d.b[1:]
			return o, nil
		}
		if o[name], err = d.value(depth + 1); err != nil {
			return nil, err
		}
	}
}

func (d *decoder) array(depth int) ([]any, error) {
	p, err := d.take(4, "array count")
	if err != nil {
		return nil, err
	}
	n := int64(binary.BigEndian.Uint32(p))
	if n > int64(len(d.b)) { // each value has a byte at least
		return nil, formatf("array of %d values with %d bytes left", n, len(d.b))
	}
	a := []any{}
	for range n {
		v, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		a = append(a, v)
	}
	return a, nil
}

// Append appends v to dst: a float64, int, bool, string, nil, Object or []any, and what those hold likewise. It panics
// on any other type, which is a mistake in the program. An Object's members are written in the order of their names, so
// that equal objects give equal bytes; a member's name is cut off at 65,535 bytes.
func Append(dst []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, markNull)
	case float64:
		return binary.BigEndian.AppendUint64(append(dst, markNumber), math.Float64bits(v))
	case int:
		return Append(dst, float64(v))
	case bool:
		if v {
			return append(dst, markBoolean, 1)
		}
		return append(dst, markBoolean, 0)
	case string:
		if len(v) > math.MaxUint16 {
			dst = binary.BigEndian.AppendUint32(append(dst, markLongString), uint32(len(v)))
		} else {
			dst = binary.BigEndian.AppendUint16(append(dst, markString), uint16(len(v)))
		}
		return append(dst, v...)
	case Object:
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		dst = append(dst, markObject)
		for _, name := range names {
			short := name[:min(len(name), math.MaxUint16)]
			dst = binary.BigEndian.AppendUint16(dst, uint16(len(short)))
			dst = Append(append(dst, short...), v[name])
		}
		return append(dst, 0, 0, markObjectEnd)
	case []any:
		dst = binary.BigEndian.AppendUint32(append(dst, markStrictArray), uint32(len(v)))
		for _, e := range v {
			dst = Append(dst, e)
		}
		return dst
	}
	panic("amf0: cannot encode this type of value")
}
