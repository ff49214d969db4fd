package amf0

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"headwater/segmenter/media"
)

// cases feed decode, encode and the fuzz seeds. Those with once set have a second spelling on the wire, which is the one
// that Append writes.
var cases = []struct {
	name string
	in   string
	v    any
	once bool
}{
	{"number", "\x00\x3f\xf0\x00\x00\x00\x00\x00\x00", 1.0, false},
	{"infinity", "\x00\x7f\xf0\x00\x00\x00\x00\x00\x00", math.Inf(1), false},
	{"true", "\x01\x01", true, false},
	{"true, but 2", "\x01\x02", true, true},
	{"false", "\x01\x00", false, false},
	{"string", "\x02\x00\x04live", "live", false},
	{"empty string", "\x02\x00\x00", "", false},
	{"null", "\x05", nil, false},
	{"undefined", "\x06", nil, true},
	{"unsupported", "\x0d", nil, true},
	{"object", "\x03\x00\x03app\x02\x00\x04live\x00\x01v\x01\x01\x00\x00\x09", Object{"app": "live", "v": true}, false},
	{"empty object", "\x03\x00\x00\x09", Object{}, false},
	{"empty name", "\x03\x00\x00\x05\x00\x00\x09", Object{"": nil}, false},
	{"same name twice", "\x03\x00\x01a\x01\x00\x00\x01a\x01\x01\x00\x00\x09", Object{"a": true}, true},
	{"typed object", "\x10\x00\x03Foo\x00\x01a\x05\x00\x00\x09", Object{"a": nil}, true},
	{"ecma array", "\x08\x00\x00\x00\x01\x00\x01a\x05\x00\x00\x09", Object{"a": nil}, true},
	{"ecma array, count wrong", "\x08\x00\x00\x00\x00\x00\x01a\x05\x00\x00\x09", Object{"a": nil}, true},
	{"ecma array without end", "\x08\x00\x00\x00\x01\x00\x01a\x05", Object{"a": nil}, true},
	{"strict array", "\x0a\x00\x00\x00\x02\x05\x01\x01", []any{nil, true}, false},
	{"empty strict array", "\x0a\x00\x00\x00\x00", []any{}, false},
	{"date", "\x0b\x3f\xf0\x00\x00\x00\x00\x00\x00\x00\x3c", 1.0, true},
	{"xml", "\x0f\x00\x00\x00\x04<a/>", "<a/>", true},
	{"short long string", "\x0c\x00\x00\x00\x01a", "a", true},
	{"long string", "\x0c\x00\x01\x00\x00" + strings.Repeat("a", 1<<16), strings.Repeat("a", 1<<16), false},
	{"nested", "\x03\x00\x01a\x0a\x00\x00\x00\x01\x03\x00\x00\x09\x00\x00\x09", Object{"a": []any{Object{}}}, false},
	{"as deep as allowed", nested(MaxDepth), deep(MaxDepth), false},
}

// nested returns the bytes of a null in n arrays, deep the value.
func nested(n int) string { return strings.Repeat("\x0a\x00\x00\x00\x01", n) + "\x05" }

func deep(n int) any {
	if n == 0 {
		return nil
	}
	return []any{deep(n - 1)}
}

func TestDecode(t *testing.T) {
	for _, c := range cases {
		v, rest, err := Decode([]byte(c.in))
		if err != nil || len(rest) > 0 {
			t.Errorf("%s: rest %q, %v", c.name, rest, err)
		}
		if d := cmp.Diff(c.v, v); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

func TestAppend(t *testing.T) {
	for _, c := range cases {
		if c.once {
			continue
		}
		if d := cmp.Diff("x"+c.in, string(Append([]byte("x"), c.v))); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
	if d := cmp.Diff("\x00\x3f\xf0\x00\x00\x00\x00\x00\x00", string(Append(nil, 1))); d != "" {
		t.Errorf("int: %s", d)
	}
}

// bad are inputs that are refused, by what the error says.
var bad = []struct{ name, in, want string }{
	{"nothing", "", "marker of 1 bytes with 0 left"},
	{"short number", "\x00\x3f", "number of 8 bytes"},
	{"short boolean", "\x01", "boolean of 1 bytes"},
	{"string without length", "\x02\x00", "string length"},
	{"string longer than the input", "\x02\xff\xffab", "string of 65535 bytes with 2 left"},
	{"long string longer than allowed", "\x0c\xff\xff\xff\xffab", "string of 4294967295 bytes, more than"},
	{"object without end", "\x03\x00\x01a\x05", "string length"},
	{"ecma array, too few", "\x08\x00\x00\x00\x02\x00\x01a\x05", "string length"},
	{"ecma array without count", "\x08\x00", "array count"},
	{"member without value", "\x03\x00\x01a", "marker of 1 bytes"},
	{"typed object without name", "\x10\x00", "string length"},
	{"strict array longer than the input", "\x0a\xff\xff\xff\xff\x05", "array of 4294967295 values"},
	{"strict array without count", "\x0a\xff", "array count"},
	{"short date", "\x0b\x00", "date of 8"},
	{"date without zone", "\x0b\x00\x00\x00\x00\x00\x00\x00\x00\x00", "time zone"},
	{"movie clip", "\x04", "marker 0x04"},
	{"record set", "\x0e", "marker 0x0e"},
	{"reference", "\x07\x00\x00", "reference"},
	{"AMF 3", "\x11\x01", "AMF 3"},
	{"end marker alone", "\x09", "marker 0x09"},
	{"array one too deep", nested(MaxDepth + 1), "nested deeper"},
	{"object 10,000 deep", strings.Repeat("\x03\x00\x01a", 10_000), "nested deeper"},
	{"too many values", "\x0a\x00\x01\x00\x00" + strings.Repeat("\x05", 1<<16), "more than 65536 values"},
}

func TestRefused(t *testing.T) {
	for _, c := range bad {
		_, rest, err := Decode([]byte(c.in))
		var fe *media.FormatError
		if !errors.As(err, &fe) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if string(rest) != c.in {
			t.Errorf("%s: input consumed", c.name)
		}
	}
}

func TestDecodeAll(t *testing.T) {
	in := Append(Append(Append(nil, "connect"), 1.0), nil)
	vs, err := DecodeAll(in)
	if d := cmp.Diff([]any{"connect", 1.0, nil}, vs); d != "" || err != nil {
		t.Errorf("%v %s", err, d)
	}
	vs, err = DecodeAll(append(in, 0x04))
	if d := cmp.Diff([]any{"connect", 1.0, nil}, vs); d != "" || err == nil {
		t.Errorf("with garbage behind: %v %s", err, d)
	}
	// The limit is on the call, not on each value in turn.
	if _, err := DecodeAll([]byte(strings.Repeat("\x05", MaxValues+1))); err == nil {
		t.Error("too many values taken")
	}
}

func TestTypedAccess(t *testing.T) {
	o := Object{"s": "a", "n": 2.0, "b": true, "a": []any{nil}, "o": Object{"s": "inner"}}
	n, ok := o.Number("n")
	if o.String("s") != "a" || n != 2 || !ok || !o.Bool("b") || len(o.Array("a")) != 1 || o.Object("o").String("s") != "inner" {
		t.Error("right types not returned")
	}
	_, ok = o.Number("s")
	if o.String("n") != "" || ok || o.Bool("s") || o.Array("o") != nil || o.Object("a").Object("x").String("s") != "" {
		t.Error("wrong types returned")
	}
}

func FuzzDecode(f *testing.F) {
	for _, c := range cases {
		f.Add([]byte(c.in))
	}
	for _, c := range bad {
		f.Add([]byte(c.in))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		vs, err := DecodeAll(b)
		var fe *media.FormatError
		if err != nil && !errors.As(err, &fe) {
			t.Fatalf("%T", err)
		}
		var out []byte
		for _, v := range vs {
			out = Append(out, v)
		}
		again, err := DecodeAll(out)
		if err != nil {
			t.Fatalf("what was decoded does not decode again: %v", err)
		}
		var twice []byte // compared as bytes: NaN is not equal to itself
		for _, v := range again {
			twice = Append(twice, v)
		}
		if string(out) != string(twice) {
			t.Fatal("decoding and encoding do not agree")
		}
	})
}
