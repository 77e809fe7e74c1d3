// Package alike proves, in tests, that a record of package codec is written and read as
// encoding/json does it. It starts no goroutines and touches no disk.
package alike

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/ossmount/ossmount/internal/codec"
	"github.com/ossmount/ossmount/internal/extent"
)

// Written returns what is written of r without encoding/json; nil: r is odd. It fails
// unless encoding/json writes the same.
func Written(t testing.TB, r codec.Record) []byte {
	t.Helper()
	b, ok := codec.Write([]byte{}, r)
	want, err := json.Marshal(r)
	switch {
	case !ok:
		return nil
	case err != nil:
		t.Fatalf("%+v is written as %q, but %v", r, b, err)
	case !bytes.Equal(b, want):
		t.Fatalf("%+v is written as\n%s, by encoding/json as\n%s", r, b, want)
	}
	return b
}

// Read reports that b is read without encoding/json. It fails if b means something else
// to that.
func Read(t testing.TB, b []byte, kind func() codec.Record) (taken bool) {
	t.Helper()
	ours, theirs := kind(), kind()
	own := bytes.Clone(b)
	taken = codec.Read(own, ours)
	clear(own) // of which nothing may be kept
	err := json.Unmarshal(b, theirs)
	switch {
	case taken && err != nil:
		t.Errorf("%q is read as %+v, but %v", b, ours, err)
	case taken && !reflect.DeepEqual(ours, theirs):
		t.Errorf("%q is read as\n%#v, by encoding/json as\n%#v", b, ours, theirs)
	}
	return taken
}

// Fields fails unless each field of the record is written and read, by the rule of its
// tag: all of them together, and each alone, also where its neighbours are not there.
func Fields(t testing.TB, kind func() codec.Record) {
	t.Helper()
	r := kind()
	Fill(reflect.ValueOf(r).Elem())
	if b := Written(t, r); b == nil || !Read(t, b, kind) {
		t.Errorf("%T is odd with all of its fields: %s", r, b)
	}
	r = kind()
	each(reflect.ValueOf(r).Elem(), func() {
		if b := Written(t, r); b == nil || !Read(t, b, kind) {
			t.Errorf("%+v is odd", r)
		}
	})
}

// Halves fails if r is read from less than what is written of it: a value that was cut
// short is none, wherever the cut is.
func Halves(t testing.TB, r codec.Record) {
	t.Helper()
	b := Written(t, r)
	for n := range b {
		if Read(t, b[:n], Like(r)) {
			t.Errorf("%s is not odd", b[:n])
		}
	}
}

// Like makes another record of the type of r.
func Like(r codec.Record) func() codec.Record {
	return func() codec.Record { return reflect.New(reflect.TypeOf(r).Elem()).Interface().(codec.Record) }
}

// each calls f with one field after the other filled, alone and with all there is in it.
func each(v reflect.Value, f func()) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				each(v.Field(i), f)
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f()
		each(v.Elem(), f)
		v.SetZero()
	}
	if v.Kind() != reflect.Struct || v.Type() != reflect.TypeFor[time.Time]() {
		Fill(v)
		f()
	}
	v.SetZero()
}

// Fill sets every exported field to something, and each map, slice and pointer.
func Fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		Fill(v.Elem())
	case reflect.Slice:
		if v.Type() == reflect.TypeFor[extent.Set]() {
			v.Set(reflect.ValueOf(extent.Of(7, 9)))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 4))
		Fill(v.Index(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("k"), reflect.ValueOf("v"))
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1, 0)))
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				Fill(v.Field(i))
			}
		}
	case reflect.String:
		v.SetString("s")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	default:
		panic(v.Type().String())
	}
}
