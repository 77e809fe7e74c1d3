package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ossmount/ossmount/internal/codec"
	"github.com/ossmount/ossmount/internal/codec/alike"
	"github.com/ossmount/ossmount/internal/extent"
	"github.com/ossmount/ossmount/internal/object"
)

// kinds are the values that are written and read by hand.
var kinds = []func() codec.Record{
	func() codec.Record { return &Row{} }, func() codec.Record { return &Attrs{} }, func() codec.Record { return &Clean{} },
	func() codec.Record { return &whole{} },
}

// readAlike fails if b is read without encoding/json, and means something else to
// it, or if decode does not do what encoding/json does.
func readAlike(t *testing.T, b []byte, kind func() codec.Record) (taken bool) {
	t.Helper()
	theirs, both := kind(), kind()
	err := json.Unmarshal(b, theirs)
	if berr := decode(append([]byte{codecVersion}, b...), both); (berr == nil) != (err == nil) || !reflect.DeepEqual(both, theirs) {
		t.Errorf("%q is decoded as\n%#v, %v, by encoding/json as\n%#v, %v", b, both, berr, theirs, err)
	}
	return alike.Read(t, b, kind)
}

// usual are values as the product writes them, and what little differs from them.
func usual() map[string]codec.Record {
	ref := object.Ref{Key: "dir/a.txt", ETag: "5B3C1A2E053D763E1B002CC607C5A0FE", Size: 344606, CRC64: 1<<64 - 1, HasCRC: true}
	attr := object.Attr{Mode: object.TypeFile | 0o644, UID: 1000, GID: 1000, Mtime: 1795239208667093293}
	headers := object.Headers{"Content-Type": "text/plain; charset=utf-8", object.HeaderClass: "IA", object.HeaderTags: "2"}
	meta := object.Meta{"author": "somebody", "": "", "b": "1", "a": "2"}
	return map[string]codec.Record{
		"a new file":               &Row{Seq: 3, Kind: Put, Content: 1, Size: 6, Attr: attr, Known: true, SignSize: 6, SignMtime: 1, Closed: 1, Due: 2},
		"a changed file":           changedRow(),
		"a removed file":           &Row{Seq: 4, Kind: Delete, Expected: ref, Known: true, Due: 5},
		"a link":                   &Row{Seq: 5, Kind: Put, Text: "../a.txt", Attr: object.Attr{Mode: object.TypeLink | 0o777, Mtime: -5}},
		"a directory":              &Row{Seq: 6, Kind: Put, Attr: object.Attr{Mode: object.TypeDir | 0o755, Mtime: 1}, Unlearnt: true},
		"a device":                 &Row{Seq: 7, Kind: Put, Attr: object.Attr{Mode: 0o060644, Rdev: 2049, Ctime: 5, Atime: 6}},
		"a hole":                   &Row{Seq: 8, Kind: Put, Base: ref, Size: 7, Headers: headers, Meta: meta},
		"a content with holes":     &Row{Seq: 9, Kind: Put, Base: ref, Content: 7, Dirty: extent.Set{{Off: 5, End: 9}, {Off: 1 << 40, End: 1 << 41}}, Tags: []string{"a.1", "b.2"}},
		"a content made of a base": &Row{Seq: 9, Kind: Put, Base: ref, Content: 7, Dirty: extent.Of(0, 1), Whole: true, Unseen: true, Open: true, Vouched: 4},
		"what is stuck":            &Row{Seq: 9, Kind: Put, Content: 7, Interrupted: true, Rebuilt: "tag", Parked: `PutObject "a/b": AccessDenied: <denied> & more`},
		"a key of other letters":   &Row{Seq: 9, Kind: Put, Base: object.Ref{Key: "文档/ü 😀\u2027.txt", ETag: "E"}},
		"a key with signs":         &Row{Seq: 9, Kind: Put, Base: object.Ref{Key: "a\"b\\c<d>&e\u2028f\x00g\th\u007f", ETag: "E"}},
		"a key that is no text":    &Row{Seq: 9, Kind: Put, Base: object.Ref{Key: "a\xff\xc0\xafb", ETag: "E"}},
		"what is being sent":       &Row{Seq: 10, Kind: Put, Content: 7, Note: &Note{Tag: "7b0764317451782c.10", Lost: 5}},
		"what was answered":        &Row{Seq: 10, Kind: Put, Content: 7, Note: &Note{Tag: "t", Answered: true, Published: ref, Begun: &Begun{attr, meta, headers}}},
		"a note of nothing":        &Row{Seq: 10, Kind: Put, Note: &Note{Begun: &Begun{}}},
		"the greatest numbers":     &Row{Seq: math.MaxUint64, Kind: 255, Size: math.MaxInt64, SignSize: math.MinInt64, Due: -1, Attr: object.Attr{UID: math.MaxUint32}},
		"nothing":                  &Row{},
		"a base without an ETag":   &Row{Base: object.Ref{Key: "k", Size: 5}},
		"nothing in maps":          &Row{Headers: object.Headers{}, Meta: object.Meta{}, Tags: []string{}, Dirty: extent.Set{}},
		"many names":               &Attrs{Meta: manyNames(100)},
		"what was learnt":          &Attrs{Ref: ref, LastModified: time.Unix(1795239208, 0).UTC(), Meta: meta, Headers: headers, Type: "Normal", Class: "Standard", Settled: 7},
		"what a listing learns":    &Attrs{Ref: ref, LastModified: time.Unix(1795239208, 5).In(time.FixedZone("", 8*3600)), Ctime: 5, Atime: 6, Racy: true},
		"what a link stands for":   &Attrs{Ref: ref, Type: object.TypeSymlink, Link: "a/b"},
		"a clean copy":             &Clean{Content: 7, Ref: ref, Used: 1795239208},
		"a clean copy of nothing":  &Clean{},
		"a sum":                    &whole{Sum: 1<<63 + 5, Keys: 4, Boot: "a3e7fdd3-a230-4ddf-86e2-8854f8dd7433", Cache: "7b0764317451782c"},
		"a new sum":                &whole{New: true},
	}
}

func manyNames(n int) object.Meta {
	m := object.Meta{}
	for i := range n {
		m[fmt.Sprint("name", i*7919%1000)] = fmt.Sprint(i)
	}
	return m
}

// What the product writes is written and read without encoding/json.
func TestUsualValuesAreNotOdd(t *testing.T) {
	for name, v := range usual() {
		b := alike.Written(t, v)
		if b == nil {
			t.Errorf("%s: %+v is odd", name, v)
			continue
		}
		if !readAlike(t, b, alike.Like(v)) {
			t.Errorf("%s: %s is odd", name, b)
		}
	}
}

// Whoever gives a struct another field names it in fields.go, too; each is written by
// the rule of its tag.
func TestEachFieldIsKnown(t *testing.T) {
	for _, kind := range kinds {
		alike.Fields(t, kind)
	}
}

// Whichever value it is, the database holds what encoding/json writes, and all of it.
func TestAllValuesAreStoredAsJSON(t *testing.T) {
	for _, kind := range []func() any{
		func() any { return &Row{} }, func() any { return &Upload{} }, func() any { return &Part{} }, func() any { return &Doubt{} },
		func() any { return &Debt{} }, func() any { return &Clean{} }, func() any { return &Attrs{} }, func() any { return new(int64) }, func() any { return &whole{} },
	} {
		v, got := kind(), kind()
		alike.Fill(reflect.ValueOf(v).Elem())
		want, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		b, err := encode(v)
		if err != nil || string(b[1:]) != string(want) {
			t.Errorf("%T is encoded as %s, %v, by encoding/json as %s", v, b, err, want)
		}
		theirs := kind()
		if err := errors.Join(decode(b, got), json.Unmarshal(want, theirs)); err != nil || !reflect.DeepEqual(got, theirs) {
			t.Errorf("%T is decoded as %+v, %v, by encoding/json as %+v", v, got, err, theirs)
		}
	}
	for _, odd := range []string{"01", "+1", "1.0", "1e3", "", " 1", "9223372036854775808", "null", "-0"} {
		ours, theirs := int64(0), int64(0)
		err, jerr := decode([]byte("\x01"+odd), &ours), json.Unmarshal([]byte(odd), &theirs)
		if (err == nil) != (jerr == nil) || ours != theirs {
			t.Errorf("%q is decoded as %d, %v, by encoding/json as %d, %v", odd, ours, err, theirs, jerr)
		}
	}
}

func TestTimesThatHaveNoTextAreLeftToEncodingJSON(t *testing.T) {
	a := &Attrs{LastModified: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}
	if b := alike.Written(t, a); b != nil {
		t.Errorf("%+v is written as %s", a, b)
	}
	if b, err := encode(a); err == nil {
		t.Errorf("%+v is encoded as %s", a, b)
	}
}

// oddities are what may stand in a row, and encoding/json has to judge.
var oddities = map[string]string{
	"nothing at all":                 ``,
	"no object":                      `[]`,
	"null":                           `null`,
	"half an object":                 `{`,
	"no end":                         `{"s":1`,
	"an end too many":                `{"s":1}}`,
	"something behind it":            `{"s":1} `,
	"a blank":                        `{ "s":1}`,
	"a blank before a value":         `{"s": 1}`,
	"a line feed":                    "{\"s\":1\n}",
	"a comma too many":               `{"s":1,}`,
	"a comma too many at first":      `{,"s":1}`,
	"two commas":                     `{"s":1,,"k":1}`,
	"no comma":                       `{"s":1"k":1}`,
	"no colon":                       `{"s"1}`,
	"no value":                       `{"s":}`,
	"another order":                  `{"k":1,"s":1}`,
	"a name that comes twice":        `{"s":1,"s":2}`,
	"a name in capitals":             `{"S":1}`,
	"a name that is escaped":         `{"\u0073":1}`,
	"a name that nobody knows":       `{"s":1,"new":true}`,
	"the key, which is not stored":   `{"Key":"k"}`,
	"a value that is null":           `{"s":null}`,
	"a map that is null":             `{"h":null}`,
	"a note that is null":            `{"n":null}`,
	"a number in quotes":             `{"s":"1"}`,
	"a fraction":                     `{"s":1.0}`,
	"an exponent":                    `{"s":1e2}`,
	"a sign before a number":         `{"s":-1}`,
	"a plus":                         `{"s":+1}`,
	"no digits":                      `{"d":-}`,
	"a zero before a number":         `{"s":01}`,
	"a zero before a number below 0": `{"d":-01}`,
	"two zeros":                      `{"s":00}`,
	"beyond all kinds":               `{"k":256}`,
	"beyond 2^32":                    `{"a":{"m":4294967296}}`,
	"beyond 2^63":                    `{"d":9223372036854775808}`,
	"below -2^63":                    `{"d":-9223372036854775809}`,
	"beyond 2^64":                    `{"s":18446744073709551616}`,
	"beyond 2^64 by a digit":         `{"s":184467440737095516150}`,
	"2^64 twice":                     `{"s":36893488147419103232}`,
	"neither true nor false":         `{"wh":tru}`,
	"true in capitals":               `{"wh":True}`,
	"true, and more":                 `{"wh":truee}`,
	"a 1 for true":                   `{"wh":1}`,
	"a text without an end":          `{"x":"a`,
	"a text without quotes":          `{"x":a}`,
	"a line feed in a text":          "{\"x\":\"a\nb\"}",
	"no text":                        "{\"x\":\"a\xff\"}",
	"half a letter":                  "{\"x\":\"\xe6\x96\"}",
	"a sign that is not escaped":     `{"x":"<"}`,
	"a separator of lines":           "{\"x\":\"\u2028\"}",
	"an escape of nothing":           `{"x":"\q"}`,
	"half an escape":                 `{"x":"\u12"}`,
	"an escape at the end":           `{"x":"a\"}`,
	"an escape of an end":            `{"x":"\`,
	"a list without an end":          `{"bt":["a"`,
	"a list of numbers":              `{"bt":[1]}`,
	"a list with a comma too many":   `{"bt":["a",]}`,
	"a list with a comma at first":   `{"bt":[,"a"]}`,
	"a list without commas":          `{"bt":["a""b"]}`,
	"a map without commas":           `{"h":{"a":"b""c":"d"}}`,
	"no truth":                       `{"wh":}`,
	"no truth, and more":             `{"wh":,"z":1}`,
	"a sign before no number":        `{"s":-0}`,
	"a list in a list":               `{"bt":[["a"]]}`,
	"a list in another's brackets":   `{"bt":["a"}}`,
	"a map of numbers":               `{"h":{"a":1}}`,
	"a map without texts":            `{"h":{"a"}}`,
	"a map with a comma too many":    `{"h":{"a":"b",}}`,
	"ranges that are none":           `{"w":"!"}`,
	"ranges that touch":              `{"w":"AAEAAQ"}`,
	"ranges with an escape":          `{"w":"Cg\u006f"}`,
	"half of a range":                `{"w":"Cg"}`,
	"a value of another kind":        `{"b":[],"n":{"t":5}}`,
	"half-filled, then nothing":      `{"s":5,"b":{"Key":"k"},"h":{"a":"b"},"n":{"t":"x","at":{"a":{"m":5}`,
}

// plainly are values that encoding/json would not write so, and that are read.
var plainly = map[string]string{
	"nothing":                     `{}`,
	"zeros":                       `{"s":0,"k":0,"c":0,"x":"","wh":false,"d":-0}`,
	"empty ones":                  `{"b":{},"w":"","bt":[],"a":{},"h":{},"m":{},"e":{},"n":{"at":{}}}`,
	"a text of escapes":           `{"x":"\"\\\/\b\f\n\r\t\u0041\ud83d\ude00\ud83d"}`,
	"a map's name that is twice":  `{"h":{"b":"1","a":"2","b":"3"}}`,
	"a map in another order":      `{"m":{"b":"1","a":"2"}}`,
	"an object's field alone":     `{"b":{"ETag":"E"},"a":{"t":5}}`,
	"a text of a separator":       `{"x":"\u2028\u2029\u003c\u003e\u0026"}`,
	"a text of a letter beyond 0": "{\"x\":\"\u007fü\"}",
}

func TestOddValuesAreLeftToEncodingJSON(t *testing.T) {
	row := func() codec.Record { return &Row{} }
	for name, text := range oddities {
		if readAlike(t, []byte(text), row) {
			t.Errorf("%s: %s is not odd", name, text)
		}
	}
	for name, text := range plainly {
		if !readAlike(t, []byte(text), row) {
			t.Errorf("%s: %s is odd", name, text)
		}
	}
	attrs := func() codec.Record { return &Attrs{} }
	for name, text := range map[string]string{
		"a time with a blank":       `{"l":"2024-05-06 07:08:09Z"}`,
		"a time of no zone":         `{"l":"2024-05-06T07:08:09"}`,
		"a time beyond the day":     `{"l":"2024-05-06T25:08:09Z"}`,
		"a time with an escape":     `{"l":"2024-05-06T07:08:09\u005a"}`,
		"a time that is null":       `{"l":null}`,
		"a time that is the text":   `{"l":"null"}`,
		"a time that is empty":      `{"l":""}`,
		"a time that does not end":  `{"l":"2024-05-06T07:08:09Z`,
		"a number where time stood": `{"l":5}`,
	} {
		if readAlike(t, []byte(text), attrs) {
			t.Errorf("%s: %s is not odd", name, text)
		}
	}
}

// A value that was cut short is none, wherever the cut is.
func TestHalfAValueIsOdd(t *testing.T) {
	for _, v := range usual() {
		alike.Halves(t, v)
	}
}

// soup makes something like a value of pieces, as the bytes of recipe say.
func soup(recipe []byte) []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, n := range recipe {
		if i > 0 && n%16 != 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"%s":%s`, soupNames[int(n)%len(soupNames)], soupValues[int(n)*7%256%len(soupValues)])
	}
	b.WriteByte('}')
	return b.Bytes()
}

var (
	soupNames  = strings.Split("s k c b x w wh bt z a ul cr hc h m e ek gz gt us o v i rb p t d n l r at ct u n id new y S", " ")
	soupValues = []string{
		`1`, `0`, `-1`, `18446744073709551615`, `300`, `true`, `false`, `""`, `"Cgo"`, `"text"`, `"\u003c"`, `"\n"`, `[]`, `["a","b"]`,
		`{}`, `{"a":"b","c":"d"}`, `{"Key":"k","ETag":"E","Size":5}`, `{"m":5,"t":6}`, `{"t":"x","at":{"a":{"m":5}}}`, `null`, `1.5`,
		`"2024-05-06T07:08:09Z"`, `"2024-05-06T07:08:09.5+08:00"`, `"\ud800"`, "\"\xff\"", `"ü"`,
	}
)

// Values put together by chance are read as encoding/json reads them.
func TestSoupIsReadAlike(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	taken := 0
	for range 20000 {
		recipe := make([]byte, r.IntN(5))
		for i := range recipe {
			recipe[i] = byte(r.Uint32())
		}
		for _, kind := range kinds {
			if readAlike(t, soup(recipe), kind) {
				taken++
			}
		}
	}
	if taken < 1000 {
		t.Errorf("only %d were taken", taken)
	}
}

// FuzzCodec reads anything as each kind of value: what is read without encoding/json is
// what encoding/json reads. Written, it is what encoding/json writes, and read again.
func FuzzCodec(f *testing.F) {
	for _, v := range usual() {
		b, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, texts := range []map[string]string{oddities, plainly} {
		for _, text := range texts {
			f.Add([]byte(text))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, kind := range kinds {
			readAlike(t, data, kind)
			readAlike(t, soup(data), kind)
			v := kind()
			if json.Unmarshal(data, v) != nil {
				continue
			}
			if b := alike.Written(t, v); b != nil && !readAlike(t, b, kind) {
				t.Errorf("%s is written and not read", b)
			}
		}
	})
}

// FuzzTexts writes texts that need not be any, at each place where one may stand.
func FuzzTexts(f *testing.F) {
	f.Add("a", "b", int64(5), uint64(7))
	f.Add("<\u2028>", "\xff\"\\", int64(-5), uint64(math.MaxUint64))
	f.Add("文档\ufffd", "\x00\x1f\x7f", int64(math.MinInt64), uint64(0))
	f.Fuzz(func(t *testing.T, s, o string, i int64, u uint64) {
		ref := object.Ref{Key: s, ETag: o, Size: i, CRC64: u, HasCRC: i > 0}
		attr := object.Attr{Mode: uint32(u), UID: uint32(i), Mtime: i, Ctime: int64(u)}
		meta := object.Meta{s: o, o: s, s + o: "", "": s + o}
		headers := object.Headers(meta)
		for _, v := range []codec.Record{
			&Row{Seq: u, Kind: Kind(u), Base: ref, Text: s, Tags: []string{s, o, ""}, Dirty: extent.Of(0, max(i, 1)), Size: i, Attr: attr, Headers: headers, Meta: meta,
				Rebuilt: o, Parked: s, Due: i, Note: &Note{Tag: s, Lost: i, Published: ref, Begun: &Begun{attr, meta, headers}}},
			&Attrs{Ref: ref, LastModified: time.Unix(i, int64(u%1e9)), Meta: meta, Headers: headers, Type: s, Class: o, Link: s + o},
			&Clean{Content: u, Ref: ref, Used: i}, &whole{Sum: u, Keys: i, Boot: s, Cache: o},
		} {
			if b := alike.Written(t, v); b == nil {
				if a, ok := v.(*Attrs); !ok || a.LastModified.Year() < 10000 && a.LastModified.Year() >= 0 {
					t.Errorf("%+v is odd", v)
				}
			} else if !readAlike(t, b, alike.Like(v)) {
				t.Errorf("%s is written and not read", b)
			}
		}
	})
}

// What a row costs to be written and read, by hand and by encoding/json.
func BenchmarkEncodeRow(b *testing.B) {
	r := changedRow()
	b.Run("ours", func(b *testing.B) { benchmark(b, func() error { _, err := encode(r); return err }) })
	b.Run("encoding-json", func(b *testing.B) { benchmark(b, func() error { _, err := json.Marshal(r); return err }) })
}

func BenchmarkDecodeRow(b *testing.B) {
	v, err := encode(changedRow())
	if err != nil {
		b.Fatal(err)
	}
	b.Run("ours", func(b *testing.B) { benchmark(b, func() error { return decode(v, &Row{}) }) })
	b.Run("encoding-json", func(b *testing.B) { benchmark(b, func() error { return json.Unmarshal(v[1:], &Row{}) }) })
}

func benchmark(b *testing.B, f func() error) {
	b.ReportAllocs()
	for b.Loop() {
		if err := f(); err != nil {
			b.Fatal(err)
		}
	}
}
