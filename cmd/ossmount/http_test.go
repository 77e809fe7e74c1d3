package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/writeback"
)

func TestHTTPAddress(t *testing.T) {
	for flag, want := range map[string]struct{ address, name string }{
		"9100":              {"127.0.0.1:9100", ""},
		":9100":             {"127.0.0.1:9100", ""},
		"0":                 {"127.0.0.1:0", ""},
		"0.0.0.0:9100":      {"0.0.0.0:9100", ""},
		"[::1]:9100":        {"[::1]:9100", ""},
		"localhost:9100":    {"localhost:9100", "localhost"},
		"mount.example:80":  {"mount.example:80", "mount.example"},
		"[::]:9100":         {"[::]:9100", ""},
		"192.168.1.20:9100": {"192.168.1.20:9100", ""},
	} {
		if address, name, err := parseHTTP(flag); err != nil || address != want.address || name != want.name {
			t.Errorf("%s: %s %q %v, want %+v", flag, address, name, err, want)
		}
	}
	for _, flag := range []string{"localhost", "127.0.0.1", "70000", "127.0.0.1:http", "127.0.0.1:", "::1:9100", "a b"} {
		_, _, err := parseHTTP(flag)
		if e := (*exitError)(nil); !errors.As(err, &e) || e.code != exitUsage || !strings.Contains(err.Error(), "--http="+flag+": ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

// An address that somebody has is an error before anything is mounted; one that others
// can reach is warned about; a token of a daemon that was killed is replaced.
func TestListeningForThePage(t *testing.T) {
	var log bytes.Buffer
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, tokenFile), []byte("of a daemon before"), 0o644); err != nil {
		t.Fatal(err)
	}
	f := &mountFlags{http: "0"}
	p, err := listenHTTP(f, dir, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, tokenFile))
	if st, _ := os.Stat(filepath.Join(dir, tokenFile)); err != nil || string(b) != p.status.Token+"\n" || len(p.status.Token) < 20 || st.Mode().Perm() != 0o600 {
		t.Errorf("the token: %q %v %v", b, st, err)
	}
	if log.Len() > 0 {
		t.Errorf("of loopback it says: %s", log.String())
	}
	f.http = p.status.Address
	if _, err := listenHTTP(f, t.TempDir(), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "choose another address") {
		t.Errorf("an address that is taken: %v", err)
	}
	p.close()
	if _, err := os.Stat(filepath.Join(dir, tokenFile)); err == nil {
		t.Error("the token is left")
	}
	warnIfPublic([]byte{10, 0, 0, 1}, slog.New(slog.NewTextHandler(&log, nil)))
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "10.0.0.1") || strings.Contains(log.String(), p.status.Token) {
		t.Errorf("of an address that others can reach it says: %s", log.String())
	}
}

// What hangs is asked once, however many want to know, and keeps nobody.
func TestProbeThatHangsIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64 // attempts
		let := make(chan error)
		p := &probe{try: func() error { asked.Add(1); return <-let }}
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := p.ask(ctx); err == nil || err.Error() != "no answer" {
				t.Errorf("while it hangs: %v", err)
			}
			cancel()
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("%d are under way", n)
		}
		let <- errors.New("late")
		synctest.Wait()
		if err := p.ask(t.Context()); err == nil || err.Error() != "late" || asked.Load() != 1 {
			t.Errorf("what it has found is told for a moment: %v", err)
		}
		time.Sleep(resultFor) // of the bubble's clock
		go func() { let <- nil }()
		if err := p.ask(t.Context()); err != nil || asked.Load() != 2 {
			t.Errorf("then it is asked again: %v", err)
		}
	})
}

func TestLookAtTheCacheDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), healthFile)
	for range 2 {
		if err := tryDisk(path); err != nil {
			t.Error(err)
		}
	}
	damaged := errors.New("an fsync has failed")
	h := newHealth("/", filepath.Dir(path), func() error { return damaged })
	if err := h.check(t.Context(), true); !errors.Is(err, damaged) {
		t.Errorf("what the engine knows of the disk: %v", err)
	}
	if err := tryDisk(filepath.Join(filepath.Dir(path), "gone", healthFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory that is gone: %v", err)
	}
	if err := os.WriteFile(path+".link", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path+".link", path+".to"); err != nil {
		t.Fatal(err)
	}
	if err := tryDisk(path + ".to"); err == nil {
		t.Error("a symbolic link was followed")
	}
}

func TestKernelIsAskedAboutAMountOnly(t *testing.T) {
	var said bytes.Buffer
	if code := runKernelProbe(t.TempDir(), &said); code != exitFailed || !strings.Contains(said.String(), "nothing is mounted there") {
		t.Errorf("%d %s", code, said.String())
	}
}

func TestHistoryKeepsTheLastHour(t *testing.T) {
	h := &history{}
	if some, next := h.since(0); len(some) != 0 || next != 0 || some == nil {
		t.Errorf("an empty one: %v %d", some, next)
	}
	for i := range manySamples + 10 {
		h.add(sample{At: int64(i)})
	}
	for first, want := range map[int]int{0: manySamples, 15: manySamples - 5, manySamples + 9: 1, manySamples + 10: 0, manySamples + 11: manySamples, -1: manySamples} {
		some, next := h.since(first)
		if len(some) != want || next != manySamples+10 || want > 0 && some[want-1].At != int64(manySamples+9) {
			t.Errorf("since %d: %d samples, next %d", first, len(some), next)
		}
	}
}

// The names in the JSON of status are a stable interface (docs/cli.md).
func TestNamesInStatusStay(t *testing.T) {
	s := mountStatus{HTTP: &httpStatus{Token: "t"}, LostAndFound: []cache.Lost{{}}, Queue: writeback.Status{
		Rebuilt: &writeback.Rebuilt{}, Paused: &writeback.Paused{}, Denied: []writeback.Denied{{}}, Uploading: []writeback.Uploading{{}},
		Waiting: []writeback.Waiting{{}}, Kept: []writeback.Waiting{{}}}}
	fillIn(reflect.ValueOf(&s).Elem())
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	got := names("", v)
	slices.Sort(got)
	golden := filepath.Join("testdata", "status.names")
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(got, "\n") + "\n"; text != string(want) {
		t.Errorf("the names in the JSON of status are others than in %s, and docs/cli.md promises those. Now:\n%s", golden, text)
	}
}

// fillIn gives each field a value that is not left out.
func fillIn(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fillIn(v.Field(i))
			}
		}
	case reflect.Pointer:
		if !v.IsNil() {
			fillIn(v.Elem())
		}
	case reflect.Slice:
		if v.Len() == 0 {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		}
		fillIn(v.Index(0))
	case reflect.String:
		v.SetString("x")
	case reflect.Int, reflect.Int64, reflect.Int32:
		v.SetInt(1)
	case reflect.Uint64, reflect.Uint32, reflect.Uint8, reflect.Uint:
		v.SetUint(1)
	case reflect.Bool:
		v.SetBool(true)
	}
}

// names are the paths of all names in v.
func names(at string, v any) (all []string) {
	switch v := v.(type) {
	case map[string]any:
		for name, in := range v {
			if all = append(all, at+name); name != "witness" { // its names are of the format (docs/format.md)
				all = append(all, names(at+name+".", in)...)
			}
		}
	case []any:
		for _, in := range v[:min(1, len(v))] {
			all = append(all, names(strings.TrimSuffix(at, ".")+"[].", in)...)
		}
	}
	return all
}
