package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxFile bounds the configuration file.
const maxFile = 1 << 20

// A File is what a configuration file says.
type File struct {
	Entries []Entry
	Streams []StreamPattern
}

// entry returns the entry of that flag, nil if the file has none.
func (f *File) entry(flag string) *Entry {
	for i := range f.Entries {
		if f.Entries[i].Name == flag {
			return &f.Entries[i]
		}
	}
	return nil
}

// readFile reads a configuration file.
func readFile(name string) (*File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("configuration file: %s is larger than %d bytes", name, maxFile)
	}
	return parseFile(name, b)
}

// parseFile reads a configuration file. Its errors begin with "name:line".
func parseFile(name string, b []byte) (*File, error) {
	doc, err := parser.ParseBytes(b, 0)
	if err != nil {
		return nil, syntaxError(name, err)
	}
	p := fileParser{name: name}
	f := &File{}
	for i, d := range doc.Docs {
		if d.Body == nil || d.Body.Type() == ast.NullType {
			continue
		}
		if i > 0 && len(f.Entries)+len(f.Streams) > 0 {
			return nil, p.errorf(d.Body, "a second document; there is to be one")
		}
		if err := p.document(f, d.Body); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// syntaxError puts the parser's error, which shows the source over several lines, into one.
func syntaxError(name string, err error) error {
	line, what := 1, err.Error()
	var at interface {
		GetMessage() string
	}
	if errors.As(err, &at) {
		what = at.GetMessage()
	}
	if _, rest, ok := strings.Cut(err.Error(), "["); ok {
		if n, _, ok := strings.Cut(rest, ":"); ok {
			if v, err := strconv.Atoi(n); err == nil {
				line = v
			}
		}
	}
	what, _, _ = strings.Cut(what, "\n")
	return fmt.Errorf("%s:%d: %s", name, line, what)
}

type fileParser struct{ name string }

func (p fileParser) where(n ast.Node) string {
	return fmt.Sprintf("%s:%d", p.name, n.GetToken().Position.Line)
}

func (p fileParser) errorf(n ast.Node, format string, args ...any) error {
	return fmt.Errorf("%s: %s", p.where(n), fmt.Sprintf(format, args...))
}

func (p fileParser) document(f *File, n ast.Node) error {
	s := &Settings{}
	fields := fieldsOf(s)
	valid := append(keys(s), "streams")
	return p.mapping(n, "", func(k string, kn, v ast.Node) error {
		if k == "streams" {
			return p.streams(f, v)
		}
		e, err := p.entry(fields, valid, k, kn, v)
		if err == nil {
			f.Entries = append(f.Entries, e)
		}
		return err
	})
}

func (p fileParser) streams(f *File, n ast.Node) error {
	if n.Type() == ast.NullType {
		return nil
	}
	return p.mapping(n, "streams", func(pattern string, kn, v ast.Node) error {
		sp := StreamPattern{Pattern: pattern, Where: p.where(kn)}
		s := &StreamSettings{}
		fields, valid := fieldsOf(s), keys(s)
		err := p.mapping(v, "streams: "+pattern, func(k string, kn, v ast.Node) error {
			e, err := p.entry(fields, valid, k, kn, v)
			if err == nil {
				sp.Set = append(sp.Set, e)
			}
			return err
		})
		f.Streams = append(f.Streams, sp)
		return err
	})
}

// entry checks one setting.
func (p fileParser) entry(fields map[string]field, valid []string, k string, kn, v ast.Node) (Entry, error) {
	flag := strings.ReplaceAll(k, "_", "-")
	fld, ok := fields[flag]
	if !ok || strings.Contains(k, "-") {
		return Entry{}, p.errorf(kn, "unknown key %q; the nearest valid key is %q", k, nearest(k, valid))
	}
	val, err := p.value(v)
	if err != nil {
		return Entry{}, err
	}
	if list, ok := val.([]any); ok {
		err = elements(fld, list)
	}
	if err == nil {
		err = decode(fld, val)
	}
	if err != nil {
		return Entry{}, p.errorf(v, "%s: %v", k, err)
	}
	return Entry{Name: flag, Value: val, Where: p.where(kn)}, nil
}

// mapping calls do for each member of n. what names n in errors.
func (p fileParser) mapping(n ast.Node, what string, do func(key string, kn, v ast.Node) error) error {
	m, ok := n.(ast.MapNode)
	if !ok {
		if what == "" {
			return p.errorf(n, "not a list of settings: write lines like http_addr: :8080")
		}
		return p.errorf(n, "%s: settings are to stand below it, one a line", what)
	}
	for it, seen := m.MapRange(), []string(nil); it.Next(); {
		if it.Key().IsMergeKey() {
			return p.errorf(it.Key(), "merge keys are not supported")
		}
		k, ok := scalar(it.Key())
		if !ok {
			return p.errorf(it.Key(), "not a name")
		}
		if slices.Contains(seen, k) {
			return p.errorf(it.Key(), "%q is there twice", k)
		}
		seen = append(seen, k)
		if err := do(k, it.Key(), it.Value()); err != nil {
			return err
		}
	}
	return nil
}

// value returns n as an Entry holds it.
func (p fileParser) value(n ast.Node) (any, error) {
	if s, ok := scalar(n); ok {
		return s, nil
	}
	switch v := n.(type) {
	case *ast.SequenceNode:
		list := []any{}
		for _, x := range v.Values {
			if s, ok := scalar(x); ok {
				list = append(list, s)
				continue
			}
			if _, ok := x.(ast.MapNode); !ok {
				return nil, p.errorf(x, "not a single value")
			}
			m, err := p.value(x)
			if err != nil {
				return nil, err
			}
			list = append(list, m)
		}
		return list, nil
	case ast.MapNode:
		m := map[string]any{}
		err := p.mapping(n, "", func(k string, _, v ast.Node) error {
			s, ok := scalar(v)
			if !ok {
				return p.errorf(v, "not a single value")
			}
			m[k] = s
			return nil
		})
		return m, err
	}
	return nil, p.errorf(n, "anchors, aliases and tags are not supported")
}

// elements puts the mappings in a list into the form that one element has on the command line, as an Entry holds them.
func elements(f field, list []any) error {
	for i, x := range list {
		m, ok := x.(map[string]any)
		if !ok {
			continue
		}
		if f.value.Type() != reflect.TypeFor[[]pathway]() {
			return errors.New("not a single value; an address with a port may need quotes")
		}
		text, err := pathwayText(m)
		if err != nil {
			return err
		}
		list[i] = text
	}
	return nil
}

// scalar returns a plain or quoted value as it is written: 10, 10.0 and "10" are not the same key to publish with.
func scalar(n ast.Node) (string, bool) {
	switch v := n.(type) {
	case *ast.StringNode:
		return v.Value, true
	case *ast.LiteralNode:
		return strings.TrimSuffix(v.Value.Value, "\n"), true
	case *ast.NullNode:
		return "", true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// decode sets f to v, which is as an Entry holds it.
func decode(f field, v any) error {
	switch v := v.(type) {
	case string:
		return decodeScalar(f, v)
	case []any:
		if f.value.Kind() != reflect.Slice {
			return expected(f)
		}
		list := reflect.MakeSlice(f.value.Type(), 0, len(v))
		for _, x := range v {
			e := reflect.New(list.Type().Elem())
			switch e := e.Interface().(type) {
			case *string:
				*e, _ = x.(string)
			case interface{ UnmarshalText([]byte) error }:
				s, _ := x.(string)
				if err := e.UnmarshalText([]byte(s)); err != nil {
					return err
				}
			}
			list = reflect.Append(list, e.Elem())
		}
		f.value.Set(list)
	case map[string]any:
		if f.value.Kind() != reflect.Map {
			return expected(f)
		}
		m := reflect.MakeMap(f.value.Type())
		for k, x := range v {
			m.SetMapIndex(reflect.ValueOf(k), reflect.ValueOf(x))
		}
		f.value.Set(m)
	}
	return nil
}

func decodeScalar(f field, s string) error {
	if enum := f.tag.Get("enum"); enum != "" && !slices.Contains(strings.Split(enum, ","), s) {
		return fmt.Errorf("%q is none of %s", s, strings.ReplaceAll(enum, ",", ", "))
	}
	switch p := f.value.Addr().Interface().(type) {
	case *string:
		*p = s
	case *time.Duration:
		d, err := parseDuration(s)
		if err != nil {
			return err
		}
		*p = d
	case *int:
		n, err := strconv.Atoi(s)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", s)
		}
		*p = n
	case *bool:
		if s != "true" && s != "false" {
			return fmt.Errorf("%q is neither true nor false", s)
		}
		*p = s == "true"
	default: // a list or a mapping
		if s != "" {
			return expected(f)
		}
	}
	return nil
}

func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration: write it like 2s or 334ms", s)
	}
	return d, nil
}

// expected says what form of value f takes.
func expected(f field) error {
	switch f.value.Kind() {
	case reflect.Slice:
		return errors.New("a list is expected: [a, b]")
	case reflect.Map:
		return errors.New("a mapping is expected: {name: value}")
	}
	return errors.New("a single value is expected")
}

// nearest returns the candidate closest to s.
func nearest(s string, candidates []string) string {
	return slices.MinFunc(candidates, func(a, b string) int {
		return cmp.Compare(editDistance(s, a), editDistance(s, b))
	})
}

// editDistance is the number of characters to insert, delete, replace or exchange with their neighbour that turn a into b
// (optimal string alignment).
func editDistance(a, b string) int {
	before, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, prev, row = prev, row, before
	}
	return prev[len(b)]
}
