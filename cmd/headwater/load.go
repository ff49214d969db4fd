package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"
)

// A commandLine is what can be written on it.
type commandLine struct {
	Settings
	Config string `name:"config" placeholder:"FILE" group:"run" help:"YAML file with settings."`

	Serve   struct{}    `cmd:"" default:"1" help:"Run the origin (what happens without a command)."`
	Demo    struct{}    `cmd:"" help:"Run the origin on this machine only, with a test clip published as live/demo."`
	Edge    edgeCommand `cmd:"" name:"edge-config" help:"Print the configuration of a cache in front of the origin that fits these settings: nginx, Varnish, Traffic Server, CloudFront, Fastly."`
	Conf    struct{}    `cmd:"" name:"config" help:"Print the settings in effect as YAML, keys redacted, and where each comes from."`
	Version struct{}    `cmd:"" help:"Print the version."`
}

const description = `Headwater is a live HLS media origin: encoders push RTMP in, players and CDN edges pull low-latency HLS out.

Without any settings, publish to rtmp://HOST/live/NAME and watch http://HOST:8080/live/NAME/.

Every setting is a flag (--http-addr), a variable (HEADWATER_HTTP_ADDR) and a key in the YAML file (http_addr);
a flag prevails over a variable, a variable over the file. Under "streams" the file can set the streams' settings
differently for some names; of the patterns that match, the first prevails:

    publish_keys: [correct-horse]
    streams:
      "live/radio-*": {part_target: 0, target_duration: 6s}
      "event/*": {long_gop: refuse}

Examples:

    headwater demo
    headwater serve --http-addr :80 --config /etc/headwater.yaml
    headwater config --part-target 500ms > headwater.yaml
    headwater edge-config nginx > /etc/nginx/nginx.conf
    ffmpeg -re -i clip.mp4 -c copy -f flv rtmp://localhost/live/clip`

var groups = kong.ExplicitGroups([]kong.Group{
	{Key: "addr", Title: "Addresses (host:port or :port; port 0 picks a free one)"},
	{Key: "stream", Title: "Streams (can be set per pattern of names in the file)"},
	{Key: "publish", Title: "Publishing"},
	{Key: "http", Title: "HTTP"},
	{Key: "tls", Title: "TLS"},
	{Key: "run", Title: "Running"},
})

// Where a setting comes from.
const (
	fromDefault = ""
	fromFlag    = "flag"
	fromEnv     = "environment"
	fromFile    = "file"
)

// A Loaded command line.
type Loaded struct {
	Command  string // "serve", "demo", "edge-config", "config", "version"; "" when all that was asked for, help, has been printed
	Settings Settings
	From     map[string]string // by flag: fromFlag and so on
	Warnings []string
	Edge     edgeCommand // of "edge-config"
}

// load takes the settings together: a flag prevails over the environment, the environment over the file, and the file over
// the default. A list or mapping is replaced as a whole. Help goes to stdout.
func load(args []string, stdout, stderr io.Writer) (*Loaded, error) {
	var cl commandLine
	exited := false
	file := &File{}
	k, err := kong.New(&cl, kong.Name("headwater"), kong.Description(description), groups,
		kong.DefaultEnvars(strings.TrimSuffix(envPrefix, "_")),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoAppDescFormat: true, NoExpandSubcommands: true, WrapUpperBound: 110}),
		kong.TypeMapper(reflect.TypeFor[time.Duration](), kong.MapperFunc(decodeDuration)),
		kong.Writers(stdout, stderr), kong.Exit(func(int) { exited = true }),
		kong.WithBeforeResolve(func(ctx *kong.Context) error {
			path, _ := flagValue(ctx, "config").(string)
			if path == "" || exited {
				return nil
			}
			var err error
			if file, err = readFile(path); err != nil {
				return err
			}
			ctx.AddResolver(resolver(file))
			return nil
		}))
	if err != nil {
		return nil, err
	}
	ctx, err := k.Parse(args)
	if exited {
		return &Loaded{}, nil
	}
	if err != nil {
		return nil, usageError(err)
	}
	l := &Loaded{Command: strings.Fields(ctx.Command())[0], From: sources(ctx)}
	l.Settings, l.Edge = cl.Settings, cl.Edge
	l.Settings.Streams = file.Streams
	l.Warnings, err = unknownVariables(os.Environ())
	if err != nil {
		return nil, err
	}
	if err = l.emptyKeys(); err == nil {
		err = l.Settings.finish()
	}
	if err != nil {
		if bad, ok := err.(*settingError); ok && l.From[bad.name] == fromFile {
			err = fmt.Errorf("%s: %w", file.entry(bad.name).Where, err)
		}
		return nil, err
	}
	return l, nil
}

// emptyKeys refuses keys that are given and none: whoever gives them wants publishing protected.
func (l *Loaded) emptyKeys() error {
	for flag, n := range map[string]int{"publish-keys": len(l.Settings.PublishKeys), "publish-keys-by-name": len(l.Settings.PublishKeysByName)} {
		if n == 0 && l.From[flag] != fromDefault {
			return bad(flag, "given, but holds no key; leave it out to let anybody publish")
		}
	}
	return nil
}

// decodeDuration reads a duration for kong as the file's are read.
func decodeDuration(ctx *kong.DecodeContext, target reflect.Value) error {
	var s string
	if err := ctx.Scan.PopValueInto("duration", &s); err != nil {
		return err
	}
	d, err := parseDuration(s)
	target.SetInt(int64(d))
	return err
}

// usageError takes kong's own type off err, and with it its habits. What is wrong with a key is said without the key.
func usageError(err error) error {
	if s := err.Error(); strings.Contains(s, "publish-keys") || strings.Contains(s, "PUBLISH_KEYS") {
		if strings.Contains(s, "by-name") || strings.Contains(s, "BY_NAME") {
			return errors.New("publish_keys_by_name: write APP/NAME=KEY, several with commas between them")
		}
		return errors.New("publish_keys: write KEY, several with commas between them")
	}
	var p *kong.ParseError
	if errors.As(err, &p) {
		return errors.New(strings.TrimSpace(p.Error()))
	}
	return err
}

// flagValue returns the value of a flag as it is before resolving: of the command line or the environment.
func flagValue(ctx *kong.Context, name string) any {
	for _, f := range ctx.Model.Flags {
		if f.Name == name {
			return ctx.FlagValue(f)
		}
	}
	return nil
}

// resolver offers the file's values to kong, for flags that are not in the environment: by itself, kong would let a
// resolver prevail over it.
func resolver(f *File) kong.Resolver {
	return kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		for _, e := range flag.Envs {
			if _, ok := os.LookupEnv(e); ok {
				return nil, nil
			}
		}
		e := f.entry(flag.Name)
		switch {
		case e == nil:
			return nil, nil
		case e.Value == "" && flag.IsSlice():
			return []any{}, nil
		case e.Value == "" && flag.IsMap():
			return map[string]any{}, nil
		}
		return e.Value, nil
	})
}

// sources says where each flag's value comes from.
func sources(ctx *kong.Context) map[string]string {
	from := map[string]string{}
	for _, p := range ctx.Path {
		if p.Flag == nil {
			continue
		}
		if p.Resolved {
			from[p.Flag.Name] = fromFile
		} else {
			from[p.Flag.Name] = fromFlag
		}
	}
	for _, f := range ctx.Model.Flags {
		for _, e := range f.Envs {
			if _, ok := os.LookupEnv(e); ok && from[f.Name] == fromDefault {
				from[f.Name] = fromEnv
			}
		}
	}
	return from
}

// maxTypo is the edit distance from a setting's variable within which another is taken for a mistake, and not for one that
// some other program has.
const maxTypo = 2

// unknownVariables warns of those that are named as settings are and are none. One that was clearly meant to be a setting is
// an error: it may be the key that nobody is then asked for.
func unknownVariables(environ []string) (warnings []string, err error) {
	var names []string
	for _, f := range fieldList(&Settings{}) {
		names = append(names, env(f.name))
	}
	names = append(names, envPrefix+"CONFIG")
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, envPrefix) || slices.Contains(names, name) {
			continue
		}
		near := nearest(name, names)
		if editDistance(name, near) <= maxTypo {
			return nil, fmt.Errorf("environment variable %s is no setting; %s is", name, near)
		}
		warnings = append(warnings, fmt.Sprintf("environment variable %s is no setting; the nearest is %s", name, near))
	}
	slices.Sort(warnings)
	return warnings, nil
}

// printConfig writes the settings as a file that means the same, with secrets redacted.
func printConfig(w io.Writer, l *Loaded) error {
	var b strings.Builder
	line := func(indent, name string, v any, comment string) error {
		y, err := yaml.MarshalWithOptions(v, yaml.Flow(true))
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s%s: %s%s\n", indent, name, strings.TrimSpace(string(y)), comment)
		return nil
	}
	for _, f := range fieldList(&l.Settings) {
		v := f.value.Interface()
		if k := f.value.Kind(); (k == reflect.Slice || k == reflect.Map) && f.value.Len() == 0 {
			fmt.Fprintf(&b, "# %s: none\n", key(f.name)) // an empty list of keys would be refused
			continue
		}
		switch x := v.(type) {
		case fmt.Stringer: // a duration
			v = x.String()
		case []string:
			if !f.secret() {
				break
			}
			list := []string{}
			for range x {
				list = append(list, redacted)
			}
			v = list
		case map[string]string:
			if !f.secret() {
				break
			}
			x = maps.Clone(x)
			for k := range x {
				x[k] = redacted
			}
			v = x
		}
		comment := ""
		if from := l.From[f.name]; from != fromDefault {
			comment = " # " + from
		}
		if err := line("", key(f.name), v, comment); err != nil {
			return err
		}
	}
	if len(l.Settings.Streams) > 0 {
		b.WriteString("streams:\n")
	}
	for _, p := range l.Settings.Streams {
		name, err := yaml.Marshal(p.Pattern)
		if err != nil {
			return err
		}
		end := ""
		if len(p.Set) == 0 {
			end = " {}"
		}
		fmt.Fprintf(&b, "  %s:%s\n", strings.TrimSpace(string(name)), end)
		fields := fieldsOf(&p.Settings)
		for _, e := range p.Set {
			v := fields[e.Name].value.Interface()
			if d, ok := v.(fmt.Stringer); ok {
				v = d.String()
			}
			if err := line("    ", key(e.Name), v, ""); err != nil {
				return err
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
