package fs

import (
	"reflect"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Each request of go-fuse's interface is counted under its name, also those of a later
// version of it.
func TestEachRequestIsMeasured(t *testing.T) {
	unmeasured := []string{"String", "SetDebug", "Init", "OnUnmount", "Forget", "Writev"} // Writev counts as Write
	m := &measures{}
	under := reflect.ValueOf(fuse.RawFileSystem(measured{fuse.NewDefaultRawFileSystem(), m}))
	face := reflect.TypeFor[fuse.RawFileSystem]()
	for i := range face.NumMethod() {
		name := face.Method(i).Name
		op := slices.Index(operationNames[:], name)
		if slices.Contains(unmeasured, name) {
			continue
		}
		if op < 0 {
			t.Errorf("%s is no operation", name)
			continue
		}
		method := under.MethodByName(name)
		var args []reflect.Value
		for i := range method.Type().NumIn() {
			args = append(args, reflect.Zero(method.Type().In(i)))
		}
		out := method.Call(args)
		if r := m.times[op].Read(); r.Count() != 1 {
			t.Errorf("%s was counted %d times", name, r.Count())
		}
		failed := int64(0)
		if n := len(out); n > 0 && out[n-1].Interface() == fuse.ENOSYS {
			failed = 1
		}
		if got := m.errors[op][syscall.ENOSYS].Load(); got != failed {
			t.Errorf("%s: ENOSYS was counted %d times, want %d", name, got, failed)
		}
	}
}

func TestOperationsAreThoseThatWere(t *testing.T) {
	f := &FS{}
	f.measures.took(opLookup, time.Now(), fuse.OK)
	f.measures.took(opLookup, time.Now(), fuse.ENOENT)
	f.measures.took(opLookup, time.Now(), fuse.Status(100_000)) // no errno of the kernel
	all := f.Operations()
	if len(all) != 1 || all[0].Name != "Lookup" || all[0].Times.Count() != 3 || all[0].Errors[syscall.ENOENT] != 1 || all[0].Errors[syscall.EIO] != 1 {
		t.Errorf("%+v", all)
	}
}

// BenchmarkMeasured is what a request costs more.
func BenchmarkMeasured(b *testing.B) {
	for name, f := range map[string]fuse.RawFileSystem{
		"bare":     fuse.NewDefaultRawFileSystem(),
		"measured": measured{fuse.NewDefaultRawFileSystem(), &measures{}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var in fuse.GetAttrIn
			var out fuse.AttrOut
			for b.Loop() {
				f.GetAttr(nil, &in, &out)
			}
		})
	}
}
