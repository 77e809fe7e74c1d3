package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"testing"
	"time"
)

// FuzzValue reads what may stand in a value of each kind: it is read or refused, and
// what was read is written so that it is read as the same.
func FuzzValue(f *testing.F) {
	for _, v := range []any{
		&Row{Seq: 3, Kind: Put, Content: 1, Size: 6, Known: true}, &Row{Seq: 4, Kind: Delete, Note: &Note{Tag: "t", Lost: 1, Begun: &Begun{}}},
		&Upload{Num: 1, ID: "u", PartSize: 1 << 20}, &Part{Number: 1, Size: 5, ETag: "E", CRC64: 1 << 63, HasCRC: true},
		&Doubt{Tags: []string{"a"}, Delete: true}, &Debt{Key: "k", Upload: "u"}, &Clean{Content: 7}, &Attrs{Type: "Normal"},
	} {
		b, err := encode(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{})
	f.Add([]byte{codecVersion + 1, '{', '}'})
	f.Add([]byte("\x01{\"w\":\"Cgo\",\"b\":{\"Size\":-1},\"s\":18446744073709551615}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, kind := range []func() any{
			func() any { return &Row{} }, func() any { return &Upload{} }, func() any { return &Part{} }, func() any { return &Doubt{} },
			func() any { return &Debt{} }, func() any { return &Clean{} }, func() any { return &Attrs{} }, func() any { return new(int64) },
		} {
			v, again := kind(), kind()
			if decode(b, v) != nil {
				continue
			}
			first, err := encode(v)
			if err != nil {
				t.Fatalf("%q was read as %+v, which cannot be written: %v", b, v, err)
			}
			if err := decode(first, again); err != nil {
				t.Fatalf("%q is written as %q, which is not read: %v", b, first, err)
			}
			if second, err := encode(again); err != nil || !bytes.Equal(first, second) {
				t.Fatalf("%q is written as %q, and then as %q: %v", b, first, second, err)
			}
		}
	})
}

// FuzzEntry puts any key and value into a journal, as a damaged disk or a program
// unknown to us could have: whoever reads the journal is told, and does not panic.
func FuzzEntry(f *testing.F) {
	row, _ := encode(&Row{Seq: 3, Kind: Put, Content: 1})
	for _, space := range "rdsbnupqxcatz" {
		f.Add([]byte{byte(space)}, []byte{})
		f.Add(append([]byte{byte(space)}, "12345678r/key\x00x"...), row)
	}
	j, err := Open(context.Background(), f.TempDir(), Options{Contents: &synced{map[uint64]int{}}, BootID: "b", Step: time.Hour})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { j.Abandon() })
	f.Fuzz(func(t *testing.T, key, value []byte) {
		if len(key) == 0 || len(key) > 1000 || bytes.HasPrefix(key, []byte("!badger!")) {
			return
		}
		last, err := j.newest()
		if err != nil {
			t.Fatal(err)
		}
		tx := j.begin(last, true)
		tx.seq = last + 1
		defer tx.discard()
		if err := tx.db().Set(key, value); err != nil {
			t.Fatal(err)
		}
		readAll(tx, string(key[1:]))
	})
}

// readAll asks tx for everything in every way, and for key.
func readAll(tx *Tx, key string) {
	for range tx.Rows("", "") {
	}
	for range tx.Children("", "") {
	}
	for range tx.Stuck() {
	}
	for range tx.Due(0, "", 1<<62) {
	}
	_, _ = tx.NextDue(0)
	for range tx.BasedOn(key) {
	}
	for range tx.AnyBased() {
	}
	if len(key) >= 8 {
		tx.Named(binary.BigEndian.Uint64([]byte(key)))
		_, _ = tx.Parts(binary.BigEndian.Uint64([]byte(key)))
	}
	tx.MaxContent()
	for range tx.Uploads() {
	}
	for range tx.Doubts() {
	}
	for range tx.Debts() {
	}
	for range tx.Cleans() {
	}
	for range tx.AttrsIn("") {
	}
	_ = tx.EachTime("", func(string, int64) error { return nil })
	if key == "" {
		return
	}
	_, _ = tx.Row(key)
	_, _ = tx.Upload(key)
	_, _ = tx.Doubt(key)
	_, _ = tx.Clean(key)
	_, _ = tx.Attrs(key)
	_, _ = tx.Time(key)
	_ = tx.DropUpload(key)
	_ = tx.DropClean(key)
	_ = tx.DropRow(key)
	_ = tx.DropTime(key)
	_ = tx.check()
	_ = tx.dropMarks()
}

// FuzzHorizon reads a horizon file; seal makes the checksums right, behind which
// anything may stand.
func FuzzHorizon(f *testing.F) {
	f.Add([]byte(`{"format":1,"gen":2,"horizon":5,"boot":"b","cache":"c"}`), []byte(`{"format":1,"gen":1}`), true)
	f.Add([]byte(`{"format":2}`), []byte{}, true)
	f.Add([]byte(`{`), []byte(`{"gen":18446744073709551615}`), true)
	f.Add([]byte(`{"format":1,"gen":2}`), []byte(`{"format":11}`), true) // of which the half knows nothing
	f.Add([]byte{}, []byte{}, false)
	f.Fuzz(func(t *testing.T, a, b []byte, seal bool) {
		if len(a) > slotSize-8 || len(b) > slotSize-8 {
			return
		}
		file := make([]byte, 2*slotSize)
		for i, text := range [][]byte{a, b} {
			raw := file[i*slotSize:][:slotSize]
			binary.LittleEndian.PutUint32(raw[4:], uint32(len(text)))
			copy(raw[8:], text)
			if seal {
				binary.LittleEndian.PutUint32(raw, crc32.Checksum(raw[4:8+len(text)], castagnoli))
			} else {
				copy(raw, text) // length and checksum are anything too
			}
		}
		s, ok, err := parseSlots(file, "horizon")
		if err == nil && ok && (s.Format < 1 || s.Format > horizonFormat) {
			t.Errorf("a slot of format %d was taken: %+v", s.Format, s)
		}
		if err != nil {
			return // what a newer program has written is not read
		}
		if half, _, err := parseSlots(file[:len(file)/2+17], "horizon"); err == nil && half.Gen > s.Gen {
			t.Errorf("half of a file says more than the whole: %+v %+v", half, s)
		}
	})
}
