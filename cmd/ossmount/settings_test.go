package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// settled is the mount command with settings from everywhere.
func settled(t *testing.T, env map[string]string, args ...string) (*cobra.Command, error) {
	t.Helper()
	for _, line := range os.Environ() { // those of whoever runs the test
		if name, _, _ := strings.Cut(line, "="); strings.HasPrefix(name, "OSS") {
			t.Setenv(name, "")
		}
	}
	for name, text := range env {
		t.Setenv(name, text)
	}
	c := mountCommand()
	if err := c.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	return c, settle(c, c.Flags().Args())
}

func fileOf(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "settings.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// sample is the nth of the values that a setting of that kind can have.
func sampleOf(t *testing.T, f *pflag.Flag, n int) string {
	t.Helper()
	switch f.Value.Type() {
	case "bool":
		return fmt.Sprint(n%2 == 0)
	case "int", "int64", "uint32", "uint", "float64":
		return fmt.Sprint(n + 1)
	case "bytes":
		return fmt.Sprintf("%dMiB", n+1)
	case "duration":
		return fmt.Sprintf("%ds", n+1)
	case "string", "stringSlice", "stringArray":
		return fmt.Sprintf("value%d", n)
	}
	t.Fatalf("--%s is a %s: give sample a value of that kind", f.Name, f.Value.Type())
	return ""
}

// Every flag of mount can stand in a file, in the environment and in -o, and each of
// these wins over those before it.
func TestEverySettingStandsEverywhere(t *testing.T) {
	known := settingsOf(mountCommand().Flags())
	if len(known) < 30 {
		t.Fatalf("there are %d settings only", len(known))
	}
	for name, f := range known {
		if slices.Contains(notInAFile, name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			_, isList := f.Value.(pflag.SliceValue)
			inFile := sampleOf(t, f, 0)
			if isList {
				inFile = "[" + inFile + ", more]"
			}
			path := fileOf(t, "# settings\n"+name+": "+inFile+"\n")
			env := map[string]string{}
			args := []string{"--config=" + path}
			for n, where := range []string{path + ":2", variableOf(name), "-o " + strings.ReplaceAll(name, "-", "_"), onCommandLine} {
				switch n {
				case 1:
					env[where] = sampleOf(t, f, n)
				case 2:
					args = append(args, "-o", strings.TrimPrefix(where, "-o ")+"="+sampleOf(t, f, n))
				case 3:
					args = append(args, "--"+name+"="+sampleOf(t, f, n))
				}
				c, err := settled(t, env, args...)
				if err != nil {
					t.Fatal(err)
				}
				got := c.Flags().Lookup(name)
				want := sampleOf(t, f, n)
				if isList && n == 0 {
					want += ",more"
				}
				if isList {
					want = "[" + want + "]"
				}
				if got.Value.String() != want && !(f.Value.Type() == "duration" && strings.TrimSuffix(got.Value.String(), "m0s") == want) {
					t.Errorf("it is %s, want %s of %s", got.Value, want, where)
				}
				if setWhere(got) != where {
					t.Errorf("it is said to stand in %s, want %s", setWhere(got), where)
				}
			}
		})
	}
}

func TestWrongSettingsSayWhere(t *testing.T) {
	for _, c := range []struct {
		name string
		file string
		env  map[string]string
		args []string
		want []string // each a part of an error of its own
	}{
		{"an unknown key", "close: disk\n\ncache_dir: /x\n", nil, nil, []string{`settings.yaml:3: there is no setting "cache_dir"; perhaps cache-dir is meant`}},
		{"nothing like it", "frobnicate-it-all: 1\n", nil, nil, []string{`settings.yaml:1: there is no setting "frobnicate-it-all" (`}},
		{"all at once", "part-size: 8Q\nread-only: yes\nuid: -1\ndrain: 20\nupload-concurrency: many\n", nil, nil, []string{
			`:1: part-size: "8Q" is not a size`, `:2: read-only: "yes" is neither`, `:3: uid: "-1" is not a whole`, `:4: drain: "20" is not a duration`, `:5: upload-concurrency: "many" is not a whole`}},
		{"a list in the place of a value", "close: [disk]\n", nil, nil, []string{":1: close takes one value"}},
		{"a value in the place of a list", "eager-skip: '*.tmp'\n", nil, nil, []string{":1: eager-skip is a list"}},
		{"a mapping in the place of a value", "close:\n  disk: 1\n", nil, nil, []string{":1: close: it takes a plain value"}},
		{"a value inside a list that is none", "eager-skip:\n  - a\n  - [b]\n", nil, nil, []string{":1: eager-skip: it takes a plain value"}},
		{"no value", "close:\n", nil, nil, []string{":1: close: it has no value"}},
		{"a key twice", "close: disk\nclose: journal\n", nil, nil, []string{`:2: mapping key "close" already defined`}},
		{"not YAML", "a: 1\nb: [1,\nc: 2\n", nil, nil, []string{"settings.yaml:2: "}},
		{"no mapping", "- close\n", nil, nil, []string{":1: it is no list of settings"}},
		{"two documents", "close: disk\n---\nfsync: disk\n", nil, nil, []string{":3: a second document"}},
		{"an anchor", "close: &a disk\nfsync: *a\n", nil, nil, []string{":1: close: it takes a plain value", ":2: fsync: it takes a plain value"}},
		{"a file names no file", "config: /other\n", nil, nil, []string{`:1: there is no setting "config"`}},
		{"a file of options", "options: ro\n", nil, nil, []string{`:1: there is no setting "options"`}},
		{"a wrong variable", "", map[string]string{"OSSMOUNT_DRAIN": "soon"}, nil, []string{`OSSMOUNT_DRAIN: drain: "soon" is not a duration`}},
		{"an unknown option", "", nil, []string{"-o", "cache_dri=/x"}, []string{`-o cache_dri: there is no setting "cache_dri"; perhaps cache-dir is meant`}},
		{"an option without its value", "", nil, []string{"-o", "ro,cache_dir"}, []string{"-o cache_dir: it takes a value"}},
		{"what is not done", "", nil, []string{"-o", "sync,remount"}, []string{"-o sync: ossmount does not do that", "-o remount: ossmount does not do that"}},
		{"a quote that does not end", "", nil, []string{"-o", `cache_dir="/x,ro`}, []string{"-o cache_dir: a value that begins with"}},
		{"an overridden value counts too", "drain: x\n", nil, []string{"--drain=5s"}, []string{`:1: drain: "x" is not`}},
		{"a file that is not there", "", nil, []string{"--config=/nowhere/at-all"}, []string{"--config: open /nowhere/at-all"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := c.args
			if c.file != "" {
				args = append(args, "--config="+fileOf(t, c.file))
			}
			_, err := settled(t, c.env, args...)
			var e *exitError
			if !errors.As(err, &e) || e.code != exitUsage {
				t.Fatalf("the error is %v", err)
			}
			got := each(err)
			if len(got) != len(c.want) {
				t.Fatalf("%d errors, want %d: %v", len(got), len(c.want), err)
			}
			for i, want := range c.want {
				if !slices.ContainsFunc(got, func(e error) bool { return strings.Contains(e.Error(), want) }) {
					t.Errorf("no error is about %q: %v", want, got[i])
				}
			}
		})
	}
}

// A secret that somebody writes where none belongs is not repeated.
func TestSecretsAreNoSettings(t *testing.T) {
	for _, args := range [][]string{{"--config=" + fileOf(t, "access-key-secret: Geheim\n")}, {"-o", "OSS_ACCESS_KEY_SECRET=Geheim"}} {
		_, err := settled(t, nil, args...)
		if err == nil || !strings.Contains(err.Error(), "secrets do not stand here") || strings.Contains(err.Error(), "Geheim") {
			t.Errorf("%q: %v", args, err)
		}
	}
}

// Values that are wrong in what they say are told of with their place, all of them.
func TestWrongValuesSayWhereTheyStand(t *testing.T) {
	path := fileOf(t, "source: nowhere\nclose: never\npart-size: 1\n")
	c, err := settled(t, map[string]string{"OSSMOUNT_META_TTL": "often"}, "--config="+path, "-o", "file_mode=rw", "--conflict=fight")
	if err != nil {
		t.Fatal(err)
	}
	f := &mountFlags{}
	scratch := &cobra.Command{}
	f.mountFlags(scratch)
	c.Flags().VisitAll(func(x *pflag.Flag) {
		if x.Changed && x.Name != "options" {
			if err := scratch.Flags().Set(x.Name, x.Value.String()); err != nil {
				t.Fatal(err)
			}
		}
	})
	all := whence(c.Flags(), f.check()).Error()
	for _, want := range []string{path + ":1: --source: ", path + ":2: --close=never", path + ":3: --part-size=1", "OSSMOUNT_META_TTL: --meta-ttl=often", "-o file_mode: --file-mode=rw", "--conflict=fight"} {
		if !strings.Contains("\n"+all, "\n"+want) {
			t.Errorf("%q is not among\n%s", want, all)
		}
	}
}

func TestOptionsOfMount(t *testing.T) {
	known := settingsOf(mountCommand().Flags())
	for text, want := range map[string]map[string]string{
		"":                       {},
		"rw":                     {},
		"defaults,noauto,nofail": {},
		"_netdev,x-systemd.automount,x-systemd.requires=a.service,X-mount.mkdir=0755,comment=x,user,noatime,dev,suid": {},
		"ro":                                  {"read-only": "true"},
		"noexec,allow_other":                  {"no-exec": "true", "allow-other": "true"},
		"cache_dir=/x,cache-size=1G":          {"cache-dir": "/x", "cache-size": "1G"},
		`cache_dir=/a\,b\\c,ro`:               {"cache-dir": `/a,b\c`, "read-only": "true"},
		`cache_dir="/a,b",ro`:                 {"cache-dir": "/a,b", "read-only": "true"},
		`eager_skip=*.a\,*.b,ro,eager-skip=c`: {"eager-skip": "[*.a *.b c]", "read-only": "true"},
		`upload_header=*.html=Cache-Control: max-age=1\, public,upload_header=X: y`: {"upload-header": "[*.html=Cache-Control: max-age=1, public X: y]"},
		",,ro,,":          {"read-only": "true"},
		"cache_dir=":      {"cache-dir": ""},
		"read_only=false": {"read-only": "false"},
	} {
		items, err := fromOptions([]string{text}, known)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		got := map[string]string{}
		for _, it := range items {
			got[it.name] = it.text
			if it.list != nil {
				got[it.name] = fmt.Sprint(it.list)
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

func TestVariablesThatMeanNothing(t *testing.T) {
	known := settingsOf(mountCommand().Flags())
	items, unknown := fromEnvironment([]string{"OSSMOUNT_CASHE_DIR=/x", "OSSMOUNT_cache_dir=/x", "OSSMOUNT_OPTIONS=ro", "OSSMOUNT_DRAIN=", "HOME=/h", "OSS_REGION=r", "OSSMOUNT_REGION=s"}, known)
	if want := []string{"OSSMOUNT_CASHE_DIR", "OSSMOUNT_cache_dir", "OSSMOUNT_OPTIONS"}; !slices.Equal(unknown, want) {
		t.Errorf("unknown are %q, want %q", unknown, want)
	}
	if len(items) != 2 || items[0].text != "r" || items[1].text != "s" {
		t.Errorf("the items are %+v", items)
	}
	if near := nearest(settingOf("OSSMOUNT_CASHE_DIR"), known); near != "cache-dir" {
		t.Errorf("nearest is %q", near)
	}
}

// What drain has of a file of mount's it takes, and leaves the rest alone.
func TestDrainTakesItsPartOfAFile(t *testing.T) {
	path := fileOf(t, "source: oss://b\nclose: disk\ncache-dir: /c\npart-size: 2MiB\n")
	t.Setenv("OSSMOUNT_CONFIG", path)
	c := drainCommand()
	if err := settle(c, nil); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"cache-dir": "/c", "part-size": "2MiB", "timeout": "0s"} {
		if got := c.Flags().Lookup(name).Value.String(); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

// Flags of other commands that mean the same as those of mount are settings, too, and
// no others.
func TestOtherCommandsTakeTheirPart(t *testing.T) {
	t.Setenv("OSSMOUNT_REGION", "here")
	t.Setenv("OSSMOUNT_CACHE_DIR", "/c") // which is another thing to them
	for args, c := range map[string]*cobra.Command{"list": uploadsCommand(), "publish": recoverCommand(), "": retryCommand()} {
		sub, _, err := c.Find(strings.Fields(args))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(sub.ParseFlags(nil), settle(sub, nil)); err != nil {
			t.Fatal(err)
		}
		if region, dir := sub.Flags().Lookup("region").Value.String(), sub.Flags().Lookup("cache-dir").Value.String(); region != "here" || dir != "" {
			t.Errorf("%s: the region is %q, the cache directory %q", sub.CommandPath(), region, dir)
		}
	}
}

// The page of the configuration has one file that names every setting, and it is read.
func TestExampleNamesEverySetting(t *testing.T) {
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "\n```yaml\n")
	text, _, ok := strings.Cut(rest, "\n```\n")
	if !ok {
		t.Fatal("the page has no YAML")
	}
	known := settingsOf(mountCommand().Flags())
	items, err := parseConfig("example", []byte(text), known)
	if err != nil {
		t.Fatal(err)
	}
	for _, it := range items {
		if err := it.set(known[it.name]); err != nil {
			t.Error(err)
		}
	}
	for name := range known {
		if !slices.Contains(notInAFile, name) && !slices.ContainsFunc(items, func(it item) bool { return it.name == name }) {
			t.Errorf("the example does not name %s", name)
		}
	}
	if got := run([]string{"config", "check", "--config=" + fileOf(t, text)}); got != 0 {
		t.Errorf("check of the example ends with %d", got)
	}
}

// What print prints is a file that says the same.
func TestPrintedSettingsAreAFile(t *testing.T) {
	env := map[string]string{"OSS_ACCESS_KEY_ID": "Wer", "OSS_ACCESS_KEY_SECRET": "Geheim", "OSSMOUNT_STALL": "7s"}
	args := []string{"oss://b/p", "/mnt/x y", "-o", `eager_skip="a b,#c",ro`, "--endpoint=https://user:Geheim@h", "--cache-dir=- : #", "--upload-header=*.x=Cache-Control: a, b"}
	c, err := settled(t, env, args...)
	if err != nil {
		t.Fatal(err)
	}
	var first, second strings.Builder
	if err := printSettings(&first, c.Flags()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# OSSMOUNT_STALL\n", "# -o ro\n", "# command line\n", "# default\n", "# OSS_ACCESS_KEY_SECRET", "# set\n", "# not set\n"} {
		if !strings.Contains(first.String(), want) {
			t.Errorf("%q is not in\n%s", want, first.String())
		}
	}
	if strings.Contains(first.String(), "Geheim") || strings.Contains(first.String(), "Wer") {
		t.Errorf("a secret is in\n%s", first.String())
	}
	again, err := settled(t, nil, "--config="+fileOf(t, first.String()))
	if err != nil {
		t.Fatalf("%v\n%s", err, first.String())
	}
	if err := printSettings(&second, again.Flags()); err != nil {
		t.Fatal(err)
	}
	values := func(text string) (all []string) {
		for line := range strings.Lines(text) {
			value, _, _ := strings.Cut(line, "  #") // the comments stand in one column
			all = append(all, strings.TrimSpace(value[:min(len(value), strings.LastIndex(line, " #"))]))
		}
		return all
	}
	if a, b := values(first.String()), values(second.String()); !slices.Equal(a, b) {
		t.Errorf("printed anew it is\n%s\nand was\n%s", second.String(), first.String())
	}
}

// Errors are in the format of the log.
func TestErrorsInJSON(t *testing.T) {
	out := stderrOf(t, func() {
		if code := run([]string{"mount", "nowhere", "/x", "--log-format=json"}); code != exitUsage {
			t.Errorf("exit %d", code)
		}
	})
	var line struct {
		Level, Msg string
		Exit       int
	}
	if err := json.Unmarshal([]byte(out), &line); err != nil || line.Level != "ERROR" || line.Exit != exitUsage || !strings.Contains(line.Msg, "nowhere") {
		t.Errorf("stderr is %q: %v", out, err)
	}
}

// Each mistake is a line of check.
func TestCheckSaysAllThatIsWrong(t *testing.T) {
	path := fileOf(t, "close: never\npart-size: 1\nsource: oss://b\n")
	out := stderrOf(t, func() {
		if code := run([]string{"config", "check", "--config=" + path}); code != exitUsage {
			t.Errorf("exit %d", code)
		}
	})
	if n := strings.Count(out, "\n"); n != 3 || strings.Count(out, "ossmount: ") != 3 {
		t.Errorf("%d lines, want three:\n%s", n, out)
	}
}

// stderrOf returns what f writes to stderr.
func stderrOf(t *testing.T, f func()) string {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	func() {
		before := os.Stderr
		defer func() { os.Stderr = before }()
		os.Stderr = out
		f()
	}()
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// mount(8) and umount(8) call us in their own way.
func TestHelpersOfMount(t *testing.T) {
	for _, c := range []struct {
		translate func([]string) ([]string, error)
		args      string
		want      string // "" is an error
	}{
		{asMount, "oss://b /m", "mount --background -- oss://b /m"},
		{asMount, "oss://b /m -o rw,cache_dir=/c", "mount --background --options=rw,cache_dir=/c -- oss://b /m"},
		{asMount, "oss://b /m -snv -o rw,what=1,ro -t fuse.ossmount", "mount --background --options=rw,ro -- oss://b /m"},
		{asMount, "oss://b /m -f -o rw", "config check --options=rw -- oss://b /m"},
		{asMount, "oss://b", ""},
		{asMount, "oss://b /m -N 5", ""},
		{asMount, "oss://b /m -q", ""},
		{asUmount, "/m", "umount --force=false -- /m"},
		{asUmount, "/m -f", "umount --force=true -- /m"},
		{asUmount, "/m -l -n -v -r", "umount --force=true -- /m"},
		{asUmount, "", ""},
	} {
		got, err := c.translate(strings.Fields(c.args))
		if strings.Join(got, " ") != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%s is %q %v, want %q", c.args, got, err, c.want)
		}
	}
	if got := called([]string{"/sbin/mount.fuse.ossmount", "nowhere", "/m", "-f"}); got != mountUsage {
		t.Errorf("a wrong source ends with %d", got)
	}
	if got := called([]string{"/sbin/umount.fuse.ossmount", t.TempDir()}); got != mountFailed {
		t.Errorf("umount of what is none ends with %d", got)
	}
}
