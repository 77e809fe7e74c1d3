package journal

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ossmount/ossmount/internal/codec/alike"
	"github.com/ossmount/ossmount/internal/object"
)

// shared returns the path of something that a and b have in common; "": nothing.
func shared(a, b reflect.Value, path string) string {
	switch a.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice:
		if a.Pointer() == b.Pointer() {
			return path
		}
		if a.Kind() == reflect.Pointer {
			return shared(a.Elem(), b.Elem(), path)
		}
	case reflect.Struct:
		if a.Type() == reflect.TypeFor[time.Time]() {
			return ""
		}
		for i := range a.NumField() {
			if at := shared(a.Field(i), b.Field(i), path+"."+a.Type().Field(i).Name); at != "" {
				return at
			}
		}
	}
	return ""
}

func TestClonesShareNothing(t *testing.T) {
	r, a := &Row{}, &Attrs{}
	alike.Fill(reflect.ValueOf(r).Elem())
	alike.Fill(reflect.ValueOf(a).Elem())
	for _, pair := range [][2]any{{r, r.clone()}, {a, a.clone()}} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%+v is not %+v", pair[1], pair[0])
		}
		if at := shared(reflect.ValueOf(pair[0]), reflect.ValueOf(pair[1]), ""); at != "" {
			t.Errorf("%T shares %s", pair[0], at)
		}
	}
}

// Whatever is asked for and changed, in whatever order, also by who spoils what he was
// given: each answer is that of the database.
func TestRecentIsWhatTheDatabaseHolds(t *testing.T) {
	j := open(t, t.TempDir(), "boot")
	rnd := rand.New(rand.NewPCG(1, 2))
	name := func() string { return fmt.Sprintf("d%d/f%d", rnd.IntN(3), rnd.IntN(4)) }
	look := func(tx *Tx) error {
		for range 4 {
			key := name()
			got, err := tx.Row(key)
			if err != nil {
				return err
			}
			want := &Row{}
			if ok, err := tx.get(spaced(spaceRow, key), want); err != nil {
				return err
			} else if !ok {
				want = nil
			} else {
				want.Key = key
			}
			if !reflect.DeepEqual(got, want) {
				return fmt.Errorf("row %+v, want %+v", got, want)
			}
			if got != nil && got.Meta != nil {
				got.Meta["k"], got.Size = "spoilt", -1
			}
			attrs, err := tx.Attrs(key)
			if err != nil {
				return err
			}
			seen := &Attrs{}
			if ok, err := tx.get(spaced(spaceAttr, key), seen); err != nil {
				return err
			} else if !ok {
				seen = nil
			} else {
				seen.Key = key
			}
			if !reflect.DeepEqual(attrs, seen) {
				return fmt.Errorf("attributes %+v, want %+v", attrs, seen)
			}
			if attrs != nil {
				attrs.Meta["k"] = "spoilt"
			}
			ns, err := tx.Time(key)
			at := int64(0)
			if _, err := tx.get(spaced(spaceTime, key), &at); err != nil {
				return err
			}
			if err != nil || ns != at {
				return fmt.Errorf("time %d %v, want %d", ns, err, at)
			}
		}
		return nil
	}
	change := func(tx *Tx) error {
		key, n := name(), rnd.Int64()
		switch rnd.IntN(6) {
		case 0, 1:
			meta := object.Meta{"k": fmt.Sprint(n)}
			if n%3 == 0 {
				meta["long"] = strings.Repeat("x", recentBytes)
			}
			return tx.PutRow(&Row{Key: key, Kind: Put, Size: n, Meta: meta})
		case 2:
			return tx.DropRow(key)
		case 3:
			return tx.PutAttrs(&Attrs{Key: key, Ctime: n, Meta: object.Meta{"k": fmt.Sprint(n)}})
		case 4:
			return tx.DropAttrs(key)
		}
		return tx.SetTime(key, n)
	}
	back := fmt.Errorf("taken back")
	for range 2000 {
		if err := j.View(look); err != nil {
			t.Fatal(err)
		}
		undo := rnd.IntN(4) == 0
		update := j.Update
		if rnd.IntN(4) == 0 {
			update = j.Batch
		}
		_, err := update(func(tx *Tx) error {
			for _, f := range []func(*Tx) error{look, change, look, change, look} {
				if err := f(tx); err != nil {
					return err
				}
			}
			if undo {
				return back
			}
			return nil
		})
		if err != nil && err != back {
			t.Fatal(err)
		}
	}
	// A view that is older than the newest state neither gives nor takes.
	err := j.View(func(old *Tx) error {
		put(t, j, &Row{Key: "d0/f0", Kind: Put, Size: 4711})
		if r, err := old.Row("d0/f0"); err != nil || r != nil && r.Size == 4711 {
			t.Errorf("the row of a later state is seen: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = j.View(func(tx *Tx) error {
		if r, err := tx.Row("d0/f0"); err != nil || r == nil || r.Size != 4711 {
			t.Errorf("the row of an older state is seen: %v %v", r, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
