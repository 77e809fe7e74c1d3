package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ossmount/ossmount/internal/ossemu"
)

func TestShapeFlag(t *testing.T) {
	var shape ossemu.Shape
	v := shapeValue{shape: &shape}
	if err := v.Set("in=10MiB,connection_out=1K,latency_in=5ms,connect=1m"); err != nil {
		t.Fatal(err)
	}
	want := ossemu.Shape{In: 10 << 20, ConnectionOut: 1024, LatencyIn: ossemu.Duration(5 * time.Millisecond), Connect: ossemu.Duration(time.Minute)}
	if shape != want {
		t.Errorf("%+v", shape)
	}
	for _, bad := range []string{"", "in", "in=x", "connect=5", "connect=-5s", "up=1"} {
		if v.Set(bad) == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestFaultFlags(t *testing.T) {
	file := filepath.Join(t.TempDir(), "faults")
	if err := os.WriteFile(file, []byte("# a comment\nslow,rate=1000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := readFaults([]string{"reset,at=after"}, file)
	if err != nil || len(list) != 2 || list[0].At != "after" || list[1].Rate != 1000 {
		t.Errorf("%+v %v", list, err)
	}
	usual := []string{"server", "--data=" + t.TempDir(), "--access-key-id=a", "--access-key-secret=b", "--listen=127.0.0.1:0"}
	for _, bad := range []string{"--fault=explode", "--faults=" + file + ".missing", "--shape=up=1"} {
		if code := run(append(usual, bad)); code != exitUsage {
			t.Errorf("%s ends with %d", bad, code)
		}
	}
}
