package harness

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What tests do with the faults of a server that is a process of its own.
func TestFaultsOfTheServer(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	bin, err := Build(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Bin: bin, Dir: filepath.Join(t.TempDir(), "objects"), Flags: []string{"--fault=error,code=UserDisable,key=no"}}
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	defer s.Kill()
	b, err := s.Client()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.PutObject("no", strings.NewReader("x")); err == nil || !strings.Contains(err.Error(), "UserDisable") {
		t.Error(err)
	}
	if list, err := s.Faults(); err != nil || len(list) != 1 || list[0].Fired != 1 {
		t.Error(list, err)
	}
	if f, err := s.WaitFired(ctx, 1, 1); err != nil || f.Fired != 1 {
		t.Error(f, err)
	}

	// Work that lands when the test says so.
	late, err := s.Fault("late,op=PutObject,key=late")
	if err != nil {
		t.Fatal(err)
	}
	mark, err := s.Mark()
	if err != nil {
		t.Fatal(err)
	}
	if b.PutObject("late", strings.NewReader("x")) == nil {
		t.Error("a late request was answered")
	}
	if f, err := s.WaitHeld(ctx, late.ID); err != nil || f.Held != 1 {
		t.Error(f, err)
	}
	if keys, err := s.Keys(""); err != nil || len(keys) != 0 {
		t.Error(keys, err)
	}
	if f, err := s.RemoveFault(late.ID); err != nil || f.Fired != 1 {
		t.Error(f, err)
	}
	r, err := s.WaitFor(ctx, mark, func(r Request) bool { return r.Op == "PutObject" })
	if err != nil || r.Key != "late" || r.Status != 0 || r.Work != 200 || r.Faults[0].ID != late.ID {
		t.Errorf("%+v %v", r, err)
	}
	if keys, err := s.Keys(""); err != nil || len(keys) != 1 {
		t.Error(keys, err)
	}

	if _, err := s.Fault("explode"); err == nil || !strings.Contains(err.Error(), "it is one of") {
		t.Error(err)
	}
	if err := s.Shape(map[string]any{"in": 1 << 30, "latency": "1ms"}); err != nil {
		t.Error(err)
	}
	if _, err := s.Fault("delay,op=GetObject"); err != nil {
		t.Error(err)
	}
	if err := s.ClearFaults(); err != nil {
		t.Error(err)
	}
	if _, _, err := s.ObjectSum("late"); err != nil {
		t.Error(err)
	}
	// A server that holds requests ends when it is told to.
	if _, err := s.Fault("delay,op=HeadObject"); err != nil {
		t.Error(err)
	}
	go b.GetObjectDetailedMeta("late")
	list, err := s.Faults()
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	if _, err := s.WaitHeld(ctx, list[0].ID); err != nil {
		t.Error(err)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
}
