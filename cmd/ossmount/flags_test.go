package main

import (
	"errors"
	"testing"
)

func TestParseBytes(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "1": 1, "1024": 1024, "8MiB": 8 << 20, "8M": 8 << 20, "8mb": 8 << 20, "1.5G": 3 << 29,
		"10 KiB": 10 << 10, "100MB/s": 100 << 20, "2TiB": 2 << 40, "7B": 7,
	} {
		if got, err := parseBytes(s); err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "x", "-1", "1X", "8 M B x", "1e30"} {
		if n, err := parseBytes(s); err == nil {
			t.Errorf("%q was taken for %d", s, n)
		}
	}
}

func TestParseSource(t *testing.T) {
	for s, want := range map[string]place{
		"oss://bkt":          {bucket: "bkt"},
		"oss://bkt/":         {bucket: "bkt"},
		"oss://bkt/a/b":      {bucket: "bkt", prefix: "a/b/"},
		"oss://bkt//a/b/":    {bucket: "bkt", prefix: "a/b/"},
		"local:/var/objects": {bucket: localBucket, local: "/var/objects"},
	} {
		if got, err := parseSource(s); err != nil || got != want {
			t.Errorf("%q is %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "bkt", "oss://", "oss:///x", "s3://bkt", "local:"} {
		_, err := parseSource(s)
		var e *exitError
		if !errors.As(err, &e) || e.code != exitUsage {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// Errors are one line, and say with which code the program ends.
func TestExitCodes(t *testing.T) {
	for want, args := range map[int][]string{
		0:          {"version"},
		exitUsage:  {"mount", "--nonsense"},
		exitFailed: {"umount", t.TempDir()},
	} {
		if got := run(args); got != want {
			t.Errorf("%v ends with %d, want %d", args, got, want)
		}
	}
	for _, args := range [][]string{{"frobnicate"}, {"mount"}, {"mount", "oss://b", "m", "--part-size=1", "--endpoint=http://x"},
		{"mount", "oss://b", "m", "--close=never", "--endpoint=http://x"}, {"mount", "oss://b", "m"}, {"status"}, {"drain"},
		{"mount", "oss://b", "m", "--file-mode=rw", "--endpoint=http://x"}, {"server"},
		{"drain", "--cache-dir=x", "--upload-header=nonsense"}, {"drain", "--cache-dir=x", "--traffic-limit=1"}} {
		if got := run(args); got != exitUsage {
			t.Errorf("%v ends with %d", args, got)
		}
	}
}
